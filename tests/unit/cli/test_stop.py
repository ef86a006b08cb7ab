"""`tuneway stop` with real executions of local Step Functions, and a cleanup that EventBridge's rule would start."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.local_aws.conftest import REGION
from tests.serving import stacks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws
    from tests.unit.cli.conftest import Tuneway

PREFIX, BUCKET = "stopped-0a", "stop-tests"
CLEANED = {
    "left": [],
    "subject": "s",
    "message": "Step: Train\nServing: nothing: there is no endpoint\nBedrock: no job",
}


def machine(aws: RunningAws, name: str, state: dict[str, Any]) -> str:
    definition = json.dumps({"StartAt": "Only", "States": {"Only": {**state, "End": True}}})
    role = aws.role(f"{name}-states", service="states")
    created = aws.client("stepfunctions").create_state_machine(name=name, definition=definition, roleArn=role)
    return str(created["stateMachineArn"])


@pytest.fixture(scope="module")
def waiting(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack whose executions wait, and whose cleanup is there at once."""
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    machine(aws, PREFIX, {"Type": "Wait", "Seconds": 1000})
    machine(aws, f"{PREFIX}-cleanup", {"Type": "Pass", "Result": CLEANED})
    folder = tmp_path_factory.mktemp("stop")
    return stacks.create(aws, "stopped", PREFIX, "arn:aws:iam::000000000000:role/Caller", folder, bucket=BUCKET)


def start(aws: RunningAws, name: str) -> str:
    arn = stacks.state_machine(aws, PREFIX)
    return str(aws.client("stepfunctions").start_execution(stateMachineArn=arn, name=name)["executionArn"])


def test_several_running_executions_are_named_and_one_is_stopped_with_its_cleanup(
    aws: RunningAws, tuneway: Tuneway, waiting: Path
) -> None:
    client = aws.client("stepfunctions")
    first, second = start(aws, "first"), start(aws, "second")
    several = tuneway(waiting, "stop")
    assert (several.returncode, several.stdout) == (1, "")
    assert several.stderr.startswith("error: several executions run; name one: ")
    unanswered = tuneway(waiting, "stop", "first")
    assert "This needs an answer, and there is no terminal; add --yes" in unanswered.stderr
    assert client.describe_execution(executionArn=first)["status"] == "RUNNING"

    def clean_up() -> None:
        """Do what the rule on the execution's status does. A cleanup of another execution comes first."""
        while client.describe_execution(executionArn=first)["status"] == "RUNNING":
            time.sleep(0.1)
        cleanup = stacks.state_machine(aws, f"{PREFIX}-cleanup")
        for arn in (second, first):
            given = json.dumps({"execution": arn, "redrives": 0, "status": "ABORTED"})
            client.start_execution(stateMachineArn=cleanup, input=given)

    thread = threading.Thread(target=clean_up)
    thread.start()
    stopped = tuneway(waiting, "stop", "fir", "--yes")
    thread.join()
    end = ["Serving: nothing: there is no endpoint", "Left: nothing of this run is running"]
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert stopped.stdout.splitlines() == ["execution first: stopped", *end]
    assert client.describe_execution(executionArn=first)["cause"] == "tuneway stop"
    assert tuneway(waiting, "stop", "first").stdout.splitlines() == end, "it is followed again"
    listing = json.loads(tuneway(waiting, "runs", "--json").stdout)
    assert {row["execution"]: row["status"] for row in listing} == {first: "ABORTED", second: "RUNNING"}
    assert {row["execution"]: row["reason"] for row in listing}[first] == "Stopped: tuneway stop"
    client.stop_execution(executionArn=second)
