"""Files are cut into pieces, and pieces are put into shards: each byte once, in order, and no shard too large."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Refused
from pipeline.source.shards import MB, MOST_FILES, MOST_SHARDS, Piece, cut, shard
from pipeline.source.splits import READ_ORDER, File

_SUFFIXES = st.sampled_from([".jsonl", ".parquet", ".csv", ".json", ".jsonl.gz", ".csv.zst", ".JSONL"])
_SIZES = st.integers(0, 900 * MB) | st.integers(0, 3)


@st.composite
def sources(draw: st.DrawFn) -> dict[str, list[File]]:
    """Draw files by split, each with its own name."""
    drawn = draw(st.lists(st.tuples(st.sampled_from(READ_ORDER), _SUFFIXES, _SIZES), min_size=1, max_size=250))
    files: dict[str, list[File]] = {}
    for number, (split, suffix, size) in enumerate(drawn):
        files.setdefault(split, []).append(File(f"{number * 7919 % 251}-{number}{suffix}", size, str(number)))
    return files


def divisible(piece: Piece) -> bool:
    return piece.file.lower().endswith((".jsonl", ".parquet"))


@given(files=sources(), size=st.integers(1, 900))
def test_pieces_cover_each_file_once_and_in_reading_order(files: dict[str, list[File]], size: int) -> None:
    pieces = cut(files, size * MB)
    expected = [(split, file) for split in READ_ORDER for file in sorted(files.get(split, []))]
    found: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        found.setdefault((piece.split, piece.file), []).append(piece)
    assert list(found) == [(split, file.name) for split, file in expected]
    for (_, file), parts in zip(expected, found.values(), strict=True):
        assert {(part.bytes, part.etag) for part in parts} == {(file.bytes, file.etag)}
        assert (parts[0].start, parts[-1].end) == (0, file.bytes)
        assert all(before.end == after.start for before, after in pairwise(parts))
        assert all(part.start < part.end for part in parts) or not file.bytes
        assert all(part.end - part.start <= size * MB for part in parts if divisible(part))
        assert len(parts) == (-(-file.bytes // (size * MB)) or 1 if divisible(parts[0]) else 1)
    assert len(pieces) == sum(map(len, found.values()))
    # The parts of a file are next to each other.
    assert pieces == [piece for parts in found.values() for piece in parts]


@given(files=sources(), size=st.integers(1, 900))
def test_shards_have_the_pieces_in_their_order_and_none_is_too_large(files: dict[str, list[File]], size: int) -> None:
    shards = shard(files, size)
    all_files = [file for of_split in files.values() for file in of_split]
    total = sum(file.bytes for file in all_files)
    if shards is None:
        assert total <= size * MB
        assert len(all_files) <= MOST_FILES
        return
    assert total > size * MB or len(all_files) > MOST_FILES
    assert [one.number for one in shards] == list(range(len(shards)))
    assert len(shards) <= MOST_SHARDS
    joined = [piece for one in shards for piece in one.pieces]
    used = size * MB
    while joined != cut(files, used):  # shards are larger if there would be too many
        used += used // 4 + 1
        assert used < 10**13
    for one in shards:
        assert one.pieces
        assert len(one.pieces) <= MOST_FILES
        fits = sum(piece.end - piece.start for piece in one.pieces) <= used
        assert fits or (len([p for p in one.pieces if p.bytes]) == 1 and not divisible(one.pieces[0]))
    # No two files side by side would fit into one shard.
    for before, after in pairwise(shards):
        free = used - sum(piece.end - piece.start for piece in before.pieces)
        assert len(before.pieces) == MOST_FILES or after.pieces[0].end - after.pieces[0].start > free


def test_a_large_file_is_cut_and_named_by_its_bytes_and_small_files_share_a_shard() -> None:
    small = [File(f"{number:03}.csv", 10, "e") for number in range(150)]
    shards = shard({"test": small[:1], "train": [*small[1:], File("big.jsonl", 2_500_000, "e")]}, 1)
    assert shards is not None
    assert [one.name for one in shards] == [
        "000.csv and 99 more",
        "100.csv and 50 more",
        "big.jsonl, bytes 833333 to 1666666",
        "big.jsonl, bytes 1666666 to 2500000",
    ]
    assert json.loads(json.dumps(shards[1].pieces[-1]._asdict())) == {
        "file": "big.jsonl",
        "split": "train",
        "bytes": 2_500_000,
        "etag": "e",
        "start": 0,
        "end": 833_333,
    }


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ([("a.csv", 256 * MB)], None),
        ([("a.csv", 256 * MB + 1)], 1),
        ([("a.jsonl", 256 * MB + 1)], 2),
        ([(f"{n}.csv", 1) for n in range(100)], None),
        ([(f"{n}.csv", 1) for n in range(101)], 2),
        ([("a.jsonl", 5120 * MB)], 20),
        ([("a.jsonl", 1_000_000 * MB)], 336),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_one_function_is_enough_up_to_shard_mb_and_a_hundred_files(files: list[tuple[str, int]], count: Any) -> None:
    shards = shard({"train": [File(name, size, None) for name, size in files]}, 256)
    assert (shards and len(shards)) == count


def test_the_results_of_the_most_shards_fit_into_one_state() -> None:
    folder = "\N{GRINNING FACE}" * 250
    shards = shard({"train": [File(f"{folder}/{n:03}.csv", 10**9, None) for n in range(MOST_SHARDS)]}, 999)
    assert shards is not None
    assert len({one.name for one in shards}) == len(shards) == MOST_SHARDS
    failed = [{"shard": one.name, "error": "x" * 222} for one in shards]
    assert len(json.dumps(failed, ensure_ascii=False, separators=(",", ":")).encode()) <= 262_144


def test_a_source_that_is_too_large_for_the_most_shards_is_refused() -> None:
    with pytest.raises(Refused, match=r"2560000 MB are more than 400 functions can read; name fewer files"):
        shard({"train": [File("a.jsonl", 2_560_000 * MB, None)]}, 256)


@pytest.mark.parametrize(
    ("name", "most"),
    [("a.csv", 4000), ("a.json", 4000), ("a.jsonl.gz", 1000), ("A.CSV.ZST", 1000)],
)
def test_an_indivisible_file_that_is_too_large_is_refused_with_the_remedy(name: str, most: int) -> None:
    assert len(shard({"train": [File(name, most * MB, None)]}, 256) or []) == 1
    with pytest.raises(Refused) as refused:
        shard({"train": [File(name, most * MB + MB, None)]}, 256)
    assert str(refused.value) == (
        f"dataset.source: '{name}' has {most + 1} MB and cannot be divided, and one function reads at most {most} MB of this "
        "format; write it as uncompressed JSONL or as Parquet, or as several files"
    )
