"""A dataset too large for one function is read by a Distributed Map over its shards and a merge, on the deployed stack."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

SHARDS = 24
FEW = 4
# The training of a run that tests only its data fails at once.
NO_TRAINING = {"kind": "training", "how": "fail"}
FIRST_STATES = ["Plan", "Planned", "DataPath", "ShardData"]


@pytest.fixture(scope="module")
def dataset(stack: Deployed) -> dict[str, Any]:
    """24 files of 0.7 MB, so that each is a shard where `shard_mb` is 1. All files have one row in common."""
    words = ["late", "yes", "no", "dinner", "train", "tomorrow", "maybe", "great", "sorry", "call", "home", "seven"]
    draw = random.Random(5)
    for number in range(SHARDS):
        rows = [
            {
                "talk": "\r\n".join(f"{name}: {' '.join(draw.choices(words, k=12))}" for name in ("Ann", "Bob") * 3),
                "gist": f"They talk of {' and '.join(draw.choices(words, k=3))}, {number}-{row}.",
            }
            for row in range(1300)
        ]
        repeated = {"talk": "Ann: the same\r\nBob: everywhere", "gist": "It is in every file."}
        body = "\n".join(map(json.dumps, [*rows, repeated])) + "\n"
        stack.upload(f"uploads/large/part-{number:02}.jsonl", body.encode())
    return {
        "source": "uploads/large/",
        "files": {"train": None, "validation": None, "test": None},
        "fields": {"dialogue": "talk", "summary": "gist"},
        "max_rows": {"train": 200, "validation": 20, "test": 20},
        "shard_mb": 1,
    }


def run_without_training(stack: Deployed, dataset: dict[str, Any]) -> str:
    """Run an execution that fails only in its training, at once. Return its ARN."""
    stack.faults(NO_TRAINING)
    ended = stack.run({"dataset": dataset})
    stack.faults()
    assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    return str(ended["executionArn"])


def outputs(stack: Deployed, manifest: str) -> dict[str, bytes]:
    """Return all files of a run's data folder by name."""
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    s3, prefix = stack.aws.client("s3"), key.removesuffix("manifest.json")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return {
        item["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        for item in listed
    }


def test_shards_and_one_function_write_the_same_files_and_a_shard_that_dies_once_is_read_again(
    stack: Deployed, dataset: dict[str, Any]
) -> None:
    stack.faults({"kind": "function", "function": "-shard-data$", "payload": "part-07", "how": "crash", "times": 1})
    arn = stack.start({"dataset": dataset, "endpoint": {"enabled": False}})
    sharded = stack.wait_for_end(arn)
    assert sharded["status"] == "SUCCEEDED", sharded.get("cause")
    assert [fault["fired"] for fault in json.loads(stack.aws.control("_tuneway/faults"))] == [1]
    stack.faults()
    states = stack.states(arn)
    assert states[: len(FIRST_STATES)] == FIRST_STATES
    assert "PrepareData" not in states
    merged = stack.result(arn, "MergeData")["Payload"]
    assert stack.result(arn, "Plan")["Payload"]["prepare"]["path"].startswith(f"{SHARDS} shards: {SHARDS} files")
    data = sharded["output"]["data"]
    assert (data["train"], data["validation"], data["test"], data["rejected"]) == (200, 20, 20, SHARDS - 1)

    arn = run_without_training(stack, {**dataset, "shard_mb": 1000})
    assert "PrepareData" in stack.states(arn)
    assert stack.result(arn, "Plan")["Payload"]["prepare"]["path"].startswith(f"one function: {SHARDS} files")
    prepared = stack.result(arn, "PrepareData")["Payload"]
    assert (prepared["counts"], prepared["rejected"]) == (merged["counts"], merged["rejected"])
    one, many = outputs(stack, prepared["manifest"]), outputs(stack, sharded["output"]["manifest"])
    assert one.keys() == many.keys() >= {"manifest.json", "rejected.jsonl", "bedrock/train.jsonl"}
    assert one == many


def test_shards_wait_where_the_account_runs_few_functions_at_once(stack: Deployed, dataset: dict[str, Any]) -> None:
    s3, bucket = stack.aws.client("s3"), stack.outputs["BucketName"]
    for number in range(FEW):
        part = f"part-{number:02}.jsonl"
        s3.copy_object(Bucket=bucket, Key=f"uploads/few/{part}", CopySource=f"{bucket}/uploads/large/{part}")
    functions, name = stack.aws.client("lambda"), f"{stack.prefix}-shard-data"
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    try:
        arn = run_without_training(stack, {**dataset, "source": "uploads/few/"})
    finally:
        functions.delete_function_concurrency(FunctionName=name)
    assert sum(stack.result(arn, "MergeData")["Payload"]["rejected"].values()) == FEW - 1
    map_run = stack.aws.client("stepfunctions").list_map_runs(executionArn=arn)["mapRuns"][0]
    assert throttled(stack, map_run["mapRunArn"]) > 0


def throttled(stack: Deployed, map_run: str) -> int:
    """Return how many calls of a Map Run's children Lambda has throttled."""
    client = stack.aws.client("stepfunctions")
    children = [
        child["executionArn"]
        for page in client.get_paginator("list_executions").paginate(mapRunArn=map_run)
        for child in page["executions"]
    ]
    events = [event for child in children for event in client.get_execution_history(executionArn=child)["events"]]
    return sum(
        event.get("taskFailedEventDetails", {}).get("error") == "Lambda.TooManyRequestsException" for event in events
    )


def test_a_shard_that_always_dies_fails_the_run_with_its_name_and_a_redrive_reads_it_again(
    stack: Deployed, dataset: dict[str, Any]
) -> None:
    stack.faults({"kind": "function", "function": "-shard-data$", "payload": "part-11", "how": "crash"})
    arn = stack.start({"dataset": dataset})
    ended = stack.wait_for_end(arn)
    fired = json.loads(stack.aws.control("_tuneway/faults"))[0]["fired"]
    stack.faults()
    assert (ended["status"], ended["error"]) == ("FAILED", "ShardFailed"), ended
    assert "part-11.jsonl' failed: Runtime.ExitError" in ended["cause"]
    assert "a redrive reads it again" in ended["cause"]
    assert fired == 2, "the function is called once more, and no more often"
    assert "part-11.jsonl" in stack.wait_for_cleanup(arn)["message"]

    stack.faults(NO_TRAINING)
    ended = stack.redrive(arn)
    stack.faults()
    assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    assert sum(stack.result(arn, "MergeData")["Payload"]["rejected"].values()) == SHARDS - 1


def test_a_users_mistake_that_one_shard_finds_is_refused_in_one_line(stack: Deployed, dataset: dict[str, Any]) -> None:
    fields = {"dialogue": "talk", "summary": "tldr"}
    ended = stack.run({"dataset": {**dataset, "fields": fields}})
    assert (ended["status"], ended["error"]) == ("FAILED", "Tuneway.Refused"), ended
    assert "has no column 'tldr'; it has 'talk', 'gist'" in ended["cause"]
    assert "\n" not in ended["cause"]
