"""Faults of functions, jobs and endpoints: each fault ends its target as on AWS, and spares the next one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

from local_aws.core import faults
from tests.local_aws.conftest import IMPORT_BOTO3, REGION, RunningAws, control, failure
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.local_aws.services.bedrock import test_bedrock as customization
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

if TYPE_CHECKING:
    from pathlib import Path

FUNCTION = "import os\ndef handler(event, context):\n    open(event, 'a').write('ran')\n    return os.getpid()\n"
UNHEALTHY = (
    "The primary container for production variant AllTraffic did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


# Functions


def test_a_function_cannot_reach_a_service_until_the_fault_ends(aws: RunningAws) -> None:
    source = f"""{IMPORT_BOTO3}
def handler(event, context):
    try:
        boto3.client(event).get_paginator(
            {{"bedrock": "list_custom_models", "sagemaker": "list_models"}}[event]
        ).paginate().build_full_result()
    except Exception as error:
        return type(error).__name__
    return "fine"
"""
    allow = {"Effect": "Allow", "Action": ["bedrock:*", "sagemaker:*"], "Resource": "*"}
    aws.function("asks", source, aws.role("asks", allow), Timeout=60)
    assert [aws.invoke("asks", service)[0] for service in ("bedrock", "sagemaker")] == ["fine", "fine"]
    set_faults(aws, {"kind": "no-endpoint", "service": "bedrock", "function": "^asks$"})
    assert [aws.invoke("asks", s)[0] for s in ("bedrock", "sagemaker")] == ["EndpointConnectionError", "fine"]
    assert fired_counts(aws) == [2]
    set_faults(aws)
    assert aws.invoke("asks", "bedrock")[0] == "fine"


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("crash", "Runtime.ExitError", "Error: Runtime exited with error: signal: killed"),
        ("memory", "Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed"),
        ("timeout", "Sandbox.Timedout", "Error: Task timed out after 30.00 seconds"),
    ],
)
def test_a_function_dies_with_the_error_of_its_cause(
    aws: RunningAws, tmp_path: Path, how: str, kind: str, message: str
) -> None:
    aws.function(f"dies-{how}", FUNCTION, aws.role(f"dies-{how}"), Timeout=30)
    process, _ = aws.invoke(f"dies-{how}", str(tmp_path / "before"))
    assert psutil.pid_exists(process), "a function keeps its process between calls"
    set_faults(aws, {"kind": "function", "function": "^dies-", "how": how, "times": 1})
    started = time.monotonic()
    payload, error = aws.invoke(f"dies-{how}", str(tmp_path / "during"))
    assert time.monotonic() - started < 10
    assert (error, payload["errorType"]) == ("Unhandled", kind)
    assert payload["errorMessage"].endswith(message)
    assert not psutil.pid_exists(process), "the process has ended"
    if how == "crash":
        assert not (tmp_path / "during").exists(), "the handler was not reached"
    after, error = aws.invoke(f"dies-{how}", str(tmp_path / "after"))
    assert (error, after != process, fired_counts(aws)) == (None, True, [1])


def test_a_fault_can_be_for_one_event_of_a_function(aws: RunningAws, tmp_path: Path) -> None:
    aws.function("dies-by-payload", FUNCTION, aws.role("dies-by-payload"), Timeout=30)
    set_faults(aws, {"kind": "function", "function": "^dies-by-payload$", "payload": '/second"', "how": "crash"})
    errors = [aws.invoke("dies-by-payload", str(tmp_path / name))[1] for name in ("first", "second", "third")]
    assert errors == [None, "Unhandled", None]


def test_only_the_named_function_is_throttled(aws: RunningAws, tmp_path: Path) -> None:
    for name in ("busy", "idle"):
        aws.function(name, FUNCTION, aws.role(f"role-{name}"))
    set_faults(aws, {"kind": "function", "function": "busy", "how": "throttle", "times": 2})
    client = aws.client("lambda")
    for _ in range(2):
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            client.invoke(FunctionName="busy", Payload=b'"/dev/null"')
        assert refused.value.response["Error"]["Message"] == "Rate Exceeded."
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert refused.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
    for name in ("busy", "idle"):
        assert aws.invoke(name, str(tmp_path / name))[1] is None
    assert fired_counts(aws) == [2]


# Jobs


@pytest.mark.parametrize(
    ("how", "statuses", "reason"),
    [
        ("capacity", ["Starting", "Failed"], faults.TRAINING_CAPACITY),
        ("fail", ["Starting", "Downloading", "Training", "Failed"], "AlgorithmError: , exit code: 137"),
        ("stop", ["Starting", "Downloading", "Training", "Stopping", "Stopped"], None),
        ("max-runtime", ["Starting", "Downloading", "Training", "Uploading", "MaxRuntimeExceeded"], None),
    ],
)
def test_a_training_job_ends_as_its_fault_says(
    aws: RunningAws, job_role: str, how: str, statuses: list[str], reason: str | None
) -> None:
    set_faults(aws, {"kind": "training", "how": how, "times": 1})
    job = training.run(aws, how, job_role, {"mode": "wait"})
    assert job["TrainingJobStatus"] == ("Stopped" if reason is None else "Failed")
    assert [transition["Status"] for transition in job["SecondaryStatusTransitions"]] == statuses
    assert job.get("FailureReason") == reason
    assert ("TrainingStartTime" in job) == (how != "capacity")
    assert training.run(aws, f"{how}-again", job_role)["TrainingJobStatus"] == "Completed"
    assert fired_counts(aws) == [1]


def test_a_job_gets_the_next_type_of_its_list_where_one_has_no_capacity(aws: RunningAws, job_role: str) -> None:
    resources = {**training.LISTED, "InstanceCount": 1, "VolumeSizeInGB": 30}
    set_faults(aws, {"kind": "training", "how": "capacity", "instance_type": "g6"})
    job = training.run(aws, "next-type", job_role, ResourceConfig=resources)
    assert (job["TrainingJobStatus"], job["ResourceConfig"]["SelectedInstanceType"]) == ("Completed", "ml.g5.xlarge")
    assert fired_counts(aws) == [1]
    set_faults(aws, {"kind": "training", "how": "capacity"})  # for every type
    job = training.run(aws, "no-type", job_role, ResourceConfig=resources)
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", faults.TRAINING_CAPACITY)
    assert ("SelectedInstanceType" in job["ResourceConfig"], fired_counts(aws)) == (False, [2])


@pytest.fixture(scope="module")
def bedrock_role(faults_aws: RunningAws) -> str:
    s3 = faults_aws.client("s3")
    s3.create_bucket(Bucket=customization.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for name, count in (("train", 90), ("validation", 10)):
        rows = "\n".join([customization.record()] * count)
        s3.put_object(Bucket=customization.BUCKET, Key=f"data/{name}.jsonl", Body=rows.encode())
    return faults_aws.role("bedrock", customization.READ, customization.WRITE, service="bedrock", **customization.TRUST)


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("fail", "Failed", "Encountered an unexpected error when processing the request, please try again"),
        ("stop", "Stopped", None),
    ],
)
def test_a_customization_job_ends_as_its_fault_says(
    aws: RunningAws, bedrock_role: str, how: str, status: str, message: str | None
) -> None:
    set_faults(aws, {"kind": "customization", "how": how, "times": 1})
    create = aws.client("bedrock").create_model_customization_job
    job = customization.ended(aws, create(**customization.request(bedrock_role))["jobArn"])
    assert (job["status"], job.get("failureMessage"), "outputModelArn" in job) == (status, message, False)
    steps = [job["statusDetails"][f"{step}Details"]["status"] for step in ("validation", "dataProcessing", "training")]
    assert steps == ["Completed", "Completed", status]
    again = customization.ended(aws, create(**customization.request(bedrock_role))["jobArn"])
    assert (again["status"], fired_counts(aws)) == ("Completed", [1])


# Endpoints


@pytest.fixture(scope="module")
def server_role(faults_aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> str:
    s3 = faults_aws.client("s3")
    s3.create_bucket(Bucket=endpoints.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for answer in ("one", "two"):
        s3.put_object(Bucket=endpoints.BUCKET, Key=f"{answer}/answer.txt", Body=answer.encode())
    server = tmp_path_factory.mktemp("image") / "server.py"
    server.write_text(endpoints.SERVER)
    control(faults_aws, "quotas", **{f"{endpoints.INSTANCE} for endpoint usage": 50})
    command = ["python3", str(server), "{port}"]
    control(faults_aws, "sagemaker", status_seconds=0.2, images={"little-server": command})
    role = faults_aws.role("serving", *endpoints.statements(), service="sagemaker")
    for name in ("one", "two"):
        endpoints.prepare(faults_aws, name, role, name)
    return role


def statuses_until(aws: RunningAws, name: str, *last: str) -> list[str]:
    """Return the statuses of an endpoint, in order, up to one of `last`."""
    client, statuses = aws.client("sagemaker"), [""]
    deadline = time.monotonic() + 30
    while statuses[-1] not in last and time.monotonic() < deadline:
        status = client.describe_endpoint(EndpointName=name)["EndpointStatus"]
        statuses += [status] if status != statuses[-1] else []
    return statuses[1:]


@pytest.mark.parametrize(("how", "reason"), [("fail", UNHEALTHY), ("capacity", faults.ENDPOINT_CAPACITY)])
def test_an_endpoint_fails_in_creation_and_rolls_back_in_an_update(
    aws: RunningAws, server_role: str, how: str, reason: str
) -> None:
    client = aws.client("sagemaker")
    set_faults(aws, {"kind": "endpoint", "how": how, "times": 1})
    client.create_endpoint(EndpointName=how, EndpointConfigName="one")
    assert statuses_until(aws, how, "Failed", "InService") == ["Creating", "Failed"]
    assert client.describe_endpoint(EndpointName=how)["FailureReason"] == reason
    endpoints.remove(aws, how)
    client.create_endpoint(EndpointName=how, EndpointConfigName="one")
    assert statuses_until(aws, how, "Failed", "InService") == ["Creating", "InService"]
    set_faults(aws, {"kind": "endpoint", "how": how, "times": 1})
    client.update_endpoint(EndpointName=how, EndpointConfigName="two")
    assert statuses_until(aws, how, "InService") == ["Updating", "RollingBack", "InService"]
    endpoint = client.describe_endpoint(EndpointName=how)
    assert (endpoint["EndpointConfigName"], endpoint.get("FailureReason")) == ("one", None)
    assert (endpoints.ask(aws, how), fired_counts(aws)) == (b"one:hello", [1])
    endpoints.remove(aws, how)


def test_an_endpoint_gets_the_next_type_of_its_list_where_one_has_no_capacity(
    aws: RunningAws, server_role: str
) -> None:
    client = aws.client("sagemaker")
    control(aws, "quotas", **{f"{endpoints.OTHER} for endpoint usage": 9})
    endpoints.prepare(aws, "pools", server_role, "one", instances=endpoints.POOLS)
    set_faults(aws, {"kind": "endpoint", "how": "capacity", "instance_type": endpoints.INSTANCE})
    client.create_endpoint(EndpointName="pools", EndpointConfigName="pools")
    assert statuses_until(aws, "pools", "Failed", "InService") == ["Creating", "InService"]
    (variant,) = client.describe_endpoint(EndpointName="pools")["ProductionVariants"]
    counts = {pool["InstanceType"]: pool["CurrentInstanceCount"] for pool in variant["InstancePools"]}
    assert (counts, fired_counts(aws)) == ({endpoints.INSTANCE: 0, endpoints.OTHER: 2}, [1])
    endpoints.remove(aws, "pools")
    set_faults(aws, {"kind": "endpoint", "how": "capacity"})  # for every type
    client.create_endpoint(EndpointName="pools", EndpointConfigName="pools")
    assert statuses_until(aws, "pools", "Failed", "InService") == ["Creating", "Failed"]
    assert client.describe_endpoint(EndpointName="pools")["FailureReason"] == faults.ENDPOINT_CAPACITY
    assert fired_counts(aws) == [2]
    endpoints.remove(aws, "pools")


def test_an_endpoint_is_stuck_until_the_list_is_replaced(aws: RunningAws, server_role: str) -> None:
    client = aws.client("sagemaker")
    stuck = {"kind": "endpoint", "how": "stuck"}
    for change, status, config in (
        (client.create_endpoint, "Creating", "one"),
        (client.update_endpoint, "Updating", "two"),
    ):
        set_faults(aws, stuck)
        change(EndpointName="stuck", EndpointConfigName=config)
        time.sleep(1)
        servers = list((aws.state_dir / "endpoints" / "stuck").glob("*"))
        assert len(servers) == (0 if status == "Creating" else 1), "no new server is started"
        assert client.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == status
        assert "in-progress" in failure(client.delete_endpoint, EndpointName="stuck")[1]
        set_faults(aws, stuck)  # A new list: its fault has not fired.
        assert statuses_until(aws, "stuck", "InService") == [status, "InService"]
        assert fired_counts(aws) == [0]
    assert endpoints.ask(aws, "stuck") == b"two:hello"
    endpoints.remove(aws, "stuck")


def test_a_rollback_fails_in_an_update_and_a_creation_is_spared(aws: RunningAws, server_role: str) -> None:
    client = aws.client("sagemaker")
    set_faults(aws, {"kind": "endpoint", "how": "rollback-failed", "times": 1})
    client.create_endpoint(EndpointName="halfway", EndpointConfigName="one")
    assert statuses_until(aws, "halfway", "Failed", "InService") == ["Creating", "InService"]
    client.update_endpoint(EndpointName="halfway", EndpointConfigName="two")
    assert statuses_until(aws, "halfway", "InService", "UpdateRollbackFailed") == [
        "Updating",
        "RollingBack",
        "UpdateRollbackFailed",
    ]
    endpoint = client.describe_endpoint(EndpointName="halfway")
    assert (endpoint["EndpointConfigName"], endpoint["FailureReason"], fired_counts(aws)) == ("one", UNHEALTHY, [1])
    assert endpoints.ask(aws, "halfway") == b"one:hello", "it serves all the same (DescribeEndpoint)"
    endpoints.remove(aws, "halfway")
