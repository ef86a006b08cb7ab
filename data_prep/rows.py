"""CSV and JSON Lines as numbered rows. Nothing is skipped: a line that is no row comes with its problem."""

from __future__ import annotations

import csv
import io
from functools import partial
from itertools import chain, count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import orjson

from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from data_prep.request import Fields

LONGEST_BYTES = 16 * 1024 * 1024
"""Longest CSV field or JSON line: what is longer is a file without line ends or with a quote left open."""
_BOM = "\ufeff"
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 20, 40

csv.field_size_limit(LONGEST_BYTES)


class Row(NamedTuple):
    """One row, numbered from 1 without a CSV's header; `problem` is what keeps it from being one."""

    number: int
    dialogue: object
    summary: object
    problem: str | None = None


def reader(name: str) -> Callable[[io.BufferedReader, str, Fields], Iterator[Row]]:
    """The function that reads a file of this name.

    Raises:
        Refused: it is neither CSV nor JSON Lines.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _READERS:
        raise Refused(f"dataset: '{name}' is neither .csv nor .jsonl; convert it to one of them")
    return _READERS[suffix]


def read_csv(stream: io.BufferedReader, name: str, fields: Fields) -> Iterator[Row]:
    """The rows of a CSV file with a header (RFC 4180; line ends inside quotes belong to the text).

    Broken UTF-8 arrives as lone surrogates, for the checks to find.

    Raises:
        Refused: no header, a mapped column that is not there, or a quote that never closes.
    """
    # newline="" leaves line ends inside quotes to the csv module, as its documentation asks.
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    first = text.readline()
    if not first:
        raise Refused(f"dataset: '{name}' is empty; it needs a header and rows")
    # strict: a quote out of place is an error and not text guessed at.
    cells = csv.reader(chain((first.removeprefix(_BOM),), text), strict=True)
    try:
        header = next(cells)
    except csv.Error as error:
        raise Refused(f"dataset: the header of '{name}' is no CSV ({error}); mend its quotes") from error
    dialogue, summary = (_index(header, name, field) for field in (fields.dialogue, fields.summary))
    width = len(header)
    for number in count(1):
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error) or "field limit" in str(error):
                raise Refused(f"dataset: '{name}' opens a quote in row {number} that never closes; close it") from error
            yield Row(number, None, None, "malformed CSV quoting")
            continue
        if len(row) == width:
            yield Row(number, row[dialogue], row[summary])
        else:
            yield Row(number, None, None, "wrong number of columns" if row else "blank line")


def read_jsonl(stream: io.BufferedReader, name: str, fields: Fields) -> Iterator[Row]:
    """The rows of a JSON Lines file: one object a line.

    Raises:
        Refused: no row at all has a mapped field, or a line has no end.
    """
    names = (fields.dialogue, fields.summary)
    known: list[str] | None = None
    found = [False, False]
    for number, raw in enumerate(iter(partial(stream.readline, LONGEST_BYTES), b""), 1):
        line = raw.removeprefix(_BOM.encode()) if number == 1 else raw
        if len(raw) == LONGEST_BYTES and not raw.endswith(b"\n"):
            raise Refused(f"dataset: line {number} of '{name}' is over {LONGEST_BYTES} bytes; write one object a line")
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield Row(number, None, None, _why_not_json(line))
            continue
        if type(value) is not dict:
            yield Row(number, None, None, "not a JSON object")
            continue
        known = list(value) if known is None else known
        has = [field in value for field in names]
        found = [before or now for before, now in zip(found, has, strict=True)]
        if all(has):
            yield Row(number, value[names[0]], value[names[1]])
        else:
            yield Row(number, None, None, f"{'summary' if has[0] else 'dialogue'} is missing")
    for field, seen in zip(names, found, strict=True):
        if known is not None and not seen:
            _no_column(name, field, known)


def _why_not_json(line: bytes) -> str:
    if not line.strip():
        return "blank line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "broken UTF-8"
    return "not valid JSON"


def _index(header: list[str], name: str, field: str) -> int:
    if field not in header:
        _no_column(name, field, header)
    if header.count(field) > 1:
        raise Refused(f"dataset.fields: '{name}' has the column '{field}' more than once; rename one")
    return header.index(field)


def _no_column(name: str, field: str, there: Iterable[str]) -> NoReturn:
    names = list(there)
    shown = ", ".join(f"'{column[:_SHOWN_CHARACTERS]}'" for column in names[:_SHOWN_COLUMNS]) or "none"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    raise Refused(
        f"dataset.fields: '{name}' has no column '{field}'; it has {shown}{more}; name two of them in dataset.fields"
    )


_READERS = {".csv": read_csv, ".jsonl": read_jsonl}
