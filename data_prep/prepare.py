"""Prepares the whole dataset in one function: it reads every row once, decides about it at once, and writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.checks import Checks
from data_prep.errors import TooManyRows
from data_prep.outputs import Outputs, Split, publish
from data_prep.row_splits import Lowest, dealer
from data_prep.seen import ROWS, Seen
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_prep.request import PrepRequest
    from data_prep.sources import Files
    from data_prep.writer import S3Folder
    from pipeline.contracts.data import Piece, Prepared

SAMPLE_BYTES = 256 * 1024 * 1024
"""Most bytes of lines that the sample of one split keeps in memory while it is not yet complete."""


def prepare(request: PrepRequest, pieces: Sequence[Piece], source: Files, folder: S3Folder) -> Prepared:
    """Prepare the dataset of `request`, and return the function's answer.

    Raises:
        Refused: the user must mend something. `rejected.jsonl` is written even then, to show why.
        SourceUnavailable: a file could not be read to its end.
        ReadBackError: an output has other content than was written.
    """

    def fill(outputs: Outputs) -> None:
        try:
            _read(request, pieces, source, outputs)
        except TooManyRows as error:
            raise Refused(
                f"dataset: one function prepares at most {ROWS} rows, and this dataset has more; lower dataset.shard_mb, so "
                "that several functions share them"
            ) from error

    return publish(request, folder, fill)


def _read(request: PrepRequest, pieces: Sequence[Piece], source: Files, outputs: Outputs) -> None:
    dataset, checks = request.dataset, Checks(request)
    deal, seen = dealer(dataset.ratios, dataset.splits), Seen(dataset.splits)
    samples = {name: _Sample(rows, name) for name, rows in dataset.max_rows.items() if rows is not None}
    for piece in pieces:
        file = outputs.file(piece)
        for reason, normalized, problem, dialogue_digest, digest, key, line in checks.check(source.rows(piece)):
            file.read += 1
            if reason is None:
                name = deal(dialogue_digest) if piece.split == "train" else piece.split
                reason = seen.why_not_new(name, dialogue_digest, key)  # noqa: PLW2901
            if reason is not None:
                outputs.reject(file, reason)
                continue
            split = outputs.splits[name]
            problem = outputs.accept(file, split, normalized, problem, line)  # noqa: PLW2901
            if name in samples:
                samples[name].add(digest, problem, line)
            else:
                outputs.emit(split, digest, problem, line)
        outputs.note(piece, source.read_as.get(piece.file))
    for name, sample in samples.items():
        sample.emit(outputs, outputs.splits[name])


class _Sample:
    """Keeps in memory, of all lines that are added, only those with the lowest digests."""

    def __init__(self, rows: int, split: str) -> None:
        self._rows, self._split = rows, split
        self._lowest = Lowest(rows)
        self._lines: dict[int, tuple[bytes, str | None, bytes]] = {}
        self._added = self._bytes = 0

    def add(self, digest: bytes, problem: str | None, line: bytes) -> None:
        self._added += 1
        left_out = self._lowest.add(digest, self._added)
        if left_out == self._added:
            return
        if left_out is not None:
            self._bytes -= len(self._lines.pop(left_out)[2])
        self._lines[self._added] = digest, problem, line
        self._bytes += len(line)
        if self._bytes > SAMPLE_BYTES:
            raise Refused(
                f"dataset.max_rows.{self._split}: a sample of {self._rows} rows takes more than {SAMPLE_BYTES >> 20} MiB of "
                "memory; set fewer, or null for all (which needs none), or lower dataset.shard_mb"
            )

    def emit(self, outputs: Outputs, split: Split) -> None:
        for number in sorted(self._lines):
            outputs.emit(split, *self._lines[number])
