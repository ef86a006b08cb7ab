"""Which rows make which optimizer step: known before the first one, and the same however many processes share the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SORTED_TOGETHER = 50
"""Batches whose rows are sorted by length among themselves: enough to leave little padding, few enough to stay random."""


def training_order(lengths: Sequence[int], *, steps: int, rows_a_step: int, batch_size: int, seed: int) -> list[int]:
    """Returns the row numbers of all steps, [steps * rows_a_step]; each `batch_size` of them are rows of like length.

    Every pass over the rows is shuffled anew, and the last step is filled from the next pass, so that all steps hold the
    same number of rows. The batch with the most tokens comes first: what does not fit into memory fails at once and not
    after hours.
    """
    random = np.random.default_rng(seed)
    wanted = steps * rows_a_step
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
