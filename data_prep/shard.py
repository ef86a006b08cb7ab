"""One shard of a dataset: its rows checked and formatted, and a mark of each for the merge to decide by.

What needs all rows is not decided here: which are duplicates or leaks, and which a sample draws.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from data_prep.checks import DIGEST_BYTES, Checks
from data_prep.sources import ReadAs
from pipeline.contracts.data import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_prep.request import PrepRequest
    from data_prep.sources import DatasetFiles
    from data_prep.writer import S3Folder, Upload

MARK = struct.Struct(f"<HHB{DIGEST_BYTES}s{DIGEST_BYTES}s")
"""Of each row read, in reading order: the reason why it is not fit and the problem that Bedrock's base model has with it
(places in the report's lists, from 1; 0 is none), whether line ends were normalized, and its two digests (`checks.Checked`)."""


@dataclass(frozen=True)
class ShardFile:
    """A file that a shard left: what it must be when it is read back."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Report:
    """What a shard left, written last: `rows.jsonl` has the line of each fit row, `marks` a `MARK` of each row.

    Attributes:
        pieces: what was read.
        read: rows of each piece.
        read_as: how each piece was read, if its format leaves that open.
        reasons: why rows are not fit.
        problems: why Bedrock's base model does not take rows.
        rows: the file `rows.jsonl`.
        marks: the file `marks`.
    """

    pieces: list[Piece]
    read: list[int]
    read_as: list[ReadAs | None]
    reasons: list[str]
    problems: list[str]
    rows: ShardFile
    marks: ShardFile


def name_of(number: int, file: str) -> str:
    """Where a shard's file lies in the work folder."""
    return f"{number:05}/{file}"


def read_shard(
    request: PrepRequest, number: int, pieces: Sequence[Piece], source: DatasetFiles, folder: S3Folder
) -> int:
    """Read the shard, unless its report says that this is done; returns its rows.

    Raises:
        Refused: what the user can mend.
        SourceUnavailable: a file did not come whole.
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
            for reason, normalized, problem, dialogue_digest, digest, line in checks.check(source.rows(piece)):
                place = 0 if reason is None else reasons.setdefault(reason, len(reasons) + 1)
                unfit = 0 if problem is None else problems.setdefault(problem, len(problems) + 1)
                marks.write(MARK.pack(place, unfit, normalized, dialogue_digest, digest))
                if reason is None:
                    lines.write(line)
            read.append(marks.rows - before)
    read_as = [source.read_as.get(piece.file) for piece in pieces]
    report = Report(list(pieces), read, read_as, list(reasons), list(problems), _file(lines), _file(marks))
    with folder.write(name_of(number, "report.json")) as upload:
        upload.write(
            orjson.dumps(
                {**asdict(report), "pieces": list(map(list, pieces)), "read_as": [one and list(one) for one in read_as]}
            )
        )
    return marks.rows


def _file(upload: Upload) -> ShardFile:
    return ShardFile(upload.bytes, upload.sha256)


def read_report(folder: S3Folder, number: int) -> Report | None:
    """What a shard left; None if it is not done."""
    name = name_of(number, "report.json")
    if not folder.has(name):
        return None
    with folder.open(name) as stream:
        values: dict[str, Any] = orjson.loads(stream.readall())
    return Report(
        [Piece(*piece) for piece in values["pieces"]],
        values["read"],
        [ReadAs(*one) if one else None for one in values["read_as"]],
        values["reasons"],
        values["problems"],
        ShardFile(**values["rows"]),
        ShardFile(**values["marks"]),
    )
