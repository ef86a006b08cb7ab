"""The table behind the Deploy step, over all endpoint statuses and absence."""

from __future__ import annotations

import pytest

from local_aws.core.authorization import service_model
from pipeline.steps.deploy import decide

STATUSES = [*service_model("sagemaker").shape_for("EndpointStatus").enum, "Absent"]
MOVING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
DEAD = {"Failed", "OutOfService", "UpdateRollbackFailed"}


def test_the_table_knows_every_status_of_the_service_model() -> None:
    assert set(STATUSES) == MOVING | DEAD | {"InService", "Absent"}


@pytest.mark.parametrize("status", sorted(MOVING))
@pytest.mark.parametrize("asked", [True, False])
def test_what_is_in_motion_is_waited_for(status: str, asked: bool) -> None:
    assert decide(status, "old", "new", asked, "old") == "wait"
    assert decide(status, "new", "new", asked, None) == "wait"


@pytest.mark.parametrize("asked", [True, False])
def test_an_absent_endpoint_is_created(asked: bool) -> None:
    assert decide("Absent", None, "new", asked, None) == "create"


def test_one_that_serves_another_config_is_updated_once() -> None:
    assert decide("InService", "old", "new", False, None) == "update"


def test_one_whose_config_was_deleted_is_made_anew_since_it_cannot_be_updated() -> None:
    assert decide("InService", "old", "new", False, None, known=False) == "delete"


def test_through_means_in_service_on_the_config_asked_for() -> None:
    assert decide("InService", "new", "new", True, "old") == "serving"
    assert decide("InService", "new", "new", False, None) == "serving"  # a redrive after it came up


def test_back_on_the_old_config_is_a_failed_update() -> None:
    assert decide("InService", "old", "new", True, "old") == "failed"


def test_on_a_third_config_another_run_has_taken_over() -> None:
    assert decide("InService", "newer", "new", True, "old") == "superseded"
    assert decide("InService", "newer", "new", True, None) == "superseded"


@pytest.mark.parametrize("status", sorted(DEAD))
def test_what_does_not_serve_is_ours_to_report_or_to_clear_away(status: str) -> None:
    assert decide(status, "new", "new", True, None) == "failed"
    assert decide(status, "old", "new", False, None) == "delete"
