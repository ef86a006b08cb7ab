"""Shards write the same bytes as one function, and each shard is read once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from data_prep.handler import handler, shard
from data_prep.shard import MARK
from pipeline.aws import AwsBusy, AwsRefused
from pipeline.source import shards as plan
from pipeline.source.splits import File
from tests.unit.data_prep.conftest import (
    BUCKET,
    NOVA,
    hub_event,
    keys,
    listed,
    make_event,
    records,
    with_bedrock,
)
from tests.unit.data_prep.dirty import FORMATS, some_rows
from tests.unit.data_prep.sharded import cut, merged, prepare_in_shards, read_all, shards, three_shards, with_output
from tests.unit.data_prep.test_refusals import failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hub_server import HubServer

WORK_FILES = {"rows.jsonl", "marks", "report.json"}


@pytest.fixture
def many(s3: Any, output: str, put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """Return an event of seven files in several formats. Some dialogues are in several splits."""
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
        put(names[split][-1], FORMATS[suffix](some_rows(200 if split == "train" else 100, start)))
    event = make_event(
        output, f"s3://{BUCKET}/{output}in/", names, max_rows={"train": 300, "validation": None, "test": 50}
    )
    return listed(with_bedrock(event, NOVA, 150))


def outputs(s3: Any, get: Callable[[str], bytes], folder: str) -> dict[str, bytes]:
    names = {name for name in keys(s3, folder) if not name.startswith(("in/", "again/"))}
    return {name: get(folder + name) for name in names}


def test_more_than_twenty_shards_write_the_same_bytes_as_one_function(
    s3: Any, many: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    answer = handler(many, None)
    assert answer["refused"] is None, answer
    assert answer["counts"]["train"] == 300
    assert set(answer["rejected"]) == {
        "duplicate of an accepted row",
        "same dialogue in test",
        "same dialogue in validation",
        "summary is empty",
        "summary is null",
    }
    whole = outputs(s3, get, output)
    assert len(whole) == 7

    places = [n / 5 for n in range(1, 5)]
    cut_up = shards(cut(many["pieces"], places), range(50))
    assert len(cut_up) >= 20
    other = with_output(many, "again/")
    assert json.dumps(prepare_in_shards(other, cut_up)) == json.dumps(answer).replace(output, output + "again/")
    assert outputs(s3, get, output + "again/") == whole

    # The order in which shards are read, and their grouping, do not change the outputs.
    redone = {**other, "request": {**other["request"], "work": other["request"]["work"] + "other/"}}
    few = shards(cut(many["pieces"], [0.31, 0.62]), [2, 3, 7])
    read_all(redone, few[::-1])
    merged(redone, len(few))
    assert outputs(s3, get, output + "again/") == whole


def test_the_shards_that_plan_cuts_write_the_same_bytes(
    s3: Any, many: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    files: dict[str, list[File]] = {}
    for piece in many["pieces"]:
        files.setdefault(piece["split"], []).append(File(piece["file"], piece["bytes"], piece["etag"]))
    pieces = [piece._asdict() for piece in plan.cut(files, 3000)]
    assert [piece["file"] for piece in first_pieces(pieces)] == [piece["file"] for piece in many["pieces"]]
    handler(many, None)
    other = with_output(many, "again/")
    assert prepare_in_shards(other, shards(pieces, range(100)))["refused"] is None
    assert outputs(s3, get, output + "again/") == outputs(s3, get, output)


def first_pieces(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first piece of each file."""
    return [piece for piece in pieces if not piece["start"]]


def test_a_hub_dataset_may_be_cut_into_shards(
    hub: HubServer, s3: Any, output: str, get: Callable[[str], bytes]
) -> None:
    files = {
        "train.jsonl": FORMATS["jsonl"](some_rows(200)),
        "test.parquet": FORMATS["parquet"](some_rows(100, 500)),
    }
    event = hub_event(output, hub, files)
    answer = handler(event, None)
    assert answer["refused"] is None, answer
    other = with_output(event, "again/")
    cut_up = shards(cut(event["pieces"], [0.2, 0.5, 0.9]), range(9))
    assert len(cut_up) == 8
    assert prepare_in_shards(other, cut_up)["counts"] == answer["counts"]
    assert outputs(s3, get, output + "again/") == outputs(s3, get, output)
    assert any(seen.range and not seen.range.startswith("bytes=0-") for seen in hub.seen)


def test_a_shard_reports_its_rows_and_writes_three_files(
    s3: Any, small: dict[str, Any], output: str, get: Callable[[str], bytes]
) -> None:
    results = read_all(small, three_shards(small))
    assert [result["shard"] for result in results] == ["shard 0", "shard 1", "shard 2"]
    assert sum(result["read"] for result in results) == 300
    assert keys(s3, f"shards/{output}") == {f"{n:05}/{name}" for n in range(3) for name in WORK_FILES}
    for number, result in enumerate(results):
        folder = f"shards/{output}{number:05}/"
        assert len(get(folder + "marks")) == MARK.size * result["read"]
        report = orjson.loads(get(folder + "report.json"))
        assert report["read"] == [result["read"]]
        assert report["reasons"] == ["summary is null"]
        # A shard does not look for duplicates. It writes a line for each row that is fit by itself.
        lines = records(get(folder + "rows.jsonl"))
        assert 0 < len(lines) < result["read"]


def test_a_shard_with_a_report_is_not_read_again(s3: Any, small: dict[str, Any], output: str) -> None:
    first = read_all(small, three_shards(small))
    s3.delete_object(Bucket=BUCKET, Key="uploads/small.jsonl")
    with failing("PutObject", "AccessDenied"):
        assert read_all(small, three_shards(small)) == first
    assert merged(small, 3)["refused"] is None
    s3.delete_object(Bucket=BUCKET, Key=f"shards/{output}00001/report.json")
    again = read_all(small, three_shards(small))
    assert again[0] == first[0]
    assert "has gone since this run was planned" in again[1]["refused"]


def test_a_shard_without_a_report_is_read_again(
    s3: Any, small: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    # If a function is killed before it writes its report, complete files of another attempt may be there.
    put(f"shards/{output}00000/rows.jsonl", b"old\n")
    put(f"shards/{output}00000/marks", b"old")
    whole = handler(with_output(small, "whole/"), None)
    assert prepare_in_shards(small, three_shards(small))["counts"] == whole["counts"]


def test_a_shard_raises_failures_of_aws_for_a_retry(s3: Any, small: dict[str, Any], output: str) -> None:
    one = {"request": small["request"], "shard": three_shards(small)[0]}
    for operation, key, code in [
        ("ListObjectsV2", "", "AccessDenied"),
        ("GetObject", "/uploads/", "InternalError"),
        ("PutObject", "/report.json", "SlowDown"),
    ]:
        with failing(operation, code, key), pytest.raises((AwsBusy, AwsRefused), match=code):
            shard(one, None)
    assert f"{0:05}/report.json" not in keys(s3, f"shards/{output}")
    assert shard(one, None)["read"] > 0
