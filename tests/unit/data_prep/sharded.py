"""Cuts a dataset into shards, reads them one by one and merges them, as the state machine does it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from data_prep.handler import merge, shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PieceDocument = dict[str, Any]


def cut(pieces: Iterable[PieceDocument], places: Iterable[float]) -> list[PieceDocument]:
    """Cut each piece that can be cut at these shares of its bytes, and return all pieces."""
    found = []
    for piece in pieces:
        bounds = [0, piece["bytes"]]
        if piece["file"].endswith((".jsonl", ".parquet")):
            inner = {int(place * piece["bytes"]) for place in places} - {0, piece["bytes"]}
            bounds = [0, *sorted(inner), piece["bytes"]]
        found += [{**piece, "start": start, "end": end} for start, end in itertools.pairwise(bounds)]
    return found


def shards(pieces: Sequence[PieceDocument], groups: Iterable[int]) -> list[dict[str, Any]]:
    """Return the pieces as shards. A new shard begins at each index of `groups`."""
    bounds = sorted({0, *(place for place in groups if 0 < place < len(pieces)), len(pieces)})
    return [
        {"number": number, "name": f"shard {number}", "pieces": list(pieces[start:end])}
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    ]


def with_output(event: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return the event with another output folder, below its own."""
    request = event["request"]
    return {**event, "request": {**request, "output": request["output"] + folder}}


def read_all(event: Mapping[str, Any], all_shards: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read each shard, and return the results as the map would."""
    return [shard({"request": event["request"], "shard": one}, None) for one in all_shards]


def merged(
    event: Mapping[str, Any], count: int, failed: Sequence[dict[str, str]] = (), mapped_at: int = 0, redrive: int = 0
) -> dict[str, Any]:
    """Return the answer of the merge."""
    results = {"failed": list(failed), "mapped_at_redrive": mapped_at, "redrive": redrive}
    return merge({"request": event["request"], "shards": count, **results}, None)


def prepare_in_shards(event: Mapping[str, Any], all_shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Read all shards and merge them."""
    results = read_all(event, all_shards)
    return merged(event, len(all_shards), [result for result in results if "read" not in result])


def three_shards(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the file of the fixture `small` in three shards."""
    return shards(cut(event["pieces"], [0.3, 0.6]), range(3))
