"""Splits and samples depend only on the rows and the seed, and have the sizes that the settings ask for."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.row_splits import Lowest, bedrock_shares, dealer
from pipeline.catalogue import BASE_MODELS, BaseModel
from tests.unit.data_prep.conftest import LLAMA, NOVA

DIGESTS = st.lists(
    st.binary(min_size=16, max_size=16) | st.binary(max_size=15).map(lambda b: b.rjust(16, b"\xff")), unique=True
)


def digests(count: int, seed: int = 42) -> list[bytes]:
    return [blake2b(b"%d" % n, digest_size=16, salt=seed.to_bytes(16, "big")).digest() for n in range(count)]


def test_each_split_gets_its_ratio_of_the_rows() -> None:
    deal = dealer({"validation": 0.1, "test": 0.2}, ["train"])
    rows = Counter(map(deal, digests(5000)))
    assert 900 < rows["test"] < 1100
    assert 430 < rows["validation"] < 570


def test_a_digest_at_the_edge_of_a_share_is_in_one_split() -> None:
    deal = dealer({"validation": 0.25, "test": 0.5}, [])
    edges = [b"\x00" * 16, b"\x7f" + b"\xff" * 15, b"\x80" + b"\0" * 15, b"\xbf" + b"\xff" * 15, b"\xc0" + b"\0" * 15]
    assert [deal(edge) for edge in [*edges, b"\xff" * 16]] == [
        "test",
        "test",
        "validation",
        "validation",
        "train",
        "train",
    ]


def test_a_split_without_a_share_gets_nothing() -> None:
    deal = dealer({"validation": 0.0, "test": 0.0}, [])
    assert {deal(digest) for digest in [*digests(500), b"\0" * 16, b"\xff" * 16]} == {"train"}


def test_a_split_with_its_own_file_gets_nothing_from_train() -> None:
    deal = dealer({"validation": 0.3, "test": 0.3}, ["train", "test"])
    assert set(map(deal, digests(200))) == {"train", "validation"}
    deal = dealer({"validation": 0.3, "test": 0.3}, ["train", "test", "validation"])
    assert set(map(deal, digests(200))) == {"train"}


def test_a_split_whose_ratio_grows_keeps_its_rows() -> None:
    small, large = (
        {digest for digest in digests(500) if dealer({"validation": 0, "test": share}, [])(digest) == "test"}
        for share in (0.1, 0.2)
    )
    assert small < large


@given(DIGESTS, st.integers(1, 12), st.integers(1, 12) | st.none())
def test_the_lowest_digests_are_kept_in_reading_order(rows: list[bytes], size: int, fewer: int | None) -> None:
    lowest = Lowest(size)
    drawn: set[int] = set()
    for number, digest in enumerate(rows):
        drawn.add(number)
        left_out = lowest.add(digest, number)
        if left_out is not None:
            drawn.remove(left_out)
        wanted = sorted(range(number + 1), key=rows.__getitem__)[:size]
        assert drawn == set(wanted), "`add` returns at once the row that leaves the sample"
    wanted = sorted(range(len(rows)), key=rows.__getitem__)[:size]
    assert list(lowest.numbers()) == sorted(wanted)
    assert list(lowest.numbers(fewer)) == sorted(wanted[:fewer])


@given(st.permutations(digests(40)))
def test_a_sample_does_not_depend_on_the_order_of_the_rows(rows: list[bytes]) -> None:
    lowest = Lowest(7)
    for number, digest in enumerate(rows):
        lowest.add(digest, number)
    assert {rows[number] for number in lowest.numbers()} == set(sorted(digests(40))[:7])


@pytest.mark.parametrize(
    ("train", "validation", "model", "limit", "shares"),
    [
        (14731, 200, LLAMA, 10_000, (9800, 200)),
        (14731, 818, LLAMA, 3000, (2700, 300)),
        (4000, 2500, LLAMA, 10_000, (4000, 1000)),
        (14731, 2500, LLAMA, 10_000, (9000, 1000)),
        (4000, 2500, NOVA, 10_000, (4000, 2500)),
        (100, 50, LLAMA, 1000, (100, 50)),
        (60, 500, LLAMA, 100, (60, 40)),
        (500, 60, NOVA, 20, (12, 8)),
        (500, 60, LLAMA, 5, (4, 1)),
    ],
)
def test_validation_gets_a_tenth_of_the_limit_or_what_train_leaves(
    train: int, validation: int, model: str, limit: int, shares: tuple[int, int]
) -> None:
    found = bedrock_shares({"train": train, "validation": validation}, BASE_MODELS[model], limit)
    assert (found["train"], found["validation"]) == shares


@given(*[st.integers(1, 2000)] * 2, st.sampled_from(list(BASE_MODELS.values())), st.integers(0, 3000))
def test_shares_use_exactly_the_limit(train: int, validation: int, model: BaseModel, more: int) -> None:
    limit = model.min_records + more
    shares = bedrock_shares({"train": train, "validation": validation}, model, limit)
    assert sum(shares.values()) == min(train + min(validation, model.max_validation_records), limit)
    assert 0 < shares["train"] <= train
    assert 0 < shares["validation"] <= min(validation, model.max_validation_records)
    if min(train, validation) >= model.min_file_records:
        assert min(shares.values()) >= model.min_file_records
