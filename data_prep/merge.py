"""Merges the shards' files into the run's files. Here digests decide about duplicates, leaks and samples.

The marks of all rows are read in reading order, the order in which one function would read the rows. So both ways write the
same bytes. If `max_rows` draws a sample, a first pass over the marks decides which rows it draws.
"""

from __future__ import annotations

import io
import re
import struct
from itertools import islice, repeat
from typing import TYPE_CHECKING, NamedTuple

from data_prep.errors import ReadBackError, ShardFailed
from data_prep.outputs import Outputs, publish, read_lines
from data_prep.row_splits import Lowest, dealer
from data_prep.seen import HELD_OUT, Seen
from data_prep.shard import MARK, Report, name_of, read_report
from pipeline.errors import Refused
from pipeline.source.stream import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_prep.request import PrepRequest, S3Location
    from data_prep.shard import ShardFile
    from data_prep.writer import S3Folder
    from pipeline.contracts.data import BadShard, Piece, Prepared
    from pipeline.source.stream import ResumingStream

MOST_ROWS = 40_000_000
"""Highest number of rows in a merge: it keeps 16 bytes per row in memory, in a function of 1,769 MB."""


def merge_shards(
    request: PrepRequest, count: int, failed: Sequence[BadShard], work: S3Folder, folder: S3Folder
) -> Prepared:
    """Merge the shards' files into the run's files, and return the function's answer.

    Args:
        request: the request to data prep.
        count: number of shards.
        failed: the results of the shards that failed or were refused.
        work: folder of the shards' files.
        folder: folder for the run's files.

    Raises:
        Refused: the user must mend something, in a shard or in all rows together.
        ShardFailed: a shard's function failed in spite of its retries.
        ReadBackError: an output or a shard's file has other content than was written.
    """
    for result in failed:
        if result.refused is not None:
            raise Refused(result.refused)
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise ShardFailed(
            f"shard '{failed[0].shard}' failed: {_short_error(failed[0].error or '')}{more}; a redrive reads it again"
        )
    reports = []
    for number in range(count):
        report = read_report(work, number)
        if report is None:
            raise ReadBackError(f"{work.place(name_of(number, 'report.json'))} does not exist; start a new execution")
        reports.append(report)
    shards = _Shards(request, reports, work)
    return publish(request, folder, shards.fill)


def _short_error(error: str) -> str:
    """Return an error's name and message. A function's message comes in JSON, which may have been cut."""
    name, _, cause = error.partition(": ")
    message = re.match(r'\{"errorMessage": ?"((?:[^"\\]|\\.)*)', cause)
    return f"{name}: {message[1] if message else cause}"


class _Row(NamedTuple):
    """A row after the decisions about it. `reason` says why the row is in no output; None if it is in an output."""

    piece: Piece
    reason: str | None
    split: str
    normalized: bool
    problem: str | None
    digest: bytes
    line: bytes


class _Shards:
    def __init__(self, request: PrepRequest, reports: Sequence[Report], work: S3Folder) -> None:
        self._request, self._reports, self._work = request, reports, work
        pieces = [(piece, read) for report in reports for piece, read in zip(report.pieces, report.read, strict=True)]
        # A row of a held-out split takes two places in `Seen`: one for duplicates, and one for leaks.
        self._rows = sum(read * (2 if piece.split in HELD_OUT else 1) for piece, read in pieces)
        if self._rows > MOST_ROWS:
            raise Refused(
                f"dataset: {self._rows} rows are more than a merge can take ({MOST_ROWS}); give it fewer or smaller files"
            )

    def fill(self, outputs: Outputs) -> None:
        """Write all rows to `outputs`, in reading order."""
        max_rows = self._request.dataset.max_rows
        samples = {split: Lowest(rows) for split, rows in max_rows.items() if rows is not None}
        if samples:
            accepted = dict.fromkeys(samples, 0)
            for row in self._decided(with_lines=False):
                if row.reason is None and row.split in samples:
                    accepted[row.split] += 1
                    samples[row.split].add(row.digest, accepted[row.split])
        drawn = {name: sample.numbers() for name, sample in samples.items()}
        next_drawn = {name: next(numbers, None) for name, numbers in drawn.items()}
        for report in self._reports:
            for piece, read_as in zip(report.pieces, report.read_as, strict=True):
                outputs.file(piece)  # so that a file without rows is listed, too
                outputs.note(piece, read_as)
        for row in self._decided(with_lines=True):
            file = outputs.file(row.piece)
            file.read += 1
            if row.reason is not None:
                outputs.reject(file, row.reason)
                continue
            split = outputs.splits[row.split]
            problem = outputs.accept(file, split, row.normalized, row.problem, row.line)
            if row.split in drawn:
                if split.accepted != next_drawn[row.split]:
                    continue
                next_drawn[row.split] = next(drawn[row.split], None)
            outputs.emit(split, row.digest, problem, row.line)

    def _decided(self, *, with_lines: bool) -> Iterator[_Row]:
        dataset = self._request.dataset
        deal, seen = dealer(dataset.ratios, dataset.splits), Seen(dataset.splits, self._rows)
        for number, report in enumerate(self._reports):
            marks = self._marks(number, report.marks)
            lines = self._lines(number, report.rows) if with_lines else repeat(b"")
            reasons, problems = [None, *report.reasons], [None, *report.problems]
            folder = self._work.place(name_of(number, ""))
            try:
                for piece, read in zip(report.pieces, report.read, strict=True):
                    for place, unfit, normalized, dialogue_digest, digest, key in islice(marks, read):
                        reason, name, line = reasons[place], "", b""
                        if not place:
                            line = next(lines)
                            name = deal(dialogue_digest) if piece.split == "train" else piece.split
                            reason = seen.why_not_new(name, dialogue_digest, key)
                        yield _Row(piece, reason, name, bool(normalized), problems[unfit], digest, line)
                # Both files are read to their ends, because only there their sums are checked.
                more = next(marks, None) is not None or (with_lines and next(lines, None) is not None)
            except (struct.error, IndexError, StopIteration) as error:
                raise ReadBackError(f"{folder} holds other marks than were written") from error
            if more:
                raise ReadBackError(f"{folder} holds more than its report says")

    def _marks(self, number: int, file: ShardFile) -> Iterator[tuple[int, int, int, bytes, bytes, bytes]]:
        name = name_of(number, "marks")
        raw = self._work.open(name)
        with io.BufferedReader(raw, BUFFER_BYTES) as stream:
            while chunk := stream.read(MARK.size * 4096):
                yield from MARK.iter_unpack(chunk)
        self._check_sum(raw, self._work.place(name), file)

    def _lines(self, number: int, file: ShardFile) -> Iterator[bytes]:
        name = name_of(number, "rows.jsonl")
        raw = self._work.open(name)
        yield from read_lines(raw)
        self._check_sum(raw, self._work.place(name), file)

    def _check_sum(self, raw: ResumingStream, place: S3Location, file: ShardFile) -> None:
        if (raw.position, raw.sha256) != (file.bytes, file.sha256):
            raise ReadBackError(f"{place} does not hold the bytes that were written")
