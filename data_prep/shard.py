"""Reads one shard of a dataset: checks and formats its rows, and writes a mark per row, by which the merge decides.

The merge makes the decisions that need all rows: which are duplicates or leaks, and which a sample draws.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import orjson

from data_prep.checks import DIGEST_BYTES, Checks
from data_prep.sources import ReadAs  # noqa: TC001 - `parse` reads it
from pipeline.contracts.data import Piece  # noqa: TC001 - `parse` reads it
from pipeline.contracts.values import as_json, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_prep.request import PrepRequest
    from data_prep.sources import Files
    from data_prep.writer import S3Folder, Upload

MARK = struct.Struct(f"<HHB{DIGEST_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}s")
"""The mark of a row; marks stand in reading order. Its parts are:

- the reason why the row is not fit, and the problem that Bedrock's base model has with it. Both are places in the report's
  lists, which count from 1; 0 stands for none.
- whether line ends were normalized.
- the three digests of `checks.Checked`."""


class ShardFile(NamedTuple):
    """Size and digest of a file that a shard has written. The merge checks both."""

    bytes: int
    sha256: str


class Report(NamedTuple):
    """The report of a shard, which is the last file that it writes.

    Attributes:
        pieces: the pieces that were read.
        read: number of rows of each piece.
        read_as: how each piece was read.
        reasons: the reasons why rows are not fit.
        problems: the reasons why Bedrock's base model does not take rows.
        rows: the file `rows.jsonl`, with the line of each fit row.
        marks: the file `marks`, with a `MARK` per row.
    """

    pieces: list[Piece]
    read: list[int]
    read_as: list[ReadAs | None]
    reasons: list[str]
    problems: list[str]
    rows: ShardFile
    marks: ShardFile


def name_of(number: int, file: str) -> str:
    """Return the path of a shard's file in the work folder."""
    return f"{number:05}/{file}"


def read_shard(request: PrepRequest, number: int, pieces: Sequence[Piece], source: Files, folder: S3Folder) -> int:
    """Read the shard, unless its report shows that this is done. Return the number of its rows.

    Raises:
        Refused: the user must mend something.
        SourceUnavailable: a file could not be read to its end.
    """
    done = read_report(folder, number)
    if done:
        return sum(done.read)
    checks = Checks(request)
    reasons: dict[str, int] = {}
    problems: dict[str, int] = {}
    read: list[int] = []
    with folder.write(name_of(number, "rows.jsonl")) as lines, folder.write(name_of(number, "marks")) as marks:
        for piece in pieces:
            before = marks.rows
            for reason, normalized, problem, dialogue_digest, digest, key, line in checks.check(source.rows(piece)):
                place = 0 if reason is None else reasons.setdefault(reason, len(reasons) + 1)
                unfit = 0 if problem is None else problems.setdefault(problem, len(problems) + 1)
                marks.write(MARK.pack(place, unfit, normalized, dialogue_digest, digest, key))
                if reason is None:
                    lines.write(line)
            read.append(marks.rows - before)
    read_as = [source.read_as.get(piece.file) for piece in pieces]
    report = Report(list(pieces), read, read_as, list(reasons), list(problems), _file(lines), _file(marks))
    with folder.write(name_of(number, "report.json")) as upload:
        upload.write(orjson.dumps(as_json(report)))
    return marks.rows


def _file(upload: Upload) -> ShardFile:
    return ShardFile(upload.bytes, upload.sha256)


def read_report(folder: S3Folder, number: int) -> Report | None:
    """Return the report of a shard; None if the shard is not done."""
    name = name_of(number, "report.json")
    if not folder.has(name):
        return None
    with folder.open(name) as stream:
        return parse(Report, orjson.loads(stream.readall()))
