"""Dealing and sampling depend on the row and the seed, and on nothing else."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import splits
from data_prep.checks import Accepted, Checks
from data_prep.rows import Row
from data_prep.splits import NEVER, Sample, bedrock_shares, bound, dealer, key
from pipeline.errors import Refused


def accepted(count: int, seed: int = 42) -> list[Accepted]:
    rows = [Checks(seed).fit(Row(number, f"dialogue {number}", "s")) for number in range(count)]
    return [row for row in rows if isinstance(row, Accepted)]


def sample(rows: list[Accepted], size: int) -> list[Accepted]:
    kept = Sample(size, "train")
    for row in rows:
        kept.add("a.csv", row)
    return [row for _, row in kept.rows()]


def test_rows_are_dealt_by_ratio() -> None:
    deal = dealer({"validation": 0.1, "test": 0.2}, ["train"])
    dealt = Counter(deal(row.dialogue_digest) for row in accepted(5000))
    assert 900 < dealt["test"] < 1100
    assert 430 < dealt["validation"] < 570


def test_dealing_follows_the_seed() -> None:
    deal = dealer({"validation": 0.3, "test": 0.3}, ["train"])
    one, two = ([deal(row.dialogue_digest) for row in accepted(100, seed)] for seed in (1, 2))
    assert one != two


def test_a_split_with_its_own_file_gets_nothing_from_train() -> None:
    deal = dealer({"validation": 0.3, "test": 0.3}, ["train", "test"])
    assert {deal(row.dialogue_digest) for row in accepted(200)} == {"train", "validation"}


def test_a_split_whose_ratio_grows_keeps_its_rows() -> None:
    rows = accepted(500)
    small, large = (
        {row.number for row in rows if dealer({"validation": 0, "test": share}, [])(row.dialogue_digest) == "test"}
        for share in (0.1, 0.2)
    )
    assert small < large


def test_a_sample_keeps_the_order_of_reading() -> None:
    numbers = [row.number for row in sample(accepted(1000), 50)]
    assert len(numbers) == 50
    assert numbers == sorted(numbers)
    assert numbers != list(range(50))


def test_a_sample_has_the_lowest_keys() -> None:
    rows = accepted(300)
    assert set(sample(rows, 20)) == set(sorted(rows, key=lambda row: key(row.digest))[:20])


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    rows = accepted(300)
    assert set(sample(rows, 20)) < set(sample(rows, 60))


def test_a_sample_of_more_than_there_is_keeps_all() -> None:
    rows = accepted(10)
    assert sample(rows, 11) == rows


@given(st.permutations(accepted(40)))
def test_a_sample_does_not_depend_on_the_order(rows: list[Accepted]) -> None:
    assert set(sample(rows, 7)) == set(sample(accepted(40), 7))


def test_a_sample_that_grows_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "HELD_BYTES", 500)
    rows = accepted(1000)
    assert len(sample(rows, 20)) == 20, "what was given up no longer counts"
    with pytest.raises(Refused, match=r"dataset.max_rows.train: choosing 100 rows"):
        sample(rows, 100)


def test_bedrock_draws_the_lowest_keys_and_never_what_it_cannot_take() -> None:
    keys = array("Q", [5, NEVER, 3, 9, 1])
    assert bound(keys, 2) == 3
    assert bound(keys, 4) == 9
    assert bound(keys, 9) == 9
    assert bound(keys, 0) == bound(array("Q", [NEVER]), 1) == -1


@pytest.mark.parametrize(
    ("train", "validation", "limit", "shares"),
    [
        (14731, 200, 10_000, (9800, 200)),
        (14731, 818, 3000, (2700, 300)),
        (100, 50, 1000, (100, 50)),
        (60, 500, 100, (60, 40)),
        (500, 60, 5, (4, 1)),
    ],
)
def test_validation_takes_a_tenth_or_what_train_leaves(
    train: int, validation: int, limit: int, shares: tuple[int, int]
) -> None:
    found = bedrock_shares({"train": train, "validation": validation}, limit)
    assert (found["train"], found["validation"]) == shares


@given(*[st.integers(1, 2000)] * 2, st.integers(2, 3000))
def test_shares_use_the_whole_limit_and_no_more(train: int, validation: int, limit: int) -> None:
    shares = bedrock_shares({"train": train, "validation": validation}, limit)
    assert sum(shares.values()) == min(train + validation, limit)
    assert 0 < shares["train"] <= train
    assert 0 < shares["validation"] <= validation
