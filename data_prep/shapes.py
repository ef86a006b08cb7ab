"""What a file's columns tell of the rows: which two hold the texts, or which known shape it is that has no such two."""

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
"""The longest name that is shown: 40 letters of English, 13 of Chinese."""
_NAME = re.compile(r"(?!.*: )[@#$]?[^\W\d]\w*(?:[ ._/:#-]{1,2}\w+){0,3}(?: ?[(\[][\w .%-]{1,20}[)\]])?")
"""What a column is called. A colon before a blank is what somebody says: "Ann: see you"."""
ALPACA = {"instruction", "input", "output"}
WITHOUT_INPUT = {"dialogue is empty", "dialogue is blank", "dialogue is null"}
"""Reasons of Alpaca rows without an input, where that is mapped."""
_TURNS = ({"role", "content"}, {"from", "value"}, {"role", "parts"})
"""Keys of a turn: OpenAI's and trl's messages, ShareGPT's conversations, Gemini's contents."""
_WANTED = (
    "wanted are two columns of text: write what the model is asked into one and its answer into the other, and name them "
    "in dataset.fields"
)


def index(header: list[str], name: str, fields: TextColumns) -> tuple[int, int]:
    """The places of the two columns in the file `name`.

    Raises:
        Refused: one is not there, or more than once; or they leave out a part of what the model is asked.
    """
    for field in fields:
        if field not in header:
            no_column(name, field, header)
        if header.count(field) > 1:
            raise Refused(f"dataset.fields: {quoted(name)} has the column {quoted(field)} more than once; rename one")
    refuse_half_a_prompt(name, header, fields)
    return header.index(fields[0]), header.index(fields[1])


def no_column(name: str, field: str, there: Iterable[str], more: str = "") -> NoReturn:
    """Refuse a file without the mapped column. What it has instead is shown only if all of it reads like names."""
    names = list(there)
    begin = f"dataset.fields: {quoted(name)} has no column {quoted(field)}"
    if set(names) >= ALPACA:
        raise Refused(f"{begin}, but Alpaca rows (instruction, input, output); {_WANTED}")
    if not all(map(_reads_like_a_name, names)):
        count = f"{len(names)} column{'s' * (len(names) != 1)}"
        raise Refused(
            f"{begin}; it has {count} and no header? What stands there reads like data; write a line with names above the "
            f"rows, and name two of them in dataset.fields{more}"
        )
    shown = ", ".join(map(quoted, names[:_SHOWN_COLUMNS])) or "none"
    rest = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    raise Refused(f"{begin}; it has {shown}{rest}; name two of them in dataset.fields{more}")


def _reads_like_a_name(column: str) -> bool:
    text = column.strip().strip('"\ufeff').strip()
    return not text or (len(text.encode("utf-8", "replace")) <= _NAME_BYTES and bool(_NAME.fullmatch(text)))


def shown_keys(keys: Collection[str]) -> str:
    """The keys of an object, or how many they are if they do not read like names."""
    if len(keys) > _SHOWN_COLUMNS or not all(map(_reads_like_a_name, keys)):
        return f"{len(keys)} keys"
    return f"the keys {', '.join(map(quoted, keys))}"


def refuse_half_a_prompt(name: str, columns: Collection[str], fields: TextColumns) -> None:
    """Refuse Alpaca rows of which only the instruction is mapped: the input, which belongs to it, would be left out."""
    if fields[0] == "instruction" and ALPACA.issubset(columns):
        raise Refused(
            f"dataset.fields: {quoted(name)} has Alpaca rows (instruction, input, output), and the column 'instruction' alone "
            "leaves out the input; write both into one column, and name it in dataset.fields, or remove an input that is "
            "always empty"
        )


def refuse_chat(name: str, row: object, fields: TextColumns) -> None:
    """Refuse a file whose first row has its texts in a list of turns, or is such a list."""
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
    """Refuse the file if these are the keys of a turn, and `column`, or each row where it is None, therefore a chat."""
    for turn in _TURNS:
        if turn.issubset(keys):
            where = "each"
            if column is not None:
                where = f"the column {quoted(column)}" if _reads_like_a_name(column) else "one column"
            raise Refused(
                f"dataset.fields: {quoted(name)} has chat rows, {where} being a list of turns with "
                f"{' and '.join(sorted(turn))}; {_WANTED}"
            )
