"""Which split a row lands in and which rows a split keeps, by the row's digest alone: always the same."""

from __future__ import annotations

import heapq
from bisect import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pipeline.catalogue import BaseModel

_SPAN = 2**64


def dealer(ratios: Mapping[str, float], own_files: Collection[str]) -> Callable[[bytes], str]:
    """The function from a dialogue's digest to its split, for train's files.

    A split with files of its own gets nothing from train's. Rows of the same dialogue land together, so dealing cannot
    leak a dialogue from one split into another.
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
    """The rows with the lowest digests out of all that are added, which is a seeded choice. Holds no more than asked for."""

    def __init__(self, rows: int) -> None:
        """Keep at most `rows` rows."""
        self._rows = rows
        # A heap has its smallest entry first: with digests negated, the row to give up next.
        self._heap: list[tuple[int, int]] = []
        self._highest = b"\xff" * 64  # above any digest

    def add(self, digest: bytes, number: int) -> int | None:
        """Consider the row `number`; returns the number of the row that is left out for it (or its own), if any is.

        A split has no two rows of the same digest: they would be duplicates.
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
        """The numbers of the rows with the lowest digests, `rows` of them or all that are kept, in ascending order."""
        kept = sorted(self._heap, reverse=True)[:rows]
        return iter(sorted(number for _, number in kept))


def bedrock_shares(eligible: Mapping[str, int], model: BaseModel, limit: int) -> dict[str, int]:
    """How many of the `eligible` train and validation rows go to Bedrock, which limits both together, and validation alone.

    Validation takes a tenth of the limit, and more only where train leaves room.
    """
    wanted = max(limit // 10, limit - eligible["train"], model.min_file_records)
    validation = min(eligible["validation"], model.max_validation_records, wanted)
    return {"train": min(eligible["train"], limit - validation), "validation": validation}
