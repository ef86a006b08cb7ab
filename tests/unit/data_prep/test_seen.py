"""The table that remembers rows, compared with Python's sets, and its size."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import seen
from data_prep.errors import TooManyRows
from data_prep.seen import ENTRY_BYTES, Seen

# Few digests, some of which collide at the table's last places: most examples have duplicates, leaks and collisions.
DIGEST = st.sampled_from([bytes([n]) * 16 for n in range(1, 9)] + [b"\xff" * 7 + bytes([n]) * 9 for n in range(1, 9)])
ROWS = st.lists(st.tuples(st.sampled_from(["test", "validation", "train"]), DIGEST, DIGEST), max_size=60)


@pytest.fixture(autouse=True)
def a_small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "ROWS", 0)


def digest(number: int) -> bytes:
    """Return a digest. Of the twelve bytes that the table keeps, the first eight are the number."""
    return number.to_bytes(8, "big") + b"same" + number.to_bytes(4, "big")


@given(ROWS, st.sets(st.sampled_from(["test", "validation", "train"])))
def test_the_same_rows_are_new_as_with_sets(rows: list[tuple[str, bytes, bytes]], own_files: set[str]) -> None:
    table, texts, dialogues = Seen(own_files, 120), set[bytes](), dict[bytes, set[str]]()
    for split, dialogue, both in rows:
        others = [
            other
            for other in ("test", "validation")
            if other in own_files and other != split and other in dialogues.get(dialogue, set())
        ]
        if others:
            wanted = f"same dialogue in {others[0]}"
        elif both in texts:
            wanted = "duplicate of an accepted row"
        else:
            wanted = None
            texts.add(both)
            dialogues.setdefault(dialogue, set()).add(split)
        assert table.why_not_new(split, dialogue, both) == wanted


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 1000])
def test_the_table_takes_as_many_rows_as_it_was_made_for(rows: int) -> None:
    table = Seen([], rows)
    assert [table.why_not_new("train", digest(n), digest(n)) for n in range(1, rows + 1)] == [None] * rows
    assert table.why_not_new("train", digest(1), digest(1)) == "duplicate of an accepted row"
    with pytest.raises(TooManyRows):
        for number in range(rows + 1, 2 * rows + 5):
            table.why_not_new("train", digest(number), digest(number))


def test_a_full_table_raises_an_error() -> None:
    table = Seen(["test"], 30)
    with pytest.raises(TooManyRows):
        for number in range(1, 100):
            table.why_not_new("test", digest(number), digest(number + 1000))


def test_the_table_takes_all_its_memory_at_once() -> None:
    tracemalloc.start()
    try:
        table = Seen(["test"], 20_000)
        taken, _ = tracemalloc.get_traced_memory()
        for number in range(1, 20_001):
            table.why_not_new("train", digest(number), digest(number))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 20_000 * ENTRY_BYTES < taken < 20_000 * 17
    assert grown - taken < 2000, "only the table takes memory"
