"""Which split a row lands in and which rows a split keeps, by the row's digest alone: always the same."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from pipeline.errors import Refused

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Collection, Iterator, Mapping

    from data_prep.checks import Accepted

HELD_BYTES = 256 * 1024 * 1024
"""Most text a sample keeps in memory while it is not yet decided."""
_SPAN = 2**64
NEVER = _SPAN - 1
"""The key of a row that no sample may draw."""


def dealer(ratios: Mapping[str, float], own_files: Collection[str]) -> Callable[[bytes], str]:
    """The function from a dialogue's digest to its split, for train's file.

    A split with a file of its own gets nothing from train's. Rows of the same dialogue land together, so
    dealing cannot leak a dialogue from one split into another.
    """
    bounds, reached = [], 0.0
    for split in ("test", "validation"):
        if split not in own_files:
            reached += ratios[split]
            bounds.append((int(reached * _SPAN), split))

    def deal(digest: bytes) -> str:
        point = int.from_bytes(digest[:8], "big")
        return next((split for bound, split in bounds if point < bound), "train")

    return deal


def key(digest: bytes) -> int:
    """A row's place in the seeded order of samples: the lowest are drawn first."""
    return min(int.from_bytes(digest[:8], "big"), NEVER - 1)


def bound(keys: array[int], rows: int) -> int:
    """The key of the last row that a sample of `rows` draws out of `keys`, NEVER aside; -1 for none."""
    drawn = heapq.nsmallest(rows, (one for one in keys if one != NEVER))
    return drawn[-1] if drawn else -1


class Sample:
    """The rows with the lowest keys out of all that are added. Holds those rows, and no more, in memory."""

    def __init__(self, rows: int, split: str) -> None:
        """Keep at most `rows` rows."""
        self._rows, self._split = rows, split
        self._heap: list[tuple[int, int, str, Accepted]] = []
        self._added = self._held = 0

    def add(self, file: str, row: Accepted) -> None:
        """Consider a row.

        Raises:
            Refused: the rows held so far take more memory than `HELD_BYTES`.
        """
        # A heap has its smallest entry first: with keys negated, the row to give up next.
        self._added += 1
        entry = (-key(row.digest), -self._added, file, row)
        self._held += _size(row)
        if len(self._heap) < self._rows:
            heapq.heappush(self._heap, entry)
        else:
            self._held -= _size(heapq.heappushpop(self._heap, entry)[3])
        if self._held > HELD_BYTES:
            raise Refused(
                f"dataset.max_rows.{self._split}: choosing {self._rows} rows takes more than "
                f"{HELD_BYTES >> 20} MiB of memory; set fewer, or null for all (which needs none)"
            )

    def rows(self) -> Iterator[tuple[str, Accepted]]:
        """The rows kept, each with its file, in the order in which they were added."""
        for _, _, file, row in sorted(self._heap, key=lambda entry: -entry[1]):
            yield file, row


def _size(row: Accepted) -> int:
    return len(row.dialogue) + len(row.summary)


def bedrock_shares(eligible: Mapping[str, int], limit: int) -> dict[str, int]:
    """How many of the `eligible` train and validation rows go to Bedrock, which limits both together.

    Validation takes a tenth of the limit, and more only where train leaves room.
    """
    validation = min(eligible["validation"], max(limit // 10, limit - eligible["train"], 1))
    return {"train": min(eligible["train"], limit - validation), "validation": validation}
