"""A real dataset: DialogSum's development split (JSON Lines). It runs only if the variable DIALOGSUM names its file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.unit.data_prep.conftest import make_event, prepared, records, with_bedrock

if TYPE_CHECKING:
    from collections.abc import Callable

DIALOGSUM = os.environ.get("DIALOGSUM")


@pytest.mark.skipif(not DIALOGSUM, reason="DIALOGSUM names no file: set it to DialogSum's dialogsum.dev.jsonl")
def test_each_row_of_dialogsum_is_written_or_rejected(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    assert DIALOGSUM
    data = Path(DIALOGSUM).read_bytes()
    put("uploads/dialogsum.jsonl", data)
    event = make_event(output, "s3://data-prep-tests/uploads/dialogsum.jsonl", ratios={"validation": 0.1, "test": 0.1})
    answer = prepared(with_bedrock(event))
    counts = answer["counts"]
    splits = ("train", "validation", "test")
    assert sum(counts[split] for split in splits) + counts["rejected"] == len(data.splitlines()) == 500
    assert counts["train"] > 350
    assert counts["bedrock_train"] == counts["train"]
    source = {(row["dialogue"], row["summary"]) for row in records(data)}
    for split in splits:
        for line in get(f"{output}{split}/{split}.jsonl").splitlines():
            _, user, assistant = orjson.loads(line)["messages"]
            assert (user["content"], assistant["content"]) in source
