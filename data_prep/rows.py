"""CSV, JSON Lines and JSON as rows. Nothing is skipped: what is no row comes with its problem."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import orjson

from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Fields = tuple[str, str]
"""The columns with the dialogue and the summary."""

Row = tuple[object, object, str | None]
"""Dialogue, summary, and the problem that keeps it from being a row."""

LONGEST_BYTES = 16 * 1024 * 1024
"""Longest CSV field, JSON line or JSON element: what is longer lacks line ends, or leaves a quote open."""
_BOM = "\ufeff"
_BOM_BYTES = _BOM.encode()
_CHUNK_BYTES = _CHUNK_CHARACTERS = 256 * 1024
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 20, 40

csv.field_size_limit(LONGEST_BYTES)


def read_csv(stream: io.BufferedReader[Any], name: str, fields: Fields) -> Iterator[Row]:
    """The rows of a CSV file with a header (RFC 4180; line ends inside quotes belong to the text).

    Broken UTF-8 arrives as lone surrogates, for the checks to find. The csv module says what a row is; a regular expression
    takes the plain ones, which it does four times as fast, and leaves whatever it does not match to the module.

    Raises:
        Refused: no header, a mapped column that is not there, or a quote that never closes.
    """
    text = _Text(stream, name)
    # strict: a quote out of place is an error and not text guessed at.
    cells = csv.reader(text, strict=True)
    try:
        header = next(cells, None)
    except csv.Error as error:
        raise Refused(f"dataset: the header of '{name}' is no CSV ({error}); mend its quotes") from error
    if header is None:
        raise Refused(f"dataset: '{name}' is empty; it needs a header and rows")
    dialogue, summary = (index(header, name, field) for field in fields)
    width, number = len(header), 0
    plain, groups = _plain_row(width, dialogue, summary), ("dq", "d", "sq", "s")
    while True:
        buffer, at = text.buffer, text.at
        while found := plain(buffer, at):
            at = found.end()
            number += 1
            quoted, bare, summary_quoted, summary_bare = found.group(*groups)
            yield _cell(quoted, bare), _cell(summary_quoted, summary_bare), None
        text.at = at
        number += 1
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error) or "field limit" in str(error):
                raise Refused(f"dataset: '{name}' opens a quote in row {number} that never closes; close it") from error
            yield None, None, "malformed CSV quoting"
            continue
        if len(row) == width:
            yield row[dialogue], row[summary], None
        else:
            yield None, None, "wrong number of columns" if row else "blank line"


def _plain_row(width: int, dialogue: int, summary: int) -> Callable[[bytes, int], re.Match[bytes] | None]:
    """Matches a whole row: each field is either quoted or without any quote, and the line end is there."""
    if width == 1 or dialogue == summary:
        # An empty line could be taken for a row; one column for both is nobody's dataset.
        return re.compile(rb"(?!)").match
    names = {dialogue: "d", summary: "s"}
    fields = [
        rf'(?:"(?P<{names[n]}q>[^"]*+(?:""[^"]*+)*+)"|(?P<{names[n]}>[^",\r\n]*+))'
        if n in names
        else r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
        for n in range(width)
    ]
    return re.compile((",".join(fields) + r"\r?\n").encode()).match


def _cell(quoted: bytes | None, bare: bytes) -> str:
    if quoted is None:
        return bare.decode("utf-8", "surrogateescape")
    if b'""' in quoted:
        quoted = quoted.replace(b'""', b'"')
    return quoted.decode("utf-8", "surrogateescape")


class _Text:
    """A stream without its BOM: a buffer to match rows in, and, as an iterator, its lines as text."""

    def __init__(self, stream: io.BufferedReader[Any], name: str) -> None:
        self._stream, self._name = stream, name
        self._ended = False
        self.buffer, self.at = b"", 0
        while len(self.buffer) < len(_BOM_BYTES) and not self._ended:
            self._fill()
        self.buffer = self.buffer.removeprefix(_BOM_BYTES)

    def _fill(self) -> None:
        data = self._stream.read(_CHUNK_BYTES)
        self.buffer, self.at, self._ended = self.buffer[self.at :] + data, 0, not data

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        """The next line with its end: CRLF, CR or LF, as `open` has them with newline=""."""
        while True:
            end = _LINE_END.search(self.buffer, self.at)
            # A CR that is last may be half of a line end.
            if self._ended or (end and not (end.end() == len(self.buffer) and end[0] == b"\r")):
                line = self.buffer[self.at : end.end() if end else len(self.buffer)]
                if not line:
                    raise StopIteration
                self.at += len(line)
                return line.decode("utf-8", "surrogateescape")
            if len(self.buffer) - self.at > LONGEST_BYTES:
                raise Refused(f"dataset: '{self._name}' has a line of over {LONGEST_BYTES} bytes; write one row a line")
            self._fill()


_LINE_END = re.compile(rb"\r\n|\r|\n")


def read_jsonl(
    stream: io.BufferedReader[Any], name: str, fields: Fields, stop: int | None = None, *, first: bool = True
) -> Iterator[Row]:
    """The rows of a JSON Lines file: one object a line.

    Args:
        stream: the file, at the beginning of a line.
        name: the file in messages.
        fields: the columns.
        stop: read the lines that begin in this many bytes; None is all.
        first: whether the stream is at the beginning of the file, where a BOM may be.

    Raises:
        Refused: no row of a whole file has a mapped field, or a line has no end.
    """
    dialogue, summary = fields
    columns, at, number = _Columns(name, fields), 0, 0
    while stop is None or at < stop:
        raw = stream.readline(LONGEST_BYTES)
        if not raw:
            break
        number += 1
        line = raw.removeprefix(_BOM_BYTES) if number == 1 and first else raw
        if len(raw) == LONGEST_BYTES and not raw.endswith(b"\n"):
            raise Refused(f"dataset: line {number} of '{name}' is over {LONGEST_BYTES} bytes; write one object a line")
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


def read_json(stream: io.BufferedReader[Any], name: str, fields: Fields) -> Iterator[Row]:
    """The rows of a JSON file: an array of objects, or, as many datasets on the Hub have it, JSON Lines.

    Raises:
        Refused: an element that is no JSON (what follows it cannot be found), or what `read_jsonl` refuses.
    """
    start = stream.peek(64).removeprefix(_BOM_BYTES).lstrip()
    if not start.startswith(b"["):
        yield from read_jsonl(stream, name, fields)
        return
    dialogue, summary = fields
    columns = _Columns(name, fields)
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    for value in _elements(text, name):
        if type(value) is dict and dialogue in value and summary in value:
            columns.complete = True
            yield value[dialogue], value[summary], None
        else:
            yield None, None, columns.problem(value)
    columns.refuse_unless_found()


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
                raise Refused(f"dataset: '{name}' has no comma after element {number}; mend it, or write JSON Lines")
            at = end + 1
            continue
        if ended or len(buffer) - at > LONGEST_BYTES:
            raise Refused(f"dataset: element {number + 1} of '{name}' is not valid JSON; mend it, or write JSON Lines")
        more = text.read(_CHUNK_CHARACTERS)
        buffer, at, ended = buffer[at:] + more, 0, not more
    # To the end: what else is there would be dropped, and only there is a file known to be whole.
    for rest in chain((buffer[at + 1 :],), iter(lambda: text.read(_CHUNK_CHARACTERS), "")):
        if rest.strip():
            raise Refused(f"dataset: '{name}' goes on after the end of its array; mend it, or write JSON Lines")


def _blank(buffer: str, at: int) -> int:
    while buffer[at : at + 1] in _BLANKS:
        at += 1
    return at


_BLANKS = tuple(" \t\r\n")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


class _NotJson(NamedTuple):
    """A line that is no JSON, and why."""

    why: str


def _other_json(line: bytes) -> object:
    """What orjson does not read: lone surrogates, which are for the checks to find, or what is no JSON."""
    if not line.strip():
        return _NotJson("blank line")
    try:
        return _DECODER.decode(line.decode())
    except UnicodeDecodeError:
        return _NotJson("broken UTF-8")
    except (ValueError, RecursionError):
        return _NotJson("not valid JSON")


class _Columns:
    """Whether a JSON file has the mapped columns at all: what only some rows lack is those rows' problem."""

    def __init__(self, name: str, fields: Fields) -> None:
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
        return f"no field '{self._fields[1 if has[0] else 0]}'"

    def refuse_unless_found(self) -> None:
        """Raise Refused if no row had a column."""
        for field in self._fields:
            if self._known is not None and not self.complete and field not in self._found:
                no_column(self._name, field, self._known)


def index(header: list[str], name: str, field: str) -> int:
    """The place of a column.

    Raises:
        Refused: it is not there, or more than once.
    """
    if field not in header:
        no_column(name, field, header)
    if header.count(field) > 1:
        raise Refused(f"dataset.fields: '{name}' has the column '{field}' more than once; rename one")
    return header.index(field)


def no_column(name: str, field: str, there: Iterable[str]) -> NoReturn:
    """Refuse a file without the mapped column."""
    names = list(there)
    shown = ", ".join(f"'{column[:_SHOWN_CHARACTERS]}'" for column in names[:_SHOWN_COLUMNS]) or "none"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    raise Refused(
        f"dataset.fields: '{name}' has no column '{field}'; it has {shown}{more}; name two of them in dataset.fields"
    )
