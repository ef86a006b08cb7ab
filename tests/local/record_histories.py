"""Records real executions for the tests of `tuneway watch`: `python -m tests.local.record_histories`.

It deploys the tests' stack on local AWS, and writes a file per execution to tests/unit/cli/recorded/: the answer of
DescribeExecution, the events of GetExecutionHistory without the states' inputs, and the training job's log.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from local import tiny_model
from local_aws.session import LocalAws
from pipeline import names
from tests.local.deployed import REGION, ROOT, Deployed, synthesise, wait_scale

TARGET = ROOT / "tests" / "unit" / "cli" / "recorded"
SHARDS = 6


def record(stack: Deployed, name: str, arn: str) -> None:
    states, logs = stack.aws.client("stepfunctions"), stack.aws.client("logs")
    pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
    events = [pruned(event) for page in pages for event in page["events"]]
    described = states.describe_execution(executionArn=arn)
    run = f"{stack.prefix}-{names.run_id(arn)}"
    log: list[dict[str, Any]] = []
    try:
        streams = logs.describe_log_streams(logGroupName=names.TRAINING_LOGS, logStreamNamePrefix=run)["logStreams"]
    except logs.exceptions.ResourceNotFoundException:  # before the account's first training job
        streams = []
    for stream in sorted(found["logStreamName"] for found in streams):
        lines = logs.get_log_events(logGroupName=names.TRAINING_LOGS, logStreamName=stream, startFromHead=True)[
            "events"
        ]
        log += [{"timestamp": line["timestamp"], "message": line["message"]} for line in lines]
    described.pop("ResponseMetadata")
    document = {"execution": described, "events": events, "log": log}
    TARGET.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, default=lambda time: time.timestamp(), ensure_ascii=False, separators=(",", ":"))
    (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(name, described["status"], len(events), "events", len(text), "characters", flush=True)


def pruned(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event without the parts that `tuneway watch` does not read, because they are large."""
    unread = {"input", "inputDetails", "outputDetails", "parameters", "resource", "resourceType", "roleArn"}
    details = {key: dict(value) for key, value in event.items() if isinstance(value, dict)}
    for key, value in details.items():
        line = event["type"] == "TaskStateExited" and str(value.get("output")).startswith('"')
        dropped = unread | (set() if line or key == "taskSucceededEventDetails" else {"output"})
        details[key] = {name: part for name, part in value.items() if name not in dropped}
    return event | details


def large_dataset(stack: Deployed) -> dict[str, Any]:
    for number in range(SHARDS):
        rows = [
            {"talk": f"Ann: {'word ' * 60}{number}-{row}\r\nBob: yes, {row}", "gist": f"They talk of {number}-{row}."}
            for row in range(2200)
        ]
        stack.upload(f"uploads/large/part-{number:02}.jsonl", ("\n".join(map(json.dumps, rows)) + "\n").encode())
    return {
        "source": "uploads/large/",
        "files": {"train": None, "validation": None, "test": None},
        "fields": {"dialogue": "talk", "summary": "gist"},
        "max_rows": {"train": 100, "validation": 8, "test": 8},
        "shard_mb": 1,
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="histories-"))
    tiny_model.ensure(folder / "hub")
    aws = LocalAws(folder / "state", REGION, folder / "hub")
    aws.start()
    try:
        wait_scale(aws)
        stack = synthesise(folder, aws)
        stack.bootstrap()
        stack.deploy()
        stack.quota(training=4, endpoint=4)
        refused = stack.run({"training": {"epochs": 0}})
        record(stack, "refused", refused["executionArn"])
        record(stack, "succeeded", stack.run({})["executionArn"])
        stack.faults({"kind": "training", "how": "fail"})
        failed = str(stack.run({"bedrock": {"mode": "off"}})["executionArn"])
        record(stack, "failed", failed)
        stack.faults()
        stack.redrive(failed)
        record(stack, "redriven", failed)
        aborted = stack.start({"dataset": large_dataset(stack), "bedrock": {"mode": "import"}})
        stack.wait_for_state(aborted, "WaitForTraining")
        record(stack, "running", aborted)
        stack.aws.client("stepfunctions").stop_execution(executionArn=aborted)
        stack.wait_for_end(aborted)
        record(stack, "aborted", aborted)
        imported = stack.run({"bedrock": {"mode": "import"}, "endpoint": {"enabled": False}})
        record(stack, "imported", imported["executionArn"])
    finally:
        aws.stop()


if __name__ == "__main__":
    main()
