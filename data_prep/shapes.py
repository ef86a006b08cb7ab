"""Finds the two columns of texts in a file, and refuses files of known shapes that have no such columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

TextColumns = tuple[str, str]
"""The names of the columns with the dialogue and the summary."""

_SHOWN_COLUMNS = 20

_NAME_BYTES = 40
"""Bytes of the longest column name that is shown: 40 English letters, or 13 Chinese characters."""

_NAME = re.compile(r"(?!.*: )[@#$]?[^\W\d]\w*(?:[ ._/:#-]{1,2}\w+){0,3}(?: ?[(\[][\w .%-]{1,20}[)\]])?")
"""The form of a column's name. A text with a colon before a blank is somebody's words: "Ann: see you"."""

ALPACA = {"instruction", "input", "output"}

WITHOUT_INPUT = {"dialogue is empty", "dialogue is blank", "dialogue is null"}
"""The reasons that Alpaca rows without an input get if the input is mapped to the dialogue."""

_TURNS = ({"role", "content"}, {"from", "value"}, {"role", "parts"})
"""Keys of a turn: in messages of OpenAI and trl, in conversations of ShareGPT, and in contents of Gemini."""

_NEEDED = (
    "the rows need two columns of text: write the model's input into one and its answer into the other, and name them "
    "in dataset.fields"
)


def index(header: list[str], name: str, fields: TextColumns) -> tuple[int, int]:
    """Return the places of the two columns in the header of the file `name`.

    Raises:
        Refused: a column is missing or there more than once, or the two leave out a part of the model's input.
    """
    for field in fields:
        if field not in header:
            no_column(name, field, header)
        if header.count(field) > 1:
            raise Refused(f"dataset.fields: {quoted(name)} has the column {quoted(field)} more than once; rename one")
    refuse_half_a_prompt(name, header, fields)
    return header.index(fields[0]), header.index(fields[1])


def no_column(name: str, field: str, columns: Iterable[str], more: str = "") -> NoReturn:
    """Refuse a file without the mapped column. Its columns are shown only if all of them read like names."""
    names = list(columns)
    begin = f"dataset.fields: {quoted(name)} has no column {quoted(field)}"
    if set(names) >= ALPACA:
        raise Refused(f"{begin}, but Alpaca rows (instruction, input, output); {_NEEDED}")
    if not all(map(_reads_like_a_name, names)):
        count = f"{len(names)} column{'s' * (len(names) != 1)}"
        raise Refused(
            f"{begin}; it has {count}, and seems to have no header: the first line reads like data; write a line with names "
            f"above the rows, and name two of them in dataset.fields{more}"
        )
    shown = ", ".join(map(quoted, names[:_SHOWN_COLUMNS])) or "none"
    rest = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    raise Refused(f"{begin}; it has {shown}{rest}; name two of them in dataset.fields{more}")


def _reads_like_a_name(column: str) -> bool:
    text = column.strip().strip('"\ufeff').strip()
    return not text or (len(text.encode("utf-8", "replace")) <= _NAME_BYTES and bool(_NAME.fullmatch(text)))


def shown_keys(keys: Collection[str]) -> str:
    """Return the keys of an object as text, or their number if they do not read like names."""
    if len(keys) > _SHOWN_COLUMNS or not all(map(_reads_like_a_name, keys)):
        return "1 key" if len(keys) == 1 else f"{len(keys)} keys"
    return f"the keys {', '.join(map(quoted, keys))}"


def refuse_half_a_prompt(name: str, columns: Collection[str], fields: TextColumns) -> None:
    """Refuse Alpaca rows if only the instruction is mapped: their input, which belongs to it, would be left out."""
    if fields[0] == "instruction" and ALPACA.issubset(columns):
        raise Refused(
            f"dataset.fields: {quoted(name)} has Alpaca rows (instruction, input, output), and the column 'instruction' alone "
            "leaves out the input; write both into one column, and name it in dataset.fields, or remove an input that is "
            "always empty"
        )


def refuse_chat(name: str, row: object, fields: TextColumns) -> None:
    """Refuse a file whose first row is a list of turns, or has its texts in such a list."""
    if isinstance(row, list) and row and isinstance(row[0], dict):
        refuse_turns(name, None, row[0])
    if not isinstance(row, dict):
        return
    mapped = [field for field in fields if field in row]
    for column in mapped if len(mapped) == len(fields) else row:
        turns = row[column]
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            refuse_turns(name, column, turns[0])


def refuse_turns(name: str, column: str | None, keys: Collection[str]) -> None:
    """Refuse the file if `keys` are the keys of a turn.

    Args:
        name: the file.
        column: the column that holds the list of turns. None if each row is such a list.
        keys: the keys of an element of the list.
    """
    for turn in _TURNS:
        if turn.issubset(keys):
            where = "each"
            if column is not None:
                where = f"the column {quoted(column)}" if _reads_like_a_name(column) else "one column"
            raise Refused(
                f"dataset.fields: {quoted(name)} has chat rows, {where} being a list of turns with "
                f"{' and '.join(sorted(turn))}; {_NEEDED}"
            )
