"""The order of rows in training: how often each is used, how little is padded, and that it is random."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.order import training_order

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=200)


@given(LENGTHS, st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_in_any_order_the_counts_of_the_rows_differ_by_at_most_one(
    lengths: list[int], steps: int, batch_size: int, accumulation: int, seed: int
) -> None:
    rows = batch_size * accumulation
    order = training_order(lengths, steps=steps, rows_per_step=rows, batch_size=batch_size, seed=seed)
    assert len(order) == steps * rows
    used = Counter(order)
    counts = [used[row] for row in range(len(lengths))]
    assert max(counts) - min(counts) <= 1
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    weights = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert weights[0] == max(weights)  # if a batch does not fit into memory, the first step fails
    assert order == training_order(lengths, steps=steps, rows_per_step=rows, batch_size=batch_size, seed=seed)


def test_batches_have_little_padding_and_a_random_order() -> None:
    lengths = np.random.default_rng(0).integers(50, 400, size=2000).tolist()
    order = training_order(lengths, steps=125, rows_per_step=16, batch_size=4, seed=1)
    batches = np.array(lengths)[order].reshape(-1, 4)
    assert batches.sum() / (batches.max(axis=1) * 4).sum() > 0.98
    # Short and long batches follow each other at random: a batch's length does not correlate with the next one's.
    means = batches.mean(axis=1)[1:]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15
    assert order != training_order(lengths, steps=125, rows_per_step=16, batch_size=4, seed=2)
