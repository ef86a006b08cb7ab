"""Decides which split gets a row and which rows a split keeps. The row's digest alone decides, so every run decides alike."""

from __future__ import annotations

import heapq
from bisect import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pipeline.catalogue import BaseModel

_SPAN = 2**64


def dealer(ratios: Mapping[str, float], own_files: Collection[str]) -> Callable[[bytes], str]:
    """Return the function that gives a dialogue's digest its split, for the rows of train's files.

    A split with files of its own gets none of these rows. Rows with the same dialogue get the same split, so no dialogue can
    leak from one split into another.
    """
    bounds: list[bytes] = []
    names, reached = [], 0.0
    for split in ("test", "validation"):
        if split not in own_files:
            reached += ratios[split]
            bounds.append(int(reached * _SPAN).to_bytes(8, "big"))
            names.append(split)
    names.append("train")
    return lambda digest: names[bisect(bounds, digest)]


class Lowest:
    """Keeps, of all rows that are added, the rows with the lowest digests. This is a seeded choice."""

    def __init__(self, rows: int) -> None:
        """Keep at most `rows` rows."""
        self._rows = rows
        # A heap has its smallest entry first. As digests are negated, this is the row with the highest digest, which goes next.
        self._heap: list[tuple[int, int]] = []
        self._highest = b"\xff" * 64  # above any digest

    def add(self, digest: bytes, number: int) -> int | None:
        """Add the row `number`. Return the number of the row that is left out now, which may be this one; None if none is.

        Rows with the same digest differ in their system messages alone. The earlier one is left out first.
        """
        if digest > self._highest:
            return number
        entry = -int.from_bytes(digest, "big"), number
        if len(self._heap) < self._rows:
            heapq.heappush(self._heap, entry)
            left_out = None
        else:
            left_out = heapq.heappushpop(self._heap, entry)[1]
        if len(self._heap) == self._rows:
            self._highest = (-self._heap[0][0]).to_bytes(len(digest), "big")
        return left_out

    def numbers(self, rows: int | None = None) -> Iterator[int]:
        """Return the numbers of the `rows` rows with the lowest digests, or of all that are kept, in ascending order."""
        kept = sorted(self._heap, reverse=True)[:rows]
        return iter(sorted(number for _, number in kept))


def bedrock_shares(eligible: Mapping[str, int], model: BaseModel, limit: int) -> dict[str, int]:
    """Return how many of the `eligible` train and validation rows go to Bedrock.

    Bedrock limits both together, and validation alone. Validation gets a tenth of the limit, and more only if train has too
    few rows for the rest.
    """
    wanted = max(limit // 10, limit - eligible["train"], model.min_file_records)
    validation = min(eligible["validation"], model.max_validation_records, wanted)
    return {"train": min(eligible["train"], limit - validation), "validation": validation}
