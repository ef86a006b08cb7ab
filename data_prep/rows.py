"""Reads rows from JSON Lines and JSON files. Nothing is skipped: a line that is not a row is returned with its problem."""

from __future__ import annotations

import io
import json
import re
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from data_prep.encoding import HEAD_BYTES, Prefixed, detect, refuse_others
from data_prep.row_formats import SAMPLE_ROWS
from data_prep.shapes import no_column, refuse_chat, refuse_half_a_prompt, refuse_no_turns, shown_keys
from pipeline.errors import Refused, quoted
from pipeline.source.stream import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from data_prep.row_formats import Row, RowFormat, RowFormats

LONGEST_BYTES = 16 * 1024 * 1024
"""Bytes of the longest CSV field, JSON line or JSON element. A longer one has no line ends, or a quote that never closes."""

_SAMPLE_BYTES = 1024 * 1024
"""The lines that begin in so many bytes of a file may decide its format."""

SAMPLE_END = _SAMPLE_BYTES + LONGEST_BYTES
"""The byte after the last one that decides a file's format."""

BLANK_LINE = "blank line"
"""The problem of a blank line. It does no harm, so it does not count as a row that is not fit."""

_BOM = "\ufeff"
BOM_BYTES = _BOM.encode()
_CHUNK_CHARACTERS = 256 * 1024

_NO_KEY = object()
"""A key that no object has."""

_BLANKS = tuple(" \t\r\n")

_DECODER = json.JSONDecoder()
"""It takes NaN and Infinity, which are not JSON, but which pandas and Python write. The checks reject them as texts."""

_OPENS = re.compile(rb"\s*(?:\{\s*$|\[\s*(?:\{|$))")
"""The first line of an object over several lines, or of an array of objects."""


def sample_jsonl(
    stream: io.BufferedReader[Any], name: str, formats: RowFormats
) -> tuple[RowFormat | None, io.BufferedReader[Any]]:
    """Return the format of a JSON Lines file by its first objects, and the file as a stream that begins with them again.

    The format is None if the file has no object that tells it.

    Raises:
        Refused: the rows fit several formats, or another shape of a file.
    """
    if formats.is_set:
        return formats.fallback, stream
    lines: list[bytes] = []
    objects: list[dict[str, Any]] = []
    at = 0
    while len(objects) < SAMPLE_ROWS and at < _SAMPLE_BYTES and (line := stream.readline(LONGEST_BYTES)):
        at += len(line)
        if not lines:
            _refuse_other_files(line, name)
        lines.append(line)
        value = _parse(line.removeprefix(BOM_BYTES) if len(lines) == 1 else line)
        if isinstance(value, dict):
            objects.append(value)
    return _chosen(name, objects, formats), io.BufferedReader(Prefixed(b"".join(lines), stream), BUFFER_BYTES)


def _chosen(name: str, objects: list[dict[str, Any]], formats: RowFormats) -> RowFormat | None:
    """Return the format that a file's first objects fit. None if the file has none, so that it has no format.

    Raises:
        Refused: they fit no format, or several.
    """
    found = formats.choose(name, objects)
    if found is None and objects:
        refuse_chat(name, objects[0], formats.fallback)
        refuse_no_turns(name, objects[0], formats)
        for column in formats.fallback.columns:
            if not any(column in value for value in objects):
                no_column(name, column, objects[0], formats.fallback)
    return found


def read_jsonl(
    stream: io.BufferedReader[Any], name: str, row_format: RowFormat, stop: int | None = None, *, first: bool = True
) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file, which has one object per line.

    Args:
        stream: the file, at the beginning of a line.
        name: the file's name in messages.
        row_format: the format of the rows.
        stop: read the lines that begin in this many bytes. None stands for all lines.
        first: whether the stream is at the beginning of the file, where a BOM may be.

    Raises:
        Refused: no row of a whole file has a mapped column, a line is too long, or the file is another kind of JSON.
    """
    # The two columns of the common case; in other formats no object has them.
    dialogue, summary = row_format.columns if row_format.is_pair else (_NO_KEY, _NO_KEY)
    columns, at, number = _Columns(name, row_format), 0, 0
    while stop is None or at < stop:
        raw = stream.readline(LONGEST_BYTES)
        if not raw:
            break
        number += 1
        line = raw
        if number == 1 and first:
            line = raw.removeprefix(BOM_BYTES)
            _refuse_other_shapes(line, name, row_format)
        if len(raw) == LONGEST_BYTES and not raw.endswith(b"\n"):
            raise Refused(
                f"dataset: line {number} of {quoted(name)} is over {LONGEST_BYTES} bytes; write one object per line"
            )
        at += len(raw)
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = _other_json(line)
        # The common case comes first and calls nothing, because this runs for every row.
        if type(value) is dict and dialogue in value and summary in value:
            columns.complete = True
            yield value[dialogue], value[summary], None
        else:
            yield (None, None, value.why) if isinstance(value, _NotJson) else columns.row(value)
    if first and stop is None:  # other parts may have a column that this part lacks
        columns.refuse_unless_found()


def _refuse_other_files(line: bytes, name: str) -> None:
    """Refuse a file whose first line shows another kind of file."""
    refuse_others(line[:HEAD_BYTES], name)
    if detect(line[:HEAD_BYTES]) != "utf-8":
        raise Refused(
            f"dataset: {quoted(name)} is {detect(line[:HEAD_BYTES])}, and JSON Lines are UTF-8; write it as UTF-8"
        )


def _refuse_other_shapes(line: bytes, name: str, row_format: RowFormat) -> None:
    """Refuse a file whose first line shows another kind of file or of JSON, or another kind of row."""
    _refuse_other_files(line, name)
    value = _parse(line)
    refuse_chat(name, value, row_format)
    if _OPENS.match(line):
        raise Refused(
            f"dataset: {quoted(name)} has JSON over several lines or in an array, which is not JSON Lines; write one object "
            "per line (jq -c, or pandas to_json(orient='records', lines=True)), or name it .json"
        )
    if isinstance(value, dict):
        refuse_half_a_prompt(name, value, row_format)


def read_json(
    stream: io.BufferedReader[Any], name: str, formats: RowFormats, note: Callable[[RowFormat | None], None]
) -> Iterator[Row]:
    """Yield the rows of a JSON file in UTF-8.

    The file has one of these forms:

    - an array of objects
    - objects one after the other, each on one line (JSON Lines, which many datasets on the Hub have) or over several lines
      (as jq writes them)
    - one object that has the rows in a list below one of its keys

    Args:
        stream: the file.
        name: the file's name in messages.
        formats: the formats that its rows may have.
        note: called with the format that they have.

    Raises:
        Refused: an element is not JSON, so that the next one cannot be found; `read_jsonl` refuses the file; or the file is
            one object that is not a row and has no such key.
    """
    head = stream.peek(64).removeprefix(BOM_BYTES).lstrip()
    if head.startswith(b"["):
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        yield from _rows(_elements(text, name), name, formats, note)
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
        values = _below(value, name, formats) if second is None else chain((value, second), objects)
        yield from _rows(values, name, formats, note)
        return
    if isinstance(value, dict) and not formats.any_fits(value):
        # The file is one object on one line, unless another line follows.
        while following := stream.readline(LONGEST_BYTES):
            lines.append(following)
            if following.strip():
                break
        else:
            yield from _rows(_below(value, name, formats), name, formats, note)
            return
    elif isinstance(value, dict):
        _refuse_columns(value, name, formats)
    whole = io.BufferedReader(Prefixed(b"".join(lines), stream))
    row_format, whole = sample_jsonl(whole, name, formats)
    note(row_format)
    yield from read_jsonl(whole, name, row_format or formats.fallback)


def _rows(
    values: Iterable[object], name: str, formats: RowFormats, note: Callable[[RowFormat | None], None]
) -> Iterator[Row]:
    remaining = iter(values)
    sample = list(islice(remaining, SAMPLE_ROWS))
    found = _chosen(name, [value for value in sample if isinstance(value, dict)], formats)
    note(found)
    row_format = found or formats.fallback
    if sample:
        refuse_chat(name, sample[0], row_format)
    if sample and isinstance(sample[0], dict):
        refuse_half_a_prompt(name, sample[0], row_format)
    columns = _Columns(name, row_format)
    for value in chain(sample, remaining):
        yield columns.row(value)
    columns.refuse_unless_found()


def _below(value: object, name: str, formats: RowFormats) -> list[object]:
    """Return the rows of a file that is one object: the list below one of its keys, or the object itself."""
    if not isinstance(value, dict):
        return [value]
    _refuse_columns(value, name, formats)
    lists = [inner for inner in value.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if formats.any_fits(value) or not any(isinstance(inner, list | dict) for inner in value.values()):
        return [value]
    if len(lists) == 1:
        refuse_chat(name, value, formats.fallback)
        return lists[0]
    raise Refused(
        f"dataset: {quoted(name)} is one object with {shown_keys(value)}, and not exactly one of them holds a list of rows; "
        "write an array of rows, or JSON Lines"
    )


def _refuse_columns(value: dict[str, Any], name: str, formats: RowFormats) -> None:
    row_format = formats.fallback
    if row_format.name == "columns" and all(isinstance(value.get(field), dict | list) for field in row_format.columns):
        refuse_chat(name, value, row_format)
        raise Refused(
            f"dataset: {quoted(name)} holds columns and not rows, each a list or an object of values (as pandas' to_json() and "
            "datasets' to_dict() write them); write to_json(orient='records', lines=True)"
        )


def _objects(text: io.TextIOWrapper, name: str) -> Iterator[object]:
    """Yield the values that stand one after the other in `text`. One value at a time is in memory."""
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
            # The next chunk is twice as large: with equal chunks, a long value would be parsed once per chunk.
            more = text.read(size)
            buffer, at, ended, size = buffer[at:] + more, 0, not more, 2 * size
            continue
        number, size = number + 1, _CHUNK_CHARACTERS
        yield value


def _elements(text: io.TextIOWrapper, name: str) -> Iterator[object]:
    """Yield the elements of the array in `text`. One element at a time is in memory."""
    buffer = text.read(_CHUNK_CHARACTERS).removeprefix(_BOM)
    at, number, ended = _blank(buffer, 0) + 1, 0, False
    while True:
        at = _blank(buffer, at)
        if buffer[at : at + 1] == "]" and not number:
            break
        try:
            value, end = _DECODER.raw_decode(buffer, at)
            end = _blank(buffer, end)
            # A number at the end of the buffer may be the beginning of a longer one (1 of 1.5).
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
    # The file is read to its end: only there it is known to be whole, and data after the array would be lost.
    for rest in chain((buffer[at + 1 :],), iter(lambda: text.read(_CHUNK_CHARACTERS), "")):
        if rest.strip():
            raise Refused(f"dataset: {quoted(name)} goes on after the end of its array; mend it, or write JSON Lines")


def _blank(buffer: str, at: int) -> int:
    while buffer[at : at + 1] in _BLANKS:
        at += 1
    return at


class _NotJson(NamedTuple):
    """A line that is not JSON, with the reason."""

    why: str


def _parse(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _other_json(line)


def _other_json(line: bytes) -> object:
    """Parse a line that orjson does not read. It has lone surrogates or NaN, which the checks find, or it is not JSON."""
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
    """Finds out whether any row of a JSON file has the mapped columns. A column that only some rows lack is their problem."""

    def __init__(self, name: str, row_format: RowFormat) -> None:
        self._name, self._format, self._fields = name, row_format, row_format.columns
        # The list of turns, in a format that has nothing else: the common case among the other formats.
        self._only = row_format.columns[0] if row_format.turn_keys else _NO_KEY
        self._known: list[str] | None = None
        self._found: set[str] = set()
        self.complete = False

    def row(self, value: object) -> Row:
        """Return the row of a value, which may lack a column."""
        if not isinstance(value, dict):
            return None, None, "not a JSON object"
        if self._only in value:
            self.complete = True
            return self._format.row(value[self._only])
        try:
            values = [value[field] for field in self._fields]
        except KeyError:
            self._known = self._known or list(value)
            self._found.update(field for field in self._fields if field in value)
            return None, None, f"no field {quoted(next(field for field in self._fields if field not in value))}"
        self.complete = True
        return self._format.row(*values, *[value.get(field) for field in self._format.optional])

    def refuse_unless_found(self) -> None:
        """Refuse the file if no row had one of the columns."""
        for field in self._fields:
            if self._known is not None and not self.complete and field not in self._found:
                no_column(self._name, field, self._known, self._format)
