"""The words of a bad end: every kind of error has its remedy, and a cause of any form becomes one reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import report


@pytest.mark.parametrize(
    ("error", "cause", "reason", "remedy"),
    [
        ("Tuneway.Refused", "dataset.source: no such file", "dataset.source: no such file", "start a new execution"),
        (
            "States.TaskFailed",
            json.dumps(
                {"TrainingJobStatus": "Failed", "FailureReason": "CapacityError: Unable to provision requested ML"}
            ),
            "Failed: CapacityError: Unable to provision",
            "redrive the execution later",
        ),
        (
            "States.TaskFailed",
            json.dumps({"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}),
            "MaxRuntimeExceeded",
            "training.max_runtime_minutes",
        ),
        (
            "States.TaskFailed",
            json.dumps({"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxWaitTimeExceeded"}),
            "MaxWaitTimeExceeded",
            "training.spot_wait_minutes",
        ),
        ("States.TaskFailed", json.dumps({"TrainingJobStatus": "Stopped"}), "Stopped", "somebody stopped the job"),
        (
            "States.TaskFailed",
            json.dumps({"Status": "Failed", "FailureMessage": "bad row"}),
            "Failed: bad row",
            "redrive",
        ),
        (
            "SageMaker.ResourceLimitExceededException",
            "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances",
            "The account-level service limit",
            "Service Quotas console",
        ),
        ("Lambda.TooManyRequestsException", "Rate Exceeded.", "Rate Exceeded.", "AWS was busy"),
        (
            "SageMaker.AmazonSageMakerException",
            "User: x is not authorized to perform: sagemaker:CreateTrainingJob",
            "User: x is not authorized",
            "cdk deploy",
        ),
        (
            "Runtime.OutOfMemory",
            json.dumps(
                {"errorType": "Runtime.OutOfMemory", "errorMessage": "Runtime exited with error: signal: killed"}
            ),
            "signal: killed",
            "memory ran out",
        ),
        (
            "Sandbox.Timedout",
            json.dumps({"errorMessage": "Task timed out after 900.00 seconds"}),
            "timed out",
            "ran out of time",
        ),
        (
            "ShardFailed",
            json.dumps({"errorMessage": "shard 'b.csv' failed: Sandbox.Timedout: {} (and 2 more shards)"}),
            "shard 'b.csv' failed: Sandbox.Timedout",
            "dataset.shard_mb",
        ),
        (
            "ShardFailed",
            json.dumps({"errorMessage": "shard 'b.csv' failed: Runtime.ExitError: {}; a redrive reads it again"}),
            "shard 'b.csv' failed: Runtime.ExitError",
            "redrive the execution",
        ),
        ("EndpointSick", json.dumps({"errorMessage": "endpoint x did not answer"}), "endpoint x did not", "log group"),
        ("ABORTED", "", "", "redrive"),
    ],
)
def test_error_and_cause_become_reason_and_remedy(error: str, cause: str, reason: str, remedy: str) -> None:
    said = report._reason(cause)
    assert said.startswith(reason) or reason in said
    assert remedy in report.remedy(error, said)


@given(
    st.text(),
    st.text()
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps),
)
def test_any_cause_gives_a_reason_and_a_remedy(error: str, cause: str) -> None:
    assert len(report._reason(cause)) <= report.REASON_LIMIT
    assert report.remedy(error, report._reason(cause))
