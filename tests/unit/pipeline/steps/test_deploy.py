"""Deploy decides what to do with the endpoint, for each endpoint status and without an endpoint."""

from __future__ import annotations

import pytest

from local_aws.core.authorization import service_model
from pipeline.steps.deploy import decide

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
