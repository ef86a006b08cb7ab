"""Deploy decides what to do with the endpoint, for each endpoint status and without an endpoint."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from local_aws.core.authorization import service_model
from pipeline import money, requests
from pipeline.contracts.events import Deployment
from pipeline.contracts.values import as_json
from pipeline.steps import deploy
from pipeline.steps.deploy import PROVISIONING_MINUTES, decide
from tests.unit.pipeline.facts import estimated, facts, run_record
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

STATUSES = [*service_model("sagemaker").shape_for("EndpointStatus").enum, "Absent"]
IN_PROGRESS = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
NOT_SERVING = {"Failed", "OutOfService", "UpdateRollbackFailed"}


def test_every_status_of_the_service_model_is_tested() -> None:
    assert set(STATUSES) == IN_PROGRESS | NOT_SERVING | {"InService", "Absent"}


@pytest.mark.parametrize("status", sorted(IN_PROGRESS))
@pytest.mark.parametrize("asked", [True, False])
def test_a_deployment_in_progress_is_waited_for(status: str, asked: bool) -> None:
    assert decide(status, "old", "new", asked, "old") == "wait"
    assert decide(status, "new", "new", asked, None) == "wait"


@pytest.mark.parametrize("asked", [True, False])
def test_an_absent_endpoint_is_created(asked: bool) -> None:
    assert decide("Absent", None, "new", asked, None) == "create"


def test_an_endpoint_on_another_config_is_updated_once() -> None:
    assert decide("InService", "old", "new", False, None) == "update"


def test_an_endpoint_whose_config_was_deleted_is_deleted_because_it_cannot_be_updated() -> None:
    assert decide("InService", "old", "new", False, None, known=False) == "delete"


def test_an_endpoint_in_service_on_the_wanted_config_is_serving() -> None:
    assert decide("InService", "new", "new", True, "old") == "serving"
    assert decide("InService", "new", "new", False, None) == "serving"  # a redrive after it came up


def test_an_endpoint_back_on_the_old_config_is_a_failed_update() -> None:
    assert decide("InService", "old", "new", True, "old") == "failed"


def test_an_endpoint_on_a_third_config_belongs_to_another_run() -> None:
    assert decide("InService", "newer", "new", True, "old") == "superseded"
    assert decide("InService", "newer", "new", True, None) == "superseded"


@pytest.mark.parametrize("status", sorted(NOT_SERVING))
def test_an_endpoint_that_does_not_serve_is_a_failed_deployment_or_is_deleted(status: str) -> None:
    assert decide(status, "new", "new", True, None) == "failed"
    assert decide(status, "old", "new", False, None) == "delete"


def plan(prefix: str) -> Any:
    return requests.deploy(settings(), "0123456789", facts(prefix=prefix))


def test_nothing_is_made_that_may_go_beyond_max_cost(aws: RunningAws, bucket: str) -> None:
    prefix = f"tuneway-{uuid4().hex[:8]}"
    estimate = as_json(estimated(settings(bedrock={"mode": "off"}), None, "us-west-2"))
    event: dict[str, Any] = {
        "name": f"{prefix}-0123456789",
        "redrive": 0,
        "model": f"s3://{bucket}/m/",
        "plan": as_json(plan(prefix)),
        "progress": None,
        "record": run_record(bucket, max_cost=7, estimate=estimate),
        "training": {
            "phase": "completed",
            "job": "j",
            "progress": "p",
            "wait_seconds": 0,
            "billed_seconds": {"ml.g5.xlarge": 3600},
        },
        "bedrock": {"phase": "not wanted", "job": None, "jobs": 0, "progress": "not wanted"},
    }
    with pytest.raises(
        money.MaxCostReached, match=r"has cost 1\.41 dollars, and the next step \(endpoint\) may cost 6\.10"
    ):
        deploy.handler(event, None)
    client = aws.client("sagemaker")
    assert client.list_endpoint_configs(NameContains=prefix)["EndpointConfigs"] == []
    assert client.list_models(NameContains=prefix)["Models"] == []


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"asked": False}, 50),  # of the attempt before it
        ({"phase": "working", "until": None}, 50 + 60 * (20 + PROVISIONING_MINUTES)),
        ({"phase": "redeploy", "until": None}, 50 + 7200),
        ({"phase": "redeploy"}, 50 + 5400),
    ],
)
def test_the_life_of_earlier_endpoints_is_what_it_was_at_most(changes: dict[str, Any], seconds: int) -> None:
    now = time.time()
    ended = datetime.fromtimestamp(now - 1800, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    earlier = Deployment("passed", until=ended, asked=True, since=int(now - 7200), earlier_seconds=50)
    found = deploy._lived(earlier._replace(**changes), plan("tuneway-0a1b2c3d"))
    assert found == pytest.approx(seconds, abs=3)
    assert deploy._lived(None, plan("tuneway-0a1b2c3d")) == 0
