"""What the cleanup does with an endpoint after an execution has ended, over all endpoint statuses and absence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from local_aws.core.authorization import service_model
from pipeline import aws as client_maker
from pipeline.aws import AwsBusy
from pipeline.steps import cleanup
from pipeline.steps.cleanup import decide

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

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


def test_what_is_refused_to_one_part_holds_none_of_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class AbortedExecution:
        def describe_execution(self, **_: str) -> dict[str, Any]:
            return {"status": "ABORTED"}

    done = []

    def no_bedrock(_run: str, _execution: str) -> tuple[str, list[str]]:
        done.append("bedrock")
        raise EndpointConnectionError(endpoint_url="none")

    def rest(name: str) -> Any:
        return lambda *_: (done.append(name), ("", []))[1]

    monkeypatch.setattr(client_maker, "client", lambda _: AbortedExecution())
    monkeypatch.setattr(cleanup, "_customization_jobs", no_bedrock)
    monkeypatch.setattr(cleanup, "_training_jobs", rest("training"))
    monkeypatch.setattr(cleanup, "_endpoint", rest("endpoint"))
    event = {"execution": "arn:aws:states:r:a:execution:m:n", "redrives": 0, "prefix": "p", "region": "r"}
    with pytest.raises(AwsBusy):
        cleanup.handler(event, None)
    assert done == ["training", "bedrock", "endpoint"]


def test_a_schedule_whose_endpoint_is_gone_goes_with_the_run_that_set_it(aws: RunningAws, bucket: str) -> None:
    name, scheduler = f"p-{bucket[-8:]}", aws.client("scheduler")
    role = aws.role(f"{name}-expiry", {"Effect": "Allow", "Action": "*", "Resource": "*"}, service="scheduler")
    target = {"Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint", "RoleArn": role, "Input": "{}"}
    scheduler.create_schedule(
        Name=name,
        Description=f"{name}-0123456789",
        ScheduleExpression="at(2099-01-01T00:00:00)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
    )
    cleanup._endpoint(name, f"{name}-9876543210-")
    assert scheduler.get_schedule(Name=name)["Description"] == f"{name}-0123456789"
    for _ in range(2):
        assert cleanup._endpoint(name, f"{name}-0123456789-") == ("nothing: there is no endpoint", [])
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name=name)


@pytest.mark.parametrize(("states", "asked"), [(["Plan", "Train"], False), (["Plan", "Customize", "Deploy"], True)])
def test_bedrock_is_asked_of_runs_that_came_to_it_alone(
    monkeypatch: pytest.MonkeyPatch, states: list[str], asked: bool
) -> None:
    class History:
        def get_paginator(self, name: str) -> History:
            assert name == "get_execution_history"
            return self

        def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
            assert arguments["executionArn"] == "arn"
            entered = [{"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": name}} for name in states]
            return [{"events": [{"type": "ExecutionFailed"}, entered[-1]]}, {"events": entered[:-1]}]

    class UnreachableBedrock:
        def get_paginator(self, _name: str) -> None:
            raise EndpointConnectionError(endpoint_url="https://bedrock.ap-east-1.amazonaws.com")

    services = {"stepfunctions": History(), "bedrock": UnreachableBedrock()}
    monkeypatch.setattr(client_maker, "client", services.__getitem__)
    if asked:
        with pytest.raises(EndpointConnectionError):
            cleanup._customization_jobs(RUN, "arn")
    else:
        assert cleanup._customization_jobs(RUN, "arn") == ("no job", [])
