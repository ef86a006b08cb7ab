"""A job that dies and an endpoint that never gets healthy fail the run with their reason, and leave nothing that bills.

The tests build on each other: a later test redrives a run that has failed in Deploy, so that it trains only once.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

SHORT = {"bedrock": {"mode": "off"}}
UNHEALTHY = {"kind": "endpoint", "how": "fail"}


def test_a_training_job_that_dies_fails_the_run_with_its_reason(stack: Deployed) -> None:
    ended = stack.run({"training": {"batch_size": 1024}, **SHORT})
    assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed")
    line = json.loads(ended["cause"])["errorMessage"]
    assert re.match(
        r"training job \S+-0 Failed: AlgorithmError: .*channel train has \d+ usable rows, fewer than one batch of 1024",
        line,
    )
    assert stack.endpoint() is None


def run_unhealthy(stack: Deployed) -> tuple[str, str]:
    """Run an execution whose endpoint never gets healthy. Return its ARN and the reason of its failure."""
    stack.faults(UNHEALTHY)
    ended = stack.run(SHORT)
    stack.faults()
    assert (ended["status"], ended["error"]) == ("FAILED", "EndpointFailed")
    return str(ended["executionArn"]), json.loads(ended["cause"])["errorMessage"]


@pytest.fixture(scope="module")
def first(stack: Deployed) -> tuple[str, str]:
    """The failed run before which there is no endpoint: its ARN and its reason."""
    assert stack.endpoint() is None
    return run_unhealthy(stack)


@pytest.fixture(scope="module")
def second(stack: Deployed, first: tuple[str, str]) -> tuple[str, str, dict[str, Any]]:
    """The failed run before which the first run's redrive has made an endpoint: its ARN, its reason and that endpoint."""
    served = stack.redrive(first[0])
    assert served["status"] == "SUCCEEDED", served.get("cause")
    before = stack.endpoint()
    assert before is not None
    return *run_unhealthy(stack), before


def test_a_new_endpoint_that_never_gets_healthy_is_deleted(stack: Deployed, first: tuple[str, str]) -> None:
    arn, line = first
    assert "did not become healthy: " in line
    assert "did not pass the ping health check" in line
    notice = stack.wait_for_cleanup(arn)
    assert (notice["left"], stack.endpoint()) == ([], None)
    # Its schedule is deleted too. It would find no endpoint, and the topic would report one that could not be deleted.
    assert stack.aws.client("scheduler").list_schedules(NamePrefix=stack.prefix)["Schedules"] == []
    assert "Step: Deploy\n" in notice["message"]


def test_an_endpoint_that_served_before_still_serves_its_old_model(
    stack: Deployed, second: tuple[str, str, dict[str, Any]]
) -> None:
    _, line, before = second
    assert f"and serves {before['EndpointConfigName']} as before" in line
    after = stack.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])


def test_a_quota_that_is_too_small_for_an_update_is_refused_by_plan(stack: Deployed) -> None:
    assert stack.endpoint() is not None
    stack.quota(training=2, endpoint=1)
    ended = stack.run(SHORT)
    stack.quota(training=2, endpoint=4)
    assert ended["error"] == "Tuneway.Refused"
    assert f"needs 2, because endpoint {stack.prefix} keeps its 1 while an update starts others" in ended["cause"]


def test_an_endpoint_whose_config_somebody_deleted_is_repaired_with_a_warning(
    stack: Deployed, second: tuple[str, str, dict[str, Any]]
) -> None:
    arn, _, before = second
    config = before["EndpointConfigName"]
    stack.aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=config)
    ended = stack.redrive(arn)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert any(f"its config {config} was deleted" in line for line in ended["output"]["warnings"])
    after = stack.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", ended["output"]["config"])


def test_an_endpoint_that_somebody_gave_another_config_is_updated(stack: Deployed) -> None:
    sagemaker, before = stack.aws.client("sagemaker"), stack.endpoint()
    assert before is not None
    config = sagemaker.describe_endpoint_config(EndpointConfigName=before["EndpointConfigName"])
    sagemaker.create_endpoint_config(
        EndpointConfigName="somebody-elses", ProductionVariants=config["ProductionVariants"]
    )
    sagemaker.update_endpoint(EndpointName=stack.prefix, EndpointConfigName="somebody-elses")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=stack.prefix, WaiterConfig={"Delay": 1})
    # The answer of UpdateEndpoint is lost, too. Deploy must find the update, and still know when the endpoint ends.
    stack.faults({"kind": "lost", "action": "sagemaker:UpdateEndpoint", "times": 1})
    ended = stack.run(SHORT)
    stack.faults()
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    after = stack.endpoint()
    assert after is not None
    assert after["EndpointConfigName"] == ended["output"]["config"]
    assert ended["output"]["until"]
    sagemaker.delete_endpoint_config(EndpointConfigName="somebody-elses")
