"""What the cleanup does with an endpoint after an execution has ended, over all endpoint statuses and absence."""

from __future__ import annotations

import pytest

from local.authorization import service_model
from pipeline.cleanup import decide

STATUSES = [*service_model("sagemaker").shape_for("EndpointStatus").enum, "Absent"]
RUN = "tuneway-0a1b2c3d-0123456789-"
OURS, THEIRS, PASSED = f"{RUN}0-0", "tuneway-0a1b2c3d-9876543210-0-0", "tuneway-0a1b2c3d-5555555555-0-0"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("passed", [None, PASSED, THEIRS])
def test_another_runs_endpoint_is_never_touched(status: str, passed: str | None) -> None:
    assert decide(status, THEIRS, None, RUN, passed) == "done"
    assert decide(status, THEIRS, PASSED, RUN, passed) == "done"


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack", "Deleting"])
def test_what_is_in_motion_for_this_run_is_waited_for(status: str) -> None:
    assert decide(status, PASSED, OURS, RUN, PASSED) == "wait"
    assert decide(status, OURS, PASSED, RUN, PASSED) == "wait"  # on its way back: it may fail to get there


def test_a_config_that_passed_goes_on_serving() -> None:
    assert decide("InService", OURS, None, RUN, OURS) == "done"


def test_one_that_did_not_pass_goes_back_to_the_last_that_did() -> None:
    assert decide("InService", OURS, None, RUN, PASSED) == "back"


def test_with_nothing_to_go_back_to_it_is_deleted() -> None:
    assert decide("InService", OURS, None, RUN, None) == "delete"


@pytest.mark.parametrize("status", ["Creating", "Failed", "OutOfService", "UpdateRollbackFailed"])
@pytest.mark.parametrize("passed", [None, PASSED])
def test_one_that_serves_nothing_is_deleted(status: str, passed: str | None) -> None:
    assert decide(status, OURS, None, RUN, passed) == "delete"


def test_absent_is_done() -> None:
    assert decide("Absent", None, None, RUN, None) == "done"
