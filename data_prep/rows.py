"""JSON Lines and JSON as rows. Nothing is skipped: what is no row comes with its problem."""

from __future__ import annotations

import io
import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from data_prep.encoding import HEAD_BYTES, Prefixed, detect, refuse_others
from data_prep.shapes import no_column, refuse_chat, refuse_half_a_prompt, shown_keys
from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data_prep.shapes import TextColumns

Row = tuple[object, object, str | None]
"""Dialogue, summary, and the problem that keeps it from being a row."""

LONGEST_BYTES = 16 * 1024 * 1024
"""Longest CSV field, JSON line or JSON element: what is longer lacks line ends, or leaves a quote open."""
BLANK_LINE = "blank line"
"""The problem of a line that is no row, and harms none: it does not count among the rows that are not fit."""
_BOM = "\ufeff"
BOM_BYTES = _BOM.encode()
_CHUNK_CHARACTERS = 256 * 1024
_OPENS = re.compile(rb"\s*(?:\{\s*$|\[\s*(?:\{|$))")
"""A line with which an object over several lines, or an array of objects, begins."""


def read_jsonl(
    stream: io.BufferedReader[Any], name: str, fields: TextColumns, stop: int | None = None, *, first: bool = True
) -> Iterator[Row]:
    """The rows of a JSON Lines file: one object a line.

    Args:
        stream: the file, at the beginning of a line.
        name: the file in messages.
        fields: the columns.
        stop: read the lines that begin in this many bytes; None is all.
        first: whether the stream is at the beginning of the file, where a BOM may be.

    Raises:
        Refused: no row of a whole file has a mapped field, a line has no end, or the file is another kind of JSON.
    """
    dialogue, summary = fields
    columns, at, number = _Columns(name, fields), 0, 0
    while stop is None or at < stop:
        raw = stream.readline(LONGEST_BYTES)
        if not raw:
            break
        number += 1
        line = raw
        if number == 1 and first:
            line = raw.removeprefix(BOM_BYTES)
            _refuse_other_shapes(line, name, fields)
        if len(raw) == LONGEST_BYTES and not raw.endswith(b"\n"):
            raise Refused(
                f"dataset: line {number} of {quoted(name)} is over {LONGEST_BYTES} bytes; write one object a line"
            )
        at += len(raw)
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = _other_json(line)
        # Its own line for the common case: this runs for every row.
        if type(value) is dict and dialogue in value and summary in value:
            columns.complete = True
            yield value[dialogue], value[summary], None
        else:
            yield None, None, value.why if isinstance(value, _NotJson) else columns.problem(value)
    if first and stop is None:  # what a part lacks, others may have
        columns.refuse_unless_found()


def _refuse_other_shapes(line: bytes, name: str, fields: TextColumns) -> None:
    """Refuse by its first line what is another kind of JSON, or is JSON Lines of another kind of row."""
    refuse_others(line[:HEAD_BYTES], name)
    if detect(line[:HEAD_BYTES]) != "utf-8":
        raise Refused(f"dataset: {quoted(name)} is {detect(line[:HEAD_BYTES])}, and JSON Lines are UTF-8; write it so")
    value = _parse(line)
    refuse_chat(name, value, fields)
    if _OPENS.match(line):
        raise Refused(
            f"dataset: {quoted(name)} has JSON over several lines or in an array, which is not JSON Lines; write one object "
            "a line (jq -c, or pandas to_json(orient='records', lines=True)), or name it .json"
        )
    if isinstance(value, dict):
        refuse_half_a_prompt(name, value, fields)


def read_json(stream: io.BufferedReader[Any], name: str, fields: TextColumns) -> Iterator[Row]:
    """The rows of a JSON file, in UTF-8.

    That is an array of objects; or objects one after the other, on a line each (JSON Lines, as many datasets on the Hub have
    it) or over several (as jq writes them); or one object with the rows in a list below one of its keys.

    Raises:
        Refused: an element that is no JSON (what follows it cannot be found), what `read_jsonl` refuses, or one object
            that is no row and has no such key.
    """
    head = stream.peek(64).removeprefix(BOM_BYTES).lstrip()
    if head.startswith(b"["):
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        yield from _rows(_elements(text, name), name, fields)
        return
    line = stream.readline(LONGEST_BYTES)
    lines = [line]
    while line and not line.removeprefix(BOM_BYTES).strip():
        line = stream.readline(LONGEST_BYTES)
        lines.append(line)
    value = _parse(line.removeprefix(BOM_BYTES))
    if isinstance(value, _NotJson) and line.removeprefix(BOM_BYTES).strip() == b"{":
        read = io.BufferedReader(Prefixed(b"".join(lines), stream))
        text = io.TextIOWrapper(read, encoding="utf-8", errors="surrogateescape", newline="")
        objects = _objects(text, name)
        value, second = next(objects), next(objects, None)
        yield from _rows(
            _below(value, name, fields) if second is None else chain((value, second), objects), name, fields
        )
        return
    if isinstance(value, dict) and not set(fields) <= value.keys():
        # One object on one line, unless another follows.
        while following := stream.readline(LONGEST_BYTES):
            lines.append(following)
            if following.strip():
                break
        else:
            yield from _rows(_below(value, name, fields), name, fields)
            return
    elif isinstance(value, dict):
        _refuse_columns(value, name, fields)
    yield from read_jsonl(io.BufferedReader(Prefixed(b"".join(lines), stream)), name, fields)


def _rows(values: Iterable[object], name: str, fields: TextColumns) -> Iterator[Row]:
    dialogue, summary = fields
    columns, first = _Columns(name, fields), True
    for value in values:
        if first:
            refuse_chat(name, value, fields)
        if first and isinstance(value, dict):
            refuse_half_a_prompt(name, value, fields)
        first = False
        if type(value) is dict and dialogue in value and summary in value:
            columns.complete = True
            yield value[dialogue], value[summary], None
        else:
            yield None, None, columns.problem(value)
    columns.refuse_unless_found()


def _below(value: object, name: str, fields: TextColumns) -> list[object]:
    """The rows of a file that is one object: those in a list below one of its keys, or the object itself."""
    if not isinstance(value, dict):
        return [value]
    _refuse_columns(value, name, fields)
    lists = [inner for inner in value.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if set(fields) <= value.keys() or not any(isinstance(inner, list | dict) for inner in value.values()):
        return [value]
    if len(lists) == 1:
        refuse_chat(name, value, fields)
        return lists[0]
    raise Refused(
        f"dataset: {quoted(name)} is one object with {shown_keys(value)}, and not one alone of them holds a list of rows; "
        "write an array of rows, or JSON Lines"
    )


def _refuse_columns(value: dict[str, Any], name: str, fields: TextColumns) -> None:
    if all(isinstance(value.get(field), dict | list) for field in fields):
        refuse_chat(name, value, fields)
        raise Refused(
            f"dataset: {quoted(name)} holds columns and not rows, each a list or an object of values (as pandas' to_json() and "
            "datasets' to_dict() have them); write to_json(orient='records', lines=True)"
        )


def _objects(text: io.TextIOWrapper, name: str) -> Iterator[object]:
    """The values that stand one after the other in `text`, one in memory at a time."""
    buffer, at, number, ended = text.read(_CHUNK_CHARACTERS).removeprefix(_BOM), 0, 0, False
    size = _CHUNK_CHARACTERS
    while True:
        at = _blank(buffer, at)
        try:
            value, at = _DECODER.raw_decode(buffer, at)
        except (ValueError, RecursionError) as error:
            if ended and at == len(buffer) and number:
                return
            if ended or len(buffer) - at > LONGEST_BYTES:
                raise Refused(
                    f"dataset: object {number + 1} of {quoted(name)} is not valid JSON or over {LONGEST_BYTES} bytes; mend it, "
                    "or write JSON Lines or an array of rows"
                ) from error
            # Twice as much each time, or a long value would be parsed for each chunk of it.
            more = text.read(size)
            buffer, at, ended, size = buffer[at:] + more, 0, not more, 2 * size
            continue
        number, size = number + 1, _CHUNK_CHARACTERS
        yield value


def _elements(text: io.TextIOWrapper, name: str) -> Iterator[object]:
    """The elements of the array that `text` is, one in memory at a time."""
    buffer = text.read(_CHUNK_CHARACTERS).removeprefix(_BOM)
    at, number, ended = _blank(buffer, 0) + 1, 0, False
    while True:
        at = _blank(buffer, at)
        if buffer[at : at + 1] == "]" and not number:
            break
        try:
            value, end = _DECODER.raw_decode(buffer, at)
            end = _blank(buffer, end)
            # Without what follows it, a number may be but the beginning of one (1 of 1.5).
            whole = end < len(buffer) and (isinstance(value, dict) or buffer[end] in ",]")
        except (ValueError, RecursionError):
            whole = False
        if whole:
            number += 1
            yield value
            if buffer[end] == "]":
                at = end
                break
            if buffer[end] != ",":
                raise Refused(
                    f"dataset: {quoted(name)} has no comma after element {number}; mend it, or write JSON Lines"
                )
            at = end + 1
            continue
        if ended or len(buffer) - at > LONGEST_BYTES:
            raise Refused(
                f"dataset: element {number + 1} of {quoted(name)} is not valid JSON; mend it, or write JSON Lines"
            )
        more = text.read(_CHUNK_CHARACTERS)
        buffer, at, ended = buffer[at:] + more, 0, not more
    # To the end: what else is there would be dropped, and only there is a file known to be whole.
    for rest in chain((buffer[at + 1 :],), iter(lambda: text.read(_CHUNK_CHARACTERS), "")):
        if rest.strip():
            raise Refused(f"dataset: {quoted(name)} goes on after the end of its array; mend it, or write JSON Lines")


def _blank(buffer: str, at: int) -> int:
    while buffer[at : at + 1] in _BLANKS:
        at += 1
    return at


_BLANKS = tuple(" \t\r\n")


_DECODER = json.JSONDecoder()
"""Takes NaN and Infinity, which are no JSON and which pandas and Python write: the checks say so where a text is wanted."""


class _NotJson(NamedTuple):
    """A line that is no JSON, and why."""

    why: str


def _parse(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _other_json(line)


def _other_json(line: bytes) -> object:
    """What orjson does not read: lone surrogates and NaN, which are for the checks to find, or what is no JSON."""
    if not line.strip():
        return _NotJson(BLANK_LINE)
    try:
        text = line.decode().strip()
        value, end = _DECODER.raw_decode(text)
    except UnicodeDecodeError:
        return _NotJson("broken UTF-8")
    except (ValueError, RecursionError):
        return _NotJson("a Python dict and not JSON" if line.lstrip().startswith(b"{'") else "not valid JSON")
    rest = text[end:].lstrip()
    if not rest:
        return value
    return _NotJson({"{": "two objects on one line", ",": "a comma after the object"}.get(rest[0], "not valid JSON"))


class _Columns:
    """Whether a JSON file has the mapped columns at all: what only some rows lack is those rows' problem."""

    def __init__(self, name: str, fields: TextColumns) -> None:
        self._name, self._fields = name, fields
        self._known: list[str] | None = None
        self._found: set[str] = set()
        self.complete = False

    def problem(self, value: object) -> str:
        """Why a value without both columns is no row."""
        if not isinstance(value, dict):
            return "not a JSON object"
        self._known = self._known or list(value)
        has = [field in value for field in self._fields]
        self._found.update(field for field in self._fields if field in value)
        return f"no field {quoted(self._fields[1 if has[0] else 0])}"

    def refuse_unless_found(self) -> None:
        """Raise Refused if no row had a column."""
        for field in self._fields:
            if self._known is not None and not self.complete and field not in self._found:
                no_column(self._name, field, self._known)
