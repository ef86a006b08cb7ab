"""`cdk destroy` at ten moments of an execution, and against a stuck endpoint and refused calls, leaves nothing behind.

One stack is deployed and destroyed again and again in one account. test_returns.py looks a minute after the last of these
tests whether anything of it is there.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from local.cdk import CdkError
from tests.local.deployed import Deployed, synthesise, wait_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local_aws.session import LocalAws

NAME = "tuneway-moment"
ENDED: list[float] = []
"""The time of the end of the last of these tests."""
IMPORT: dict[str, Any] = {"training": {"max_steps": 1}, "bedrock": {"mode": "import"}}
QUICK: dict[str, Any] = {"training": {"max_steps": 1}, "bedrock": {"mode": "off"}}


@pytest.fixture(scope="module")
def fresh(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The stack, synthesised and not yet deployed."""
    deployed = synthesise(tmp_path_factory.mktemp("moments"), aws, stack={"name": NAME})
    deployed.bootstrap()
    yield deployed
    ENDED.append(time.time())


@pytest.fixture(scope="module")
def unused(fresh: Deployed) -> list[str]:
    """The inventory after a stack was destroyed before any execution. Its assets are in the account from then on."""
    fresh.deploy()
    fresh.cdk("destroy", "--force")
    return fresh.inventory()


def wait_until(check: Callable[[], Any], seconds: float = 240) -> None:
    deadline = time.time() + seconds
    while not check():
        assert time.time() < deadline
        time.sleep(0.2)


def start_until(stack: Deployed, state: str, run_input: dict[str, Any] = QUICK) -> str:
    """Start an execution, wait until it has entered the state, and return its ARN."""
    execution = stack.start(run_input)
    stack.wait_for_state(execution, state)
    return execution


def test_destroy_before_any_execution_leaves_nothing(unused: list[str]) -> None:
    assert unused == []


@pytest.mark.usefixtures("unused")
@pytest.mark.parametrize(
    ("state", "seconds", "run_input"),
    [
        ("Plan", 0.0, QUICK),
        ("PrepareData", 0.3, QUICK),
        ("Train", 0.0, QUICK),
        ("Train", 3.0, {"training": {"max_steps": 1000}}),
        ("FinishCustomize", 0.0, {"training": {"max_steps": 1}}),
        ("SmokeTest", 0.0, QUICK),
        ("DeployCustomModel", 1.0, {"training": {"max_steps": 1}}),
        ("ImportModel", 0.0, IMPORT),
        ("FinishImport", 0.5, IMPORT),
        ("AskBedrock", 1.0, IMPORT),
    ],
)
def test_destroy_in_a_state_leaves_nothing(
    fresh: Deployed, state: str, seconds: float, run_input: dict[str, Any]
) -> None:
    # CreateStack and DeleteStack as the CLI calls them. The CLI itself takes seconds to start and to see their end.
    fresh.create()
    execution = start_until(fresh, state, run_input)
    time.sleep(seconds)
    # The teardown measures its wait for the functions by the clock, so more frequent looks would not end it earlier.
    wait_scale(fresh.aws, 1)
    try:
        fresh.delete(execution)
    finally:
        wait_scale(fresh.aws)
    assert fresh.inventory() == []


def test_destroy_waits_for_an_endpoint_in_creation_and_for_throttled_calls(fresh: Deployed) -> None:
    """During destroy the endpoint stays in Creating, and lists are throttled."""
    fresh.deploy()
    fresh.faults({"kind": "endpoint", "how": "stuck"})
    start_until(fresh, "Deploy")
    wait_until(lambda: (fresh.endpoint() or {}).get("EndpointStatus") == "Creating")
    busy = {
        "kind": "error",
        "action": "sagemaker:ListTrainingJobs",
        "code": "ThrottlingException",
        "principal": "Teardown",
    }

    def release_endpoint() -> None:
        time.sleep(12)
        fresh.faults({**busy, "times": 7})

    thread = threading.Thread(target=release_endpoint)
    thread.start()
    try:
        fresh.cdk("destroy", "--force")
    finally:
        thread.join()
    (fault,) = json.loads(fresh.aws.control("_tuneway/faults"))
    fresh.faults()
    assert fault["fired"] == 7
    assert fresh.inventory() == []


def test_a_denied_destroy_of_a_serving_endpoint_gives_the_reason_and_a_second_succeeds(fresh: Deployed) -> None:
    fresh.deploy()
    assert fresh.run(QUICK)["status"] == "SUCCEEDED"
    fresh.faults({"kind": "deny", "action": "sagemaker:DeleteEndpoint", "principal": "Teardown"})
    with pytest.raises(CdkError, match="DeleteEndpoint"):
        fresh.cdk("destroy", "--force")
    fresh.faults()
    assert fresh.endpoint() is not None
    fresh.cdk("destroy", "--force")
    assert fresh.inventory() == []


def test_a_new_deploy_spares_the_endpoint_then_a_redrive_succeeds_and_keep_models_keeps_the_models(
    fresh: Deployed, tmp_path: Path
) -> None:
    fresh.deploy()
    fresh.quota(training=2, endpoint=4)
    assert fresh.run(QUICK)["status"] == "SUCCEEDED"
    before = fresh.endpoint()
    assert before is not None
    fresh.faults({"kind": "function", "function": "-data-prep$", "how": "crash", "times": 2})
    failed = fresh.run({"training": {"max_steps": 1}})
    fresh.faults()
    assert (failed["status"], fresh.states(failed["executionArn"])[-1]) == ("FAILED", "PrepareData")
    fresh.wait_for_cleanup(failed["executionArn"])

    # While that execution waits for its redrive, other settings are deployed, and so another version of the data-prep function.
    changes = {
        "stack": {"name": NAME, "on_destroy": "keep_models"},
        "dataset": {"instruction": "Say it shorter."},
        "access": {"hub_endpoint": "https://mirror.example"},
    }
    changed = synthesise(tmp_path, fresh.aws, **changes)
    changed.deploy()
    assert changed.outputs == fresh.outputs
    after = changed.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])
    redriven = changed.redrive(failed["executionArn"])
    assert redriven["status"] == "SUCCEEDED", redriven.get("cause")
    versions = changed.aws.client("lambda").list_versions_by_function(FunctionName=f"{changed.prefix}-data-prep")[
        "Versions"
    ]
    assert {version["Version"] for version in versions} >= {"1", "2"}
    assert changed.result(redriven["executionArn"], "PrepareData")["ExecutedVersion"] == "1"
    served = changed.endpoint()
    assert served is not None
    assert served["EndpointConfigName"] != before["EndpointConfigName"]

    changed.cdk("destroy", "--force")
    bucket, output = changed.outputs["BucketName"], redriven["output"]
    # The deployment stays with its model: nothing bills for it while nobody calls it.
    kept = sorted(line.rpartition(" ")[0] for line in changed.inventory())
    expected = ["bucket", "custom model", "custom model deployment", "model package group", "objects in"]
    assert kept == expected, changed.inventory()
    s3, bedrock = changed.aws.client("s3"), changed.aws.client("bedrock")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert f"{output['model']}model.safetensors".removeprefix(f"s3://{bucket}/") in keys
    assert all(key.startswith("models/") for key in keys), keys
    # The test itself deletes what was kept, so that the last look finds an empty account.
    for version in s3.list_object_versions(Bucket=bucket)["Versions"]:
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=bucket)
    deployment = output["bedrock_model_id"]
    bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier=deployment)
    deadline = time.time() + 30
    while bedrock.list_custom_model_deployments()["modelDeploymentSummaries"]:
        assert time.time() < deadline, "the deployment is not deleted"
        time.sleep(0.5)
    bedrock.delete_custom_model(modelIdentifier=output["custom_model"])
    sagemaker, group = changed.aws.client("sagemaker"), {"ModelPackageGroupName": changed.prefix}
    for version in sagemaker.list_model_packages(**group)["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=version["ModelPackageArn"])
    # A deleted version stays in its group for some seconds, though the list has it no more.
    while True:
        try:
            sagemaker.delete_model_package_group(**group)
            break
        except sagemaker.exceptions.ConflictException:
            assert time.time() < deadline, "the group is not deleted"
            time.sleep(0.5)
    assert changed.inventory() == []
