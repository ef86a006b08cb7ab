"""The merge with shards that failed, are missing or damaged, or have more rows than it can take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from data_prep import merge as merge_module
from data_prep import seen
from data_prep.errors import ReadBackError, ShardFailed
from data_prep.handler import handler, merge
from pipeline.aws import AwsBusy, AwsRefused
from tests.unit.data_prep.conftest import (
    BUCKET,
    csv_bytes,
    dialogues,
    keys,
    listed,
    make_event,
)
from tests.unit.data_prep.dirty import FORMATS, some_rows
from tests.unit.data_prep.sharded import merged, prepare_in_shards, read_all, shards, three_shards, with_output
from tests.unit.data_prep.test_refusals import failing

if TYPE_CHECKING:
    from collections.abc import Callable


FAILED = {"shard": "shard 1", "error": "Sandbox.Timedout: Task timed out after 900.00 seconds"}


def test_a_shard_that_failed_fails_the_merge_with_its_name(s3: Any, small: dict[str, Any], output: str) -> None:
    read_all(small, three_shards(small)[:1])
    with pytest.raises(ShardFailed) as caught:
        merged(small, 3, [FAILED])
    assert str(caught.value) == (
        "shard 'shard 1' failed: Sandbox.Timedout: Task timed out after 900.00 seconds; a redrive reads it again"
    )
    with pytest.raises(ShardFailed, match=r"'shard 1' failed: .* \(and 2 more\); a redrive"):
        merged(small, 3, [FAILED, {**FAILED, "shard": "shard 2"}, {**FAILED, "shard": "shard 0"}])
    with pytest.raises(ShardFailed):
        merged(small, 3, [FAILED], mapped_at=2, redrive=2)
    assert keys(s3, output) == set()


def test_after_a_redrive_the_shards_that_failed_are_read_again(s3: Any, small: dict[str, Any]) -> None:
    read_all(small, three_shards(small)[:1])
    assert merged(small, 3, [FAILED], mapped_at=0, redrive=1) == {"again": True}
    assert merged(small, 3, [FAILED], mapped_at=1, redrive=3) == {"again": True}
    # The map runs again, and reads only the shards without a report.
    read_all(small, three_shards(small))
    assert merged(small, 3, [], mapped_at=1, redrive=1)["refused"] is None
    assert merged(small, 3, [], mapped_at=1, redrive=2)["refused"] is None, (
        "a redrive after a failed merge merges again"
    )


def test_a_shards_refusal_is_the_answer_even_if_other_shards_failed(
    s3: Any, small: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/small.jsonl", FORMATS["jsonl"](some_rows(301)))
    results = read_all(small, three_shards(small))
    line = f"dataset.source: s3://{BUCKET}/uploads/small.jsonl has changed since this run was planned; start a new execution"
    assert results == [{"shard": f"shard {n}", "refused": line} for n in range(3)]
    assert merged(small, 3, [FAILED, results[2]]) == {"refused": line}
    assert keys(s3, output) == keys(s3, f"shards/{output}") == set()


def test_a_missing_shard_is_an_error(s3: Any, small: dict[str, Any], output: str) -> None:
    read_all(small, three_shards(small)[:2])
    with pytest.raises(ReadBackError, match=rf"s3://{BUCKET}/shards/{output}00002/report.json does not exist"):
        merged(small, 3)


def damage(data: bytes, how: str) -> bytes:
    """Return `data` with damage of one kind."""
    match how:
        case "empty":
            return b""
        case "cut":
            return data[:-1]
        case "half":
            return data[: len(data) // 2]
        case "longer":
            return data + data[-1:]
        case "twice":
            return data + data
        case "first byte":
            return bytes([data[0] ^ 9]) + data[1:]
        case "last byte":
            return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    raise AssertionError(how)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ('{"errorMessage": "no \\"room\\"", "errorType": "OSError", "requestId"', r"OSError: no \"room\"; a redrive"),
        ('{"errorMessage":"cut in the mid', "OSError: cut in the mid; a redrive"),
        ("plain: text", "OSError: plain: text; a redrive"),
        ("", "OSError: ; a redrive"),
    ],
)
def test_the_error_has_the_functions_message(small: dict[str, Any], cause: str, message: str) -> None:
    with pytest.raises(ShardFailed) as caught:
        merged(small, 3, [{"shard": "a", "error": f"OSError: {cause}"}])
    assert message in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "cut", "half", "longer", "twice", "first byte", "last byte"])
@pytest.mark.parametrize("name", ["marks", "rows.jsonl"])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_damaged_work_file_is_an_error_and_leaves_no_files(
    s3: Any,
    small: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
    name: str,
    how: str,
    sampled: bool,
) -> None:
    small["request"]["dataset"]["max_rows"]["train"] = 50 if sampled else None
    read_all(small, three_shards(small))
    key = f"shards/{output}00001/{name}"
    put(key, damage(get(key), how))
    with pytest.raises(ReadBackError, match=f"s3://{BUCKET}/shards/{output}00001/"):
        merged(small, 3)
    assert keys(s3, output) == set()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_more_rows_than_a_merge_can_take_are_refused(
    s3: Any, small: dict[str, Any], output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all(small, three_shards(small))
    monkeypatch.setattr(merge_module, "MOST_ROWS", 299)
    assert merged(small, 3) == {
        "refused": "dataset: 300 rows are more than a merge can take (299); give it fewer or smaller files"
    }
    assert keys(s3, output) == set()
    monkeypatch.setattr(merge_module, "MOST_ROWS", 300)
    assert merged(small, 3)["refused"] is None


@pytest.mark.parametrize("count", [7, 8, 9, 100])
def test_the_table_of_the_merge_is_large_enough_for_each_row(
    s3: Any, output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    # A row of a held-out split takes two places in the table, and none of these rows is a duplicate.
    monkeypatch.setattr(seen, "ROWS", 0)
    names = {split: f"{output}in/{split}.csv" for split in ("train", "validation", "test")}
    for number, name in enumerate(names.values()):
        put(name, csv_bytes(dialogues(count, number * 1000)))
    event = listed(make_event(output, f"s3://{BUCKET}/{output}in/", names))
    answer = prepare_in_shards(event, shards(event["pieces"], range(3)))
    assert answer["counts"]["train"] == answer["counts"]["test"] == count


def test_a_refusal_of_all_rows_together_is_that_of_one_function(
    s3: Any, small: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    small["request"]["dataset"]["max_rejected_share"] = 0.05
    line = handler(small, None)["refused"]
    assert "more than the share of 0.05" in line
    answer = prepare_in_shards(with_output(small, "again/"), three_shards(small))
    assert answer == {"refused": line.replace(output, output + "again/")}
    assert keys(s3, output) == {"rejected.jsonl", "again/rejected.jsonl"}
    assert get(output + "rejected.jsonl") == get(output + "again/rejected.jsonl")


def test_the_merge_raises_failures_of_aws(s3: Any, small: dict[str, Any]) -> None:
    read_all(small, three_shards(small))
    event = {"request": small["request"], "shards": 3, "failed": [], "mapped_at_redrive": 0, "redrive": 0}
    for operation, key, code in [
        ("GetObject", "/report.json", "AccessDenied"),
        ("GetObject", "/marks", "AccessDenied"),
        ("PutObject", "/train.jsonl", "SlowDown"),
    ]:
        with failing(operation, code, key), pytest.raises((AwsBusy, AwsRefused), match=code):
            merge(event, None)
    assert merge(event, None)["refused"] is None
