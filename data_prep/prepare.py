"""The whole dataset in one function: every row is read once, decided on the spot, and written."""

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
    from data_prep.sources import DatasetFiles
    from data_prep.writer import S3Folder
    from pipeline.contracts.data import Piece, Prepared

HELD_BYTES = 256 * 1024 * 1024
"""Most text that samples keep in memory while they are not yet decided."""


def prepare(request: PrepRequest, pieces: Sequence[Piece], source: DatasetFiles, folder: S3Folder) -> Prepared:
    """Prepare the dataset of `request`; returns the function's answer.

    Raises:
        Refused: what the user can mend. `rejected.jsonl` is written even then, to show why.
        SourceUnavailable: a file did not come whole.
        ReadBackError: an output is not what was meant.
    """

    def fill(outputs: Outputs) -> None:
        try:
            _read(request, pieces, source, outputs)
        except TooManyRows as error:
            raise Refused(
                f"dataset: one function prepares {ROWS} rows at most, and these are more; lower dataset.shard_mb, so that "
                "several share them"
            ) from error

    return publish(request, folder, fill)


def _read(request: PrepRequest, pieces: Sequence[Piece], source: DatasetFiles, outputs: Outputs) -> None:
    dataset, checks = request.dataset, Checks(request)
    deal, seen = dealer(dataset.ratios, dataset.splits), Seen(dataset.splits)
    samples = {name: _Sample(rows, name) for name, rows in dataset.max_rows.items() if rows is not None}
    for piece in pieces:
        file = outputs.file(piece)
        for reason, normalized, problem, dialogue_digest, digest, line in checks.check(source.rows(piece)):
            file.read += 1
            if reason is None:
                name = deal(dialogue_digest) if piece.split == "train" else piece.split
                reason = seen.why_not_new(name, dialogue_digest, digest)  # noqa: PLW2901
            if reason is not None:
                outputs.reject(file, reason)
                continue
            split = outputs.splits[name]
            outputs.accept(file, split, normalized, problem)
            if name in samples:
                samples[name].add(digest, problem, line)
            else:
                outputs.emit(split, digest, problem, line)
        outputs.note(piece, source.read_as.get(piece.file))
    for name, sample in samples.items():
        sample.emit(outputs, outputs.splits[name])


class _Sample:
    """The lines with the lowest keys out of all that are added, and no more, in memory."""

    def __init__(self, rows: int, split: str) -> None:
        self._rows, self._split = rows, split
        self._lowest = Lowest(rows)
        self._lines: dict[int, tuple[bytes, str | None, bytes]] = {}
        self._added = self._held = 0

    def add(self, digest: bytes, problem: str | None, line: bytes) -> None:
        self._added += 1
        left_out = self._lowest.add(digest, self._added)
        if left_out == self._added:
            return
        if left_out is not None:
            self._held -= len(self._lines.pop(left_out)[2])
        self._lines[self._added] = digest, problem, line
        self._held += len(line)
        if self._held > HELD_BYTES:
            raise Refused(
                f"dataset.max_rows.{self._split}: choosing {self._rows} rows takes more than {HELD_BYTES >> 20} MiB of "
                "memory; set fewer, or null for all (which needs none), or lower dataset.shard_mb"
            )

    def emit(self, outputs: Outputs, split: Split) -> None:
        for number in sorted(self._lines):
            outputs.emit(split, *self._lines[number])
