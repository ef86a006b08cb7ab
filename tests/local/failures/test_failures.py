"""A job that dies and an endpoint that never gets healthy fail the run with their reason, and leave nothing that bills.

The tests go on from each other: a run that has failed in Deploy is redriven by a later test, so that it trains once.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

SHORT = {"bedrock": {"enabled": False}}
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


def unhealthy(stack: Deployed) -> tuple[str, str]:
    """A run whose endpoint never gets healthy: its ARN, and why it failed."""
    stack.faults(UNHEALTHY)
    ended = stack.run(SHORT)
    stack.faults()
    assert (ended["status"], ended["error"]) == ("FAILED", "EndpointFailed")
    return str(ended["executionArn"]), json.loads(ended["cause"])["errorMessage"]


@pytest.fixture(scope="module")
def first(stack: Deployed) -> tuple[str, str]:
    """The run that meets no endpoint."""
    assert stack.endpoint() is None
    return unhealthy(stack)


@pytest.fixture(scope="module")
def second(stack: Deployed, first: tuple[str, str]) -> tuple[str, str, dict[str, Any]]:
    """The run that meets the endpoint that the first one's redrive has made; and that endpoint."""
    served = stack.redrive(first[0])
    assert served["status"] == "SUCCEEDED", served.get("cause")
    before = stack.endpoint()
    assert before is not None
    return *unhealthy(stack), before


def test_an_endpoint_that_never_gets_healthy_leaves_none_behind(stack: Deployed, first: tuple[str, str]) -> None:
    arn, line = first
    assert "did not become healthy: " in line
    assert "did not pass the ping health check" in line
    notice = stack.cleaned(arn)
    assert (notice["left"], stack.endpoint()) == ([], None)
    # Its end went with it: it would find nothing to delete, and be told as an endpoint that is left.
    assert stack.aws.client("scheduler").list_schedules(NamePrefix=stack.prefix)["Schedules"] == []
    assert "Step: Deploy\n" in notice["message"]


def test_one_that_served_before_still_serves_its_old_model(
    stack: Deployed, second: tuple[str, str, dict[str, Any]]
) -> None:
    _, line, before = second
    assert f"and serves {before['EndpointConfigName']} as before" in line
    after = stack.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])


def test_a_quota_that_is_too_small_for_the_update_is_refused_first(stack: Deployed) -> None:
    assert stack.endpoint() is not None
    stack.quota(training=2, endpoint=1)
    ended = stack.run(SHORT)
    stack.quota(training=2, endpoint=4)
    assert ended["error"] == "Tuneway.Refused"
    assert f"needs 2, because endpoint {stack.prefix} keeps its 1 while an update starts others" in ended["cause"]


def test_a_config_that_somebody_deleted_while_it_served_is_repaired_and_told(
    stack: Deployed, second: tuple[str, str, dict[str, Any]]
) -> None:
    arn, _, before = second
    config = before["EndpointConfigName"]
    stack.aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=config)
    ended = stack.redrive(arn)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert any(f"its config {config} had been deleted" in line for line in ended["output"]["warnings"])
    after = stack.endpoint()
    assert after is not None
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", ended["output"]["config"])


def test_one_that_somebody_put_on_a_config_of_their_own_is_updated_as_ever(stack: Deployed) -> None:
    sagemaker, before = stack.aws.client("sagemaker"), stack.endpoint()
    assert before is not None
    config = sagemaker.describe_endpoint_config(EndpointConfigName=before["EndpointConfigName"])
    sagemaker.create_endpoint_config(EndpointConfigName="their-own", ProductionVariants=config["ProductionVariants"])
    sagemaker.update_endpoint(EndpointName=stack.prefix, EndpointConfigName="their-own")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=stack.prefix, WaiterConfig={"Delay": 1})
    # The call's answer is lost, too: what it did is found, and the time of the end is not lost with it.
    stack.faults({"kind": "lost", "action": "sagemaker:UpdateEndpoint", "times": 1})
    ended = stack.run(SHORT)
    stack.faults()
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    after = stack.endpoint()
    assert after is not None
    assert after["EndpointConfigName"] == ended["output"]["config"]
    assert ended["output"]["until"]
    sagemaker.delete_endpoint_config(EndpointConfigName="their-own")
