"""Cuts a dataset: into whole files for one function, or into shards of similar size for many functions at once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.contracts.data import Piece, Shard
from pipeline.errors import Refused, quoted
from pipeline.source.formats import FORMATS, MB, format_of
from pipeline.source.splits import READ_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.source.splits import File

MOST_FILES = 100
"""The most files of one function. Each costs at least one request, and the state's input (256 KiB) lists all of them."""

MOST_SHARDS = 400
"""The most shards. One state's result of 256 KiB holds all of their results, so each has 655 bytes. An error's text takes 200
of them (`infra.data_states`)."""

LARGEST = max(one.largest for one in FORMATS)
_SHOWN = 100
"""The most characters of a file's name in the name of a shard, for the same reason: a key may have 1,024 bytes."""


def cut(files: Mapping[str, Sequence[File]], size: int | None = None) -> list[Piece]:
    """Return the files in reading order as pieces.

    A divisible file that is larger than `size` bytes becomes equal parts of at most this size.

    Raises:
        Refused: a file is too large for one function and cannot be divided.
    """
    pieces = []
    for split in READ_ORDER:
        for file in sorted(files.get(split, [])):
            parts, of = 1, format_of(file.name)
            if of is None or not of.divisible:
                _check_size(file, of.largest if of else LARGEST)
            elif size and file.bytes:
                parts = -(-file.bytes // size)
            bounds = [file.bytes * part // parts for part in range(parts + 1)]
            pieces += [Piece(file.name, split, file.bytes, file.etag, start, end) for start, end in pairwise(bounds)]
    return pieces


def _check_size(file: File, largest: int) -> None:
    if file.bytes > largest:
        raise Refused(
            f"dataset.source: {quoted(file.name)} has {megabytes(file.bytes)} and cannot be divided, and one function reads at "
            f"most {megabytes(largest)} of this format; write it as uncompressed JSONL or as Parquet, or as several files"
        )


def shard(files: Mapping[str, Sequence[File]], shard_mb: int) -> list[Shard] | None:
    """Return the shards of a source, or None if one function can read it.

    A source is sharded if it is larger than `shard_mb` or has more than `MOST_FILES` files. A shard has at most `shard_mb`
    (unless its only piece cannot be divided) and at most `MOST_FILES` pieces. If that makes more than `MOST_SHARDS` shards,
    the shards become larger.

    Raises:
        Refused: a file cannot be cut (`cut`), or the whole source is too large.
    """
    size = shard_mb * MB
    whole = [file for split in files.values() for file in split]
    if sum(file.bytes for file in whole) <= size and len(whole) <= MOST_FILES:
        return None
    while True:
        groups = _group(cut(files, size), size)
        if len(groups) <= MOST_SHARDS:
            return [Shard(number, _name(group), group) for number, group in enumerate(groups)]
        size += size // 4 + 1
        if size > LARGEST:
            raise Refused(
                f"dataset.source: {megabytes(sum(file.bytes for file in whole))} are more than {MOST_SHARDS} functions can "
                "read; name fewer files in dataset.files"
            )


def _group(pieces: Sequence[Piece], size: int) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    remaining = 0
    for piece in pieces:
        length = piece.end - piece.start
        if not groups or length > remaining or len(groups[-1]) == MOST_FILES:
            groups.append([])
            remaining = size
        groups[-1].append(piece)
        remaining -= length
    return groups


def _name(pieces: Sequence[Piece]) -> str:
    name = pieces[0].name
    shown = name if len(name) <= _SHOWN else f"...{name[-_SHOWN:]}"
    return f"{shown} and {len(pieces) - 1} more" if len(pieces) > 1 else shown


def megabytes(count: int) -> str:
    """Return a number of bytes in MB (10^6), with one decimal below 100 MB."""
    return f"{count / MB:.{0 if count >= 100 * MB else 1}f} MB"
