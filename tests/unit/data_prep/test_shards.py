"""Shards and their merge: the same to the byte as one function, and what happens when a shard does not come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from botocore.exceptions import ClientError

from data_prep import merge as merge_module
from data_prep import seen
from data_prep.errors import ReadBackError, ShardFailed
from data_prep.handler import handler, merge, shard
from data_prep.shard import MARK
from pipeline import shards as plan
from pipeline.splits import File
from tests.unit.data_prep.conftest import (
    BUCKET,
    NOVA,
    csv_bytes,
    dialogues,
    hub_event,
    keys,
    listed,
    make_event,
    records,
    with_bedrock,
)
from tests.unit.data_prep.dirty import FORMATS
from tests.unit.data_prep.sharded import cut, elsewhere, in_shards, merged, read_all, shards
from tests.unit.data_prep.test_refusals import failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.pipeline.hub_server import HubServer

WORK_FILES = {"rows.jsonl", "marks", "report.json"}


def rows(count: int, start: int = 0) -> list[tuple[Any, Any]]:
    """Rows of which every ninth is unfit, every seventh a repeat, and some not for Bedrock."""
    found: list[tuple[Any, Any]] = []
    for n in range(start, start + count):
        dialogue: Any = f"A: hello {n - 5 if n % 7 == 6 else n}\r\n"
        found.append((f"User: {n}" if n % 50 == 3 else dialogue, None if n % 9 == 8 else "hello"))
    return found


@pytest.fixture
def many(s3: Any, output: str, put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """An event of seven files in all formats, whose splits repeat each other's dialogues."""
    names: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for number, (split, suffix, start) in enumerate(
        [
            ("test", "jsonl", 0),
            ("validation", "csv.gz", 90),
            ("validation", "parquet", 150),
            ("train", "csv", 220),
            ("train", "jsonl", 300),
            ("train", "parquet", 450),
            ("train", "jsonl.zst", 640),
        ]
    ):
        names[split].append(f"{output}in/{split}-{number}.{suffix}")
        put(names[split][-1], FORMATS[suffix](rows(200 if split == "train" else 100, start)))
    event = make_event(output, f"s3://{BUCKET}/{output}in/", names, max_rows={"train": 300, "validation": None, "test": 50})
    return listed(with_bedrock(event, NOVA, 150))


def outputs(s3: Any, get: Callable[[str], bytes], folder: str) -> dict[str, bytes]:
    names = {name for name in keys(s3, folder) if not name.startswith(("in/", "again/"))}
    return {name: get(folder + name) for name in names}


def test_more_than_twenty_shards_are_one_function_to_the_byte(
    s3: Any, many: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    answer = handler(many, None)
    assert answer["refused"] is None, answer
    assert answer["counts"]["train"] == 300
    assert len(answer["rejected"]) == 4, "repeats, leaks from both splits, summaries that are not there"
    whole = outputs(s3, get, output)
    assert len(whole) == 7

    places = [n / 5 for n in range(1, 5)]
    cut_up = shards(cut(many["pieces"], places), range(50))
    assert len(cut_up) >= 20
    other = elsewhere(many, "again/")
    assert json.dumps(in_shards(other, cut_up)) == json.dumps(answer).replace(output, output + "again/")
    assert outputs(s3, get, output + "again/") == whole

    # Neither the order in which shards are read nor how they are grouped leaves a trace.
    read_all(other, shards(cut(many["pieces"], [0.31]), [2, 3, 7])[::-1])
    redone = {**other, "request": {**other["request"], "work": other["request"]["work"] + "other/"}}
    few = shards(cut(many["pieces"], [0.31, 0.62]), [2, 3, 7])
    read_all(redone, few[::-1])
    merged(redone, len(few))
    assert outputs(s3, get, output + "again/") == whole


def test_the_shards_that_plan_cuts_will_do(
    s3: Any, many: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    files: dict[str, list[File]] = {}
    for piece in many["pieces"]:
        files.setdefault(piece["split"], []).append(File(piece["file"], piece["bytes"], piece["etag"]))
    pieces = [piece._asdict() for piece in plan.cut(files, 3000)]
    assert [piece["file"] for piece in plan_whole(pieces)] == [piece["file"] for piece in many["pieces"]]
    handler(many, None)
    other = elsewhere(many, "again/")
    assert in_shards(other, shards(pieces, range(100)))["refused"] is None
    assert outputs(s3, get, output + "again/") == outputs(s3, get, output)


def plan_whole(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One piece of each file."""
    return [piece for piece in pieces if not piece["start"]]


def test_a_hub_dataset_may_be_cut_too(hub: HubServer, s3: Any, output: str, get: Callable[[str], bytes]) -> None:
    files = {f"train.{suffix}": FORMATS[suffix](rows(200)) for suffix in ("jsonl",)}
    event = hub_event(output, hub, {**files, "test.parquet": FORMATS["parquet"](rows(100, 500))})
    answer = handler(event, None)
    assert answer["refused"] is None, answer
    other = elsewhere(event, "again/")
    cut_up = shards(cut(event["pieces"], [0.2, 0.5, 0.9]), range(9))
    assert len(cut_up) == 8
    assert in_shards(other, cut_up)["counts"] == answer["counts"]
    assert outputs(s3, get, output + "again/") == outputs(s3, get, output)
    assert any(seen.range and not seen.range.startswith("bytes=0-") for seen in hub.seen)


@pytest.fixture
def small(event: dict[str, Any], put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """An event of one JSON Lines file, and its shards."""
    put("uploads/small.jsonl", FORMATS["jsonl"](rows(300)))
    event["request"]["dataset"]["source"] = f"s3://{BUCKET}/uploads/small.jsonl"
    return listed({**event, "pieces": [{"file": "uploads/small.jsonl", "split": "train"}]})


def three(event: dict[str, Any]) -> list[dict[str, Any]]:
    return shards(cut(event["pieces"], [0.3, 0.6]), range(3))


def test_a_shard_says_what_it_read_and_leaves_three_files(
    s3: Any, small: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    results = read_all(small, three(small))
    assert [result["shard"] for result in results] == ["shard 0", "shard 1", "shard 2"]
    assert sum(result["read"] for result in results) == 300
    assert keys(s3, f"shards/{output}") == {f"{n:05}/{name}" for n in range(3) for name in WORK_FILES}
    for number, result in enumerate(results):
        folder = f"shards/{output}{number:05}/"
        assert len(get(folder + "marks")) == MARK.size * result["read"]
        report = orjson.loads(get(folder + "report.json"))
        assert report["read"] == [result["read"]]
        assert report["reasons"] == ["summary is null"]
        # Repeats are not known here: a line for each row that is fit by itself.
        kept = records(get(folder + "rows.jsonl"))
        assert 0 < len(kept) < result["read"]


def test_a_shard_whose_report_is_there_is_not_read_again(s3: Any, small: dict[str, Any], output: str) -> None:
    first = read_all(small, three(small))
    s3.delete_object(Bucket=BUCKET, Key="uploads/small.jsonl")
    with failing("PutObject", "AccessDenied"):
        assert read_all(small, three(small)) == first
    assert merged(small, 3)["refused"] is None
    s3.delete_object(Bucket=BUCKET, Key=f"shards/{output}00001/report.json")
    again = read_all(small, three(small))
    assert again[0] == first[0]
    assert "has gone since this run was planned" in again[1]["refused"]


def test_a_shard_that_was_cut_short_is_read_again(
    s3: Any, small: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    # A function that was killed before its report may have left whole files of another attempt.
    put(f"shards/{output}00000/rows.jsonl", b"old\n")
    put(f"shards/{output}00000/marks", b"old")
    whole = handler(elsewhere(small, "whole/"), None)
    assert in_shards(small, three(small))["counts"] == whole["counts"]


def test_a_shard_that_aws_fails_raises_for_a_retry(s3: Any, small: dict[str, Any], output: str) -> None:
    one = {"request": small["request"], "shard": three(small)[0]}
    for operation, key, code in [
        ("GetObject", "/report.json", "AccessDenied"),
        ("GetObject", "/uploads/", "InternalError"),
        ("PutObject", "/report.json", "SlowDown"),
    ]:
        with failing(operation, code, key), pytest.raises(ClientError, match=code):
            shard(one, None)
    assert f"{0:05}/report.json" not in keys(s3, f"shards/{output}")
    assert shard(one, None)["read"] > 0


FAILED = {"shard": "shard 1", "error": "Sandbox.Timedout: Task timed out after 900.00 seconds"}


def test_a_shard_that_failed_fails_the_merge_with_its_name(s3: Any, small: dict[str, Any], output: str) -> None:
    read_all(small, three(small)[:1])
    with pytest.raises(ShardFailed) as caught:
        merged(small, 3, [FAILED])
    assert str(caught.value) == (
        "shard 'shard 1' failed: Sandbox.Timedout: Task timed out after 900.00 seconds; a redrive reads it again"
    )
    with pytest.raises(ShardFailed, match=r"'shard 1' failed: .* \(and 2 more shards\); a redrive"):
        merged(small, 3, [FAILED, {**FAILED, "shard": "shard 2"}, {**FAILED, "shard": "shard 0"}])
    with pytest.raises(ShardFailed):
        merged(small, 3, [FAILED], mapped_at=2, redrive=2)
    assert keys(s3, output) == set()


def test_after_a_redrive_the_shards_that_failed_are_read_again(s3: Any, small: dict[str, Any]) -> None:
    read_all(small, three(small)[:1])
    assert merged(small, 3, [FAILED], mapped_at=0, redrive=1) == {"again": True}
    assert merged(small, 3, [FAILED], mapped_at=1, redrive=3) == {"again": True}
    # The map runs again, and only what is missing is read.
    read_all(small, three(small))
    assert merged(small, 3, [], mapped_at=1, redrive=1)["refused"] is None
    assert merged(small, 3, [], mapped_at=1, redrive=2)["refused"] is None, "a redrive after a failed merge merges"


def test_a_refused_shards_line_is_the_answer_whatever_else_failed(
    s3: Any, small: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/small.jsonl", FORMATS["jsonl"](rows(301)))
    results = read_all(small, three(small))
    line = f"dataset.source: s3://{BUCKET}/uploads/small.jsonl has changed since this run was planned; start the run again"
    assert results == [{"shard": f"shard {n}", "refused": line} for n in range(3)]
    assert merged(small, 3, [FAILED, results[2]]) == {"refused": line}
    assert keys(s3, output) == keys(s3, f"shards/{output}") == set()


def test_a_shard_that_is_not_there_is_an_error(s3: Any, small: dict[str, Any], output: str) -> None:
    read_all(small, three(small)[:2])
    with pytest.raises(ReadBackError, match=rf"s3://{BUCKET}/shards/{output}00002/report.json is not there"):
        merged(small, 3)


def damaged(data: bytes, how: str) -> bytes:
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
    read_all(small, three(small))
    key = f"shards/{output}00001/{name}"
    put(key, damaged(get(key), how))
    with pytest.raises(ReadBackError, match=f"s3://{BUCKET}/shards/{output}00001/"):
        merged(small, 3)
    assert keys(s3, output) == set()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_more_rows_than_a_merge_decides_on_are_refused(
    s3: Any, small: dict[str, Any], output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all(small, three(small))
    monkeypatch.setattr(merge_module, "MOST_ROWS", 299)
    assert merged(small, 3) == {
        "refused": "dataset: 300 rows are more than a merge decides on (299); give it fewer or smaller files"
    }
    assert keys(s3, output) == set()
    monkeypatch.setattr(merge_module, "MOST_ROWS", 300)
    assert merged(small, 3)["refused"] is None


@pytest.mark.parametrize("count", [7, 8, 9, 100])
def test_the_merge_has_room_for_every_row(
    s3: Any, output: str, put: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    # Held-out rows are remembered twice, and none of these is a repeat.
    monkeypatch.setattr(seen, "ROWS", 0)
    names = {split: f"{output}in/{split}.csv" for split in ("train", "validation", "test")}
    for number, name in enumerate(names.values()):
        put(name, csv_bytes(dialogues(count, number * 1000)))
    event = listed(make_event(output, f"s3://{BUCKET}/{output}in/", names))
    answer = in_shards(event, shards(event["pieces"], range(3)))
    assert answer["counts"]["train"] == answer["counts"]["test"] == count


def test_refusals_of_all_rows_together_are_the_same(
    s3: Any, small: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    small["request"]["dataset"]["max_rejected_share"] = 0.05
    line = handler(small, None)["refused"]
    assert "more than the share of 0.05" in line
    answer = in_shards(elsewhere(small, "again/"), three(small))
    assert answer == {"refused": line.replace(output, output + "again/")}
    assert keys(s3, output) == {"rejected.jsonl", "again/rejected.jsonl"}
    assert get(output + "rejected.jsonl") == get(output + "again/rejected.jsonl")


def test_the_merge_raises_awss_own_failures(s3: Any, small: dict[str, Any]) -> None:
    read_all(small, three(small))
    event = {"request": small["request"], "shards": 3, "failed": [], "mapped_at_redrive": 0, "redrive": 0}
    for operation, key, code in [
        ("GetObject", "/report.json", "AccessDenied"),
        ("GetObject", "/marks", "AccessDenied"),
        ("PutObject", "/train.jsonl", "SlowDown"),
    ]:
        with failing(operation, code, key), pytest.raises(ClientError, match=code):
            merge(event, None)
    assert merge(event, None)["refused"] is None
