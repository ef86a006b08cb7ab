"""Decides before training which rows make which optimizer step, alike for any number of processes that share the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SORTED_TOGETHER = 50
"""Number of batches whose rows are sorted by length together. More leave less padding, and fewer keep the order random."""


def training_order(lengths: Sequence[int], *, steps: int, rows_per_step: int, batch_size: int, seed: int) -> list[int]:
    """Return the row numbers of all steps, [steps * rows_per_step]. Each `batch_size` of them are rows of similar length.

    Every pass over the rows is shuffled anew. The last step is filled from the next pass, so that all steps have the same
    number of rows. The batch with the most tokens comes first, so that a run without enough memory fails at once and not
    after hours.
    """
    random = np.random.default_rng(seed)
    wanted = steps * rows_per_step
    passes = -(-wanted // len(lengths))
    rows = np.concatenate([random.permutation(len(lengths)) for _ in range(passes)])[:wanted]
    by_length = np.asarray(lengths)
    together = SORTED_TOGETHER * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, wanted, together):
        part = rows[start : start + together]
        part = part[np.argsort(by_length[part], kind="stable")]
        parts = [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
        batches += [parts[index] for index in random.permutation(len(parts))]
    heaviest = max(range(len(batches)), key=lambda index: len(batches[index]) * int(by_length[batches[index]].max()))
    batches[0], batches[heaviest] = batches[heaviest], batches[0]
    return [int(row) for batch in batches for row in batch]
