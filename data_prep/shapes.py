"""Finds the columns of a format in a file, and refuses files of known shapes that have no such columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from data_prep.row_formats import RowFormat, RowFormats
    from pipeline.contracts.data import Fields

_SHOWN_COLUMNS = 20

_NAME_BYTES = 40
"""Bytes of the longest column name that is shown: 40 English letters, or 13 Chinese characters."""

_NAME = re.compile(r"(?!.*: )[@#$]?[^\W\d]\w*(?:[ ._/:#-]{1,2}\w+){0,3}(?: ?[(\[][\w .%-]{1,20}[)\]])?")
"""The form of a column's name. A text with a colon before a blank is somebody's words: "Ann: see you"."""

ALPACA = {"instruction", "input", "output"}

_OTHER_ROLES = {"role 'human'", "role 'gpt'", "role 'user'", "role 'assistant'"}
"""The reasons that messages get in the format sharegpt, and its turns as messages."""

WITHOUT_INPUT = {"dialogue is empty", "dialogue is blank", "dialogue is null"}
"""The reasons that Alpaca rows without an input get if the input is mapped to the dialogue."""

_TURNS = (
    ({"role", "content"}, "set dataset.format: messages and dataset.fields.messages to the column's name"),
    ({"from", "value"}, "set dataset.format: sharegpt and dataset.fields.conversations to the column's name"),
    ({"role", "parts"}, "write each turn as an object with role and content, and set dataset.format: messages"),
)
"""Keys of a turn with the remedy: in messages of OpenAI and trl, in conversations of ShareGPT, and in contents of Gemini."""


def index(header: list[str], name: str, row_format: RowFormat) -> list[int]:
    """Return the places of a format's columns in the header of the file `name`, in the order of `RowFormat.row`.

    Raises:
        Refused: a column is missing or there more than once, or the columns leave out a part of the model's input.
    """
    found = [*row_format.columns, *(field for field in row_format.optional if field in header)]
    for field in found:
        if field not in header:
            no_column(name, field, header, row_format)
        if header.count(field) > 1:
            raise Refused(f"dataset.fields: {quoted(name)} has the column {quoted(field)} more than once; rename one")
    refuse_half_a_prompt(name, header, row_format)
    return [header.index(field) for field in found]


def no_column(name: str, field: str, columns: Iterable[str], row_format: RowFormat, more: str = "") -> NoReturn:
    """Refuse a file without a column of its format. Its columns are shown only if all of them read like names."""
    names = list(columns)
    setting = row_format.settings[row_format.columns.index(field)]
    by_template = setting == "dataset.prompt"
    begin = f"dataset.fields: {quoted(name)} has no column {quoted(field)}"
    if set(names) >= ALPACA and not by_template:
        raise Refused(
            f"{begin}, but Alpaca rows (instruction, input, output); set dataset.format: instruction, and leave "
            "dataset.fields as it is"
        )
    if not all(map(_reads_like_a_name, names)):
        count = f"{len(names)} column{'s' * (len(names) != 1)}"
        raise Refused(
            f"{begin}; it has {count}, and seems to have no header: the first line reads like data; write a line with names "
            f"above the rows, and name two of them in dataset.fields{more}"
        )
    shown = ", ".join(map(quoted, names[:_SHOWN_COLUMNS])) or "none"
    rest = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    if by_template:
        raise Refused(
            f"dataset.prompt: {quoted(name)} has no column {quoted(field)}; it has {shown}{rest}; write the names of its "
            f"columns in the braces{more}"
        )
    remedy = "name two of them in dataset.fields" if row_format.is_pair else f"set {setting} to one of them"
    raise Refused(
        f"{begin}; it has {shown}{rest}; {remedy}{more}, or set dataset.format to the format of its rows"
        + (" and dataset.prompt to null" if "dataset.prompt" in row_format.settings else "")
    )


def _reads_like_a_name(column: str) -> bool:
    text = column.strip().strip('"\ufeff').strip()
    return not text or (len(text.encode("utf-8", "replace")) <= _NAME_BYTES and bool(_NAME.fullmatch(text)))


def shown_keys(keys: Collection[str]) -> str:
    """Return the keys of an object as text, or their number if they do not read like names."""
    if len(keys) > _SHOWN_COLUMNS or not all(map(_reads_like_a_name, keys)):
        return "1 key" if len(keys) == 1 else f"{len(keys)} keys"
    return f"the keys {', '.join(map(quoted, keys))}"


def refuse_half_a_prompt(name: str, columns: Collection[str], row_format: RowFormat) -> None:
    """Refuse Alpaca rows if only the instruction is mapped: their input, which belongs to it, would be left out."""
    if row_format.is_pair and row_format.columns[0] == "instruction" and ALPACA.issubset(columns):
        raise Refused(
            f"dataset.fields: {quoted(name)} has Alpaca rows (instruction, input, output), and the column 'instruction' alone "
            "leaves out the input; set dataset.format: instruction"
        )


def refuse_chat(name: str, row: object, row_format: RowFormat) -> None:
    """Refuse a file whose first row is a list of turns, or whose format has texts where the row has such a list."""
    if isinstance(row, list) and row and isinstance(row[0], dict):
        refuse_turns(name, None, row[0])
    if not isinstance(row, dict) or row_format.name != "columns":
        return
    mapped = [field for field in row_format.columns if field in row]
    for column in mapped if len(mapped) == len(row_format.columns) else row:
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
    for turn, remedy in _TURNS:
        if turn.issubset(keys):
            where = "each"
            if column is None:
                remedy = 'write each row as {"messages": [...]}'  # noqa: PLW2901
            else:
                where = f"the column {quoted(column)}" if _reads_like_a_name(column) else "one column"
            raise Refused(
                f"dataset.format: {quoted(name)} has chat rows, {where} being a list of turns with "
                f"{' and '.join(sorted(turn))}; {remedy}"
            )


def refuse_no_turns(name: str, columns: Collection[str], formats: RowFormats) -> None:
    """Refuse a file that fits no format if it has a column that holds turns in one of them."""
    for column, keys in formats.turns.items():
        if column in columns:
            raise Refused(
                f"dataset.format: {quoted(name)} has the column {quoted(column)}, which is no list of turns with "
                f"{' and '.join(keys)}; write such lists (and no text of them), name the keys of a turn in dataset.fields, or "
                "set dataset.format to the format of its rows"
            )


def other_roles(reason: str, fields: Fields, formats: Collection[str | None]) -> str | None:
    """Return the remedy if most rows of files in these formats are rejected because their roles have other names."""
    if reason == "role 'developer'":
        return "this is OpenAI's newer word for system: write the role system"
    if reason in _OTHER_ROLES and "prompt_completion" in formats:
        return "write the roles system, user and assistant"
    if reason in ("role 'human'", "role 'gpt'"):
        return (
            f"these are ShareGPT's roles: set dataset.format: sharegpt, dataset.fields.conversations: {fields.messages}, "
            f"dataset.fields.speaker: {fields.role} and dataset.fields.value: {fields.content}"
        )
    if reason in ("role 'user'", "role 'assistant'"):
        return (
            f"these are OpenAI's roles: set dataset.format: messages, dataset.fields.messages: {fields.conversations}, "
            f"dataset.fields.role: {fields.speaker} and dataset.fields.content: {fields.value}"
        )
    return None
