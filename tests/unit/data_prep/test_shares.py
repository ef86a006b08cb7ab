"""The share of rows that may be unfit (dataset.max_rejected_share), exactly at it and just above, and the remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.data_prep.conftest import (
    BUCKET,
    NOVA,
    csv_bytes,
    dialogues,
    keys,
    listed,
    make_event,
    prepared,
    records,
    refusal,
    with_bedrock,
)
from tests.unit.data_prep.sharded import cut, prepare_in_shards, shards

if TYPE_CHECKING:
    from collections.abc import Callable


def test_exactly_the_share_is_allowed_and_one_row_more_is_refused(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    event = make_event(output, max_rejected_share=0.05)
    put("uploads/data.csv", csv_bytes([*dialogues(95), *[("x", "", "s")] * 5]))
    assert prepared(event)["counts"]["rejected"] == 5

    event["request"]["output"] += "again/"
    put("uploads/data.csv", csv_bytes([*dialogues(95), *[("x", "", "s")] * 4, ("y", "d", ""), ("z", "a\x01", "s")]))
    assert refusal(event) == (
        "dataset: 6 (dialogue is empty: 4, summary is empty: 1, control character U+0001: 1) of 101 rows are not fit, more "
        f"than the share of 0.05, listed in s3://{BUCKET}/{output}again/rejected.jsonl; mend them, or raise "
        "dataset.max_rejected_share"
    )
    assert keys(s3, output + "again/") == {"rejected.jsonl"}
    assert [(line["row"], line["from"]) for line in records(get(output + "again/rejected.jsonl"))] == [
        (row, "all") for row in range(96, 102)
    ]
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_blank_lines_do_not_count_as_unfit_rows(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    event = make_event(output, max_rejected_share=0.0)
    # Python's csv module writes such line ends on Windows, to a file that was opened without newline="".
    put("uploads/data.csv", csv_bytes(dialogues(50)).replace(b"\r\nB", b"\nB").replace(b"\r\n", b"\r\r\n"))
    answer = prepared(event)
    assert (
        answer["counts"]["rejected"],
        sum(answer["counts"][split] for split in ("train", "validation", "test")),
    ) == (51, 50)
    assert {line["reason"] for line in records(get(output + "rejected.jsonl"))} == {"blank line"}
    put("uploads/data.csv", b"id,dialogue,summary\r\r\n" + b"1,a\xe4,s\r\r\n" * 50)
    assert "set dataset.csv.encoding" in refusal(event)
    put("uploads/data.csv", b"id,dialogue,summary\r\r\n\r\r\n")
    assert refusal(event).startswith("dataset: the source has no rows")


def test_duplicates_and_leaks_count_as_unfit_rows(output: str, put: Callable[[str, bytes], None]) -> None:
    event = make_event(output, max_rejected_share=0.0)
    put("uploads/data.csv", csv_bytes(dialogues(50)))
    assert prepared(event)["counts"]["rejected"] == 0
    put("uploads/data.csv", csv_bytes([*dialogues(50), *dialogues(1)]))
    assert refusal(event).startswith("dataset: 1 (duplicate of an accepted row: 1) of 51 rows are not fit, more than ")


def test_bedrock_must_take_the_same_share_of_its_rows(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    # Bedrock gets rows of train and validation only. The rows of test do not count; they have a file of their own.
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
    assert refusal(event) == (
        f"bedrock: {NOVA} does not take 6 (holds User:: 6) of 101 rows, more than the share of 0.05, listed in "
        f"s3://{BUCKET}/{output}again/rejected.jsonl; mend them, raise dataset.max_rejected_share, choose another "
        "bedrock.base_model, or set bedrock.mode to import or off"
    )
    assert keys(s3, output + "again/") == {"rejected.jsonl"}
    assert {line["from"] for line in records(get(output + "again/rejected.jsonl"))} == {"bedrock"}


@pytest.mark.parametrize("more", [{}, {"validation": "uploads/more.csv"}])
def test_a_source_without_any_row_is_refused(
    output: str, put: Callable[[str, bytes], None], more: dict[str, str]
) -> None:
    event = make_event(output, files={"train": "uploads/data.csv", **more}, max_rejected_share=0.05)
    for key in ("uploads/data.csv", "uploads/more.csv"):
        put(key, csv_bytes([]))
    assert refusal(event) == (
        "dataset: the source has no rows (headers at most); add rows, or name other files in dataset.source"
    )


GOOD = dialogues(60)
BLANK = [(str(n), "", "s") for n in range(60)]
LONG = [(str(n), f"{n} " + "x" * 70_000, "s") for n in range(60)]
ONE = [(str(n), "Summarize.", f"s {n}") for n in range(100)]


@pytest.mark.parametrize(
    ("rows", "files", "share", "remedy"),
    [
        (GOOD[:57] + BLANK[:3], {}, 0.01, "; mend them, or raise dataset.max_rejected_share"),
        (GOOD[:57] + LONG[:3], {}, 0.01, "; mend them, raise training.max_length, or raise dataset.max_rejected_share"),
        # Some split would have no fit row. A higher share would only lead to the next refusal.
        (BLANK, {}, 0.01, "; mend them, or name other columns in dataset.fields"),
        (GOOD[:1] + BLANK, {}, 0.01, "; mend them, or name other columns in dataset.fields"),
        (LONG, {}, 0.01, "; mend them, or raise training.max_length"),
        (BLANK, {}, 1.0, "; mend them, or name other columns in dataset.fields"),
        (LONG, {}, 1.0, "; mend them, or raise training.max_length"),
        (
            ONE,
            {},
            0.01,
            "; almost all of the 100 rows that are fit have the same dialogue, and such rows stay "
            "in one split: name the column that differs from row to row in dataset.fields.dialogue",
        ),
        (GOOD[:1], {}, 0.01, "; mend or add rows, or "),
        (GOOD, {"validation": []}, 0.01, "; mend or add rows in its files (dataset.files.validation)"),
        (GOOD, {"test": BLANK[:1]}, 1.0, "; mend or add rows in its files (dataset.files.test)"),
        (
            BLANK,
            {"validation": GOOD, "test": dialogues(9, 100)},
            1.0,
            "; mend or add rows in its files (dataset.files.train)",
        ),
    ],
)
def test_the_remedy_for_too_few_rows_helps(
    output: str,
    put: Callable[[str, bytes], None],
    rows: list[tuple[str, str, str]],
    files: dict[str, list[tuple[str, str, str]]],
    share: float,
    remedy: str,
) -> None:
    for name, inside in {"train": rows, **files}.items():
        put(f"uploads/{name}.csv", csv_bytes(inside))
    named = {name: f"uploads/{name}.csv" for name in ("train", *files)}
    line = refusal(make_event(output, f"s3://{BUCKET}/uploads/", named, max_rejected_share=share))
    assert f"{output}rejected.jsonl" in line
    assert remedy in line
    if not remedy.endswith("or "):
        assert line.endswith(remedy)


def test_the_remedy_for_a_column_that_a_shard_does_not_have_is_another_column(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/a.jsonl", b'{"dialogue": "a", "text": "s"}\n' * 9)
    event["pieces"] = [{"file": "uploads/a.jsonl", "split": "train"}]
    event["request"]["dataset"]["format"] = "columns"
    event = listed(event)
    parts = shards(cut(event["pieces"], [0.4]), [1])
    assert prepare_in_shards(event, parts)["refused"].endswith("; mend them, or name other columns in dataset.fields")


def test_the_remedy_for_columns_without_text_is_columns_of_text(
    event: dict[str, Any], put: Callable[[str, bytes], None]
) -> None:
    put("uploads/a.jsonl", b'{"dialogue": [{"speaker": "Ann", "text": "a"}], "summary": "s"}\n' * 9)
    event["pieces"] = [{"file": "uploads/a.jsonl", "split": "train"}]
    assert refusal(event).endswith("; name two columns of text in dataset.fields, or write the values of these as text")


def test_the_remedy_of_bedrocks_refusals_helps(output: str, put: Callable[[str, bytes], None]) -> None:
    event = with_bedrock(make_event(output), NOVA)
    put("uploads/data.csv", csv_bytes([(str(n), f"USER: {n}", "s") for n in range(100)]))
    event["request"]["dataset"]["max_rejected_share"] = 0.5
    assert refusal(event).endswith(
        "; mend them, choose another bedrock.base_model, or set bedrock.mode to import or off"
    )
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    event["request"]["dataset"]["max_rows"]["train"] = 5
    assert "needs 16 records, train and validation together, and at least 8 of each, and gets 5 + " in refusal(event)
    assert refusal(event).endswith("; add rows, raise dataset.max_rows, or set bedrock.mode to import or off")
    event["request"]["dataset"]["max_rows"]["train"] = None
    put("uploads/data.csv", csv_bytes(dialogues(14)))
    assert refusal(event).endswith("; add rows, raise dataset.ratios.validation, or set bedrock.mode to import or off")
