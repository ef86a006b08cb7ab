"""How many rows may be unfit: dataset.max_rejected_share, exactly at it and just above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.data_prep.conftest import (
    BUCKET,
    NOVA,
    csv_bytes,
    dialogues,
    keys,
    make_event,
    prepared,
    records,
    refused,
    with_bedrock,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_exactly_the_share_is_allowed_and_a_row_more_is_not(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    event = make_event(output, max_rejected_share=0.05)
    put("uploads/data.csv", csv_bytes([*dialogues(95), *[("x", "", "s")] * 5]))
    assert prepared(event)["counts"]["rejected"] == 5

    event["request"]["output"] += "again/"
    put("uploads/data.csv", csv_bytes([*dialogues(95), *[("x", "", "s")] * 4, ("y", "d", ""), ("z", "a\x01", "s")]))
    assert refused(event) == (
        "dataset: 6 (dialogue is empty: 4, summary is empty: 1, control character U+0001: 1) of 101 rows are not fit, more "
        f"than the share of 0.05, listed in s3://{BUCKET}/{output}again/rejected.jsonl; mend them, or raise "
        "dataset.max_rejected_share"
    )
    assert keys(s3, output + "again/") == {"rejected.jsonl"}
    assert [(line["row"], line["from"]) for line in records(get(output + "again/rejected.jsonl"))] == [
        (row, "all") for row in range(96, 102)
    ]
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_duplicates_and_leaks_count_as_well(output: str, put: Callable[[str, bytes], None]) -> None:
    event = make_event(output, max_rejected_share=0.0)
    put("uploads/data.csv", csv_bytes(dialogues(50)))
    assert prepared(event)["counts"]["rejected"] == 0
    put("uploads/data.csv", csv_bytes([*dialogues(50), *dialogues(1)]))
    assert refused(event).startswith("dataset: 1 (duplicate of an accepted row: 1) of 51 rows are not fit, more than ")


def test_what_bedrock_does_not_take_has_the_same_share_of_what_it_is_offered(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    # Bedrock is offered train and validation alone: all but the test split, which has a file of its own.
    event = make_event(
        output,
        f"s3://{BUCKET}/shares/",
        {"train": "shares/train.csv", "test": "shares/test.csv"},
        max_rejected_share=0.05,
    )
    event = with_bedrock(event, NOVA)
    words = [(str(n), f"User: {n}", "s") for n in range(6)]
    put("shares/test.csv", csv_bytes([*dialogues(10, 1000), *[(str(n), f"User: {n} test", "s") for n in range(10)]]))
    put("shares/train.csv", csv_bytes([*dialogues(95), *words[:5]]))
    assert prepared(event)["counts"]["rejected"] == 0

    event["request"]["output"] += "again/"
    put("shares/train.csv", csv_bytes([*dialogues(95), *words]))
    assert refused(event) == (
        f"bedrock: {NOVA} does not take 6 (holds User:: 6) of 101 rows, more than the share of 0.05, listed in "
        f"s3://{BUCKET}/{output}again/rejected.jsonl; mend them, raise dataset.max_rejected_share, choose another "
        "bedrock.base_model, or set bedrock.enabled to false"
    )
    assert keys(s3, output + "again/") == {"rejected.jsonl"}
    assert {line["from"] for line in records(get(output + "again/rejected.jsonl"))} == {"bedrock"}


def test_a_source_without_any_row_is_refused_for_that(output: str, put: Callable[[str, bytes], None]) -> None:
    event = make_event(output, max_rejected_share=0.05)
    put("uploads/data.csv", csv_bytes([]))
    assert refused(event).startswith("dataset: no row is left for train (0 rows read, 0 rejected, listed in")
