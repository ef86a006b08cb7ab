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
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j Failed: CapacityError: Unable to provision requested ML"}),
            "training job j Failed: CapacityError",
            "redrive the execution later",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j MaxRuntimeExceeded: SageMaker gives no reason"}),
            "training job j MaxRuntimeExceeded",
            "training.max_runtime_minutes",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j MaxWaitTimeExceeded: SageMaker gives no reason"}),
            "training job j MaxWaitTimeExceeded",
            "training.spot_wait_minutes",
        ),
        (
            "TrainingFailed",
            json.dumps({"errorMessage": "training job j Stopped: SageMaker gives no reason"}),
            "training job j Stopped",
            "somebody stopped the job",
        ),
        (
            "CustomizationFailed",
            json.dumps({"errorMessage": "customization job j Failed: bad row"}),
            "customization job j Failed: bad row",
            "redrive",
        ),
        (
            "AwsLimit",
            json.dumps({"errorMessage": "An error occurred (ResourceLimitExceeded) when calling CreateTrainingJob"}),
            "An error occurred (ResourceLimitExceeded)",
            "Service Quotas console",
        ),
        ("Lambda.TooManyRequestsException", "Rate Exceeded.", "Rate Exceeded.", "AWS was busy"),
        (
            "AwsRefused",
            json.dumps({"errorMessage": "User: x is not authorized to perform: sagemaker:CreateTrainingJob"}),
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
