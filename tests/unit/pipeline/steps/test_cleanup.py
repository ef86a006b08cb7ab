"""The cleanup repairs or deletes the endpoint by its status after an execution has ended, and ends the run's other parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from local_aws.core.authorization import service_model
from pipeline import aws as client_maker
from pipeline import message, money, names
from pipeline.aws import AwsBusy
from pipeline.contracts.money import Ongoing, Spent, SpentPart
from pipeline.contracts.values import ContractError, as_json
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
    assert decide(status, THEIRS, None, RUN, passed, deployed=False) == "done"
    assert decide(status, THEIRS, PASSED, RUN, passed, deployed=False) == "done"


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack", "Deleting"])
def test_a_deployment_of_this_run_in_progress_is_waited_for(status: str) -> None:
    assert decide(status, PASSED, OURS, RUN, PASSED, deployed=True) == "wait"
    assert decide(status, OURS, PASSED, RUN, PASSED, deployed=True) == "wait"  # it goes back to PASSED, which may fail


def test_a_config_that_passed_continues_to_serve() -> None:
    assert decide("InService", OURS, None, RUN, OURS, deployed=True) == "done"


def test_a_config_that_did_not_pass_is_replaced_by_the_last_one_that_did() -> None:
    assert decide("InService", OURS, None, RUN, PASSED, deployed=True) == "back"


def test_the_endpoint_is_deleted_if_no_config_has_passed() -> None:
    assert decide("InService", OURS, None, RUN, None, deployed=True) == "delete"


@pytest.mark.parametrize("status", ["Creating", "Failed", "OutOfService", "UpdateRollbackFailed"])
@pytest.mark.parametrize("passed", [None, PASSED])
def test_an_endpoint_that_does_not_serve_is_deleted(status: str, passed: str | None) -> None:
    assert decide(status, OURS, None, RUN, passed, deployed=True) == "delete"


def test_an_endpoint_whose_update_and_roll_back_failed_is_deleted_though_it_names_another_runs_config() -> None:
    assert decide("UpdateRollbackFailed", PASSED, None, RUN, PASSED, deployed=True) == "delete"


def test_nothing_is_done_without_an_endpoint() -> None:
    assert decide("Absent", None, None, RUN, None, deployed=True) == "done"


def test_the_other_parts_run_if_aws_refuses_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class AbortedExecution:
        def describe_execution(self, **_: str) -> dict[str, Any]:
            return {"status": "ABORTED"}

    done = []

    def no_bedrock(_run: str, _execution: str) -> tuple[str, list[str]]:
        done.append("bedrock")
        raise EndpointConnectionError(endpoint_url="none")

    def part(name: str) -> Any:
        return lambda *_: (done.append(name), ("", []))[1]

    monkeypatch.setattr(client_maker, "client", lambda _: AbortedExecution())
    monkeypatch.setattr(cleanup, "_bedrock_jobs", no_bedrock)
    monkeypatch.setattr(cleanup, "_training_jobs", part("training"))
    monkeypatch.setattr(cleanup, "_endpoint", part("endpoint"))
    event = {"execution": "arn:aws:states:r:a:execution:m:n", "redrives": 0, "prefix": "p", "region": "r"}
    with pytest.raises(AwsBusy):
        cleanup.handler(event, None)
    assert done == ["training", "bedrock", "endpoint"]


def test_the_schedule_of_a_deleted_endpoint_is_deleted_for_the_run_that_set_it(aws: RunningAws, bucket: str) -> None:
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
    cleanup._endpoint(name, f"{name}-9876543210-", "arn")
    assert scheduler.get_schedule(Name=name)["Description"] == f"{name}-0123456789"
    for _ in range(2):
        assert cleanup._endpoint(name, f"{name}-0123456789-", "arn") == ("nothing: there is no endpoint", [])
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name=name)


@pytest.mark.parametrize(
    ("states", "called"),
    [(["Plan", "Train"], False), (["Plan", "Customize", "Deploy"], True), (["Plan", "ImportModel", "Deploy"], True)],
)
def test_bedrock_is_called_only_for_a_run_that_entered_its_states(
    monkeypatch: pytest.MonkeyPatch, states: list[str], called: bool
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
    if called:
        with pytest.raises(EndpointConnectionError):
            cleanup._bedrock_jobs(RUN, "arn")
    else:
        assert cleanup._bedrock_jobs(RUN, "arn") == ("no job", [])


@pytest.mark.parametrize("answers", [True, False])
def test_the_message_says_what_the_run_has_cost_or_that_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    arn = "arn:aws:states:r:a:execution:m:n"

    class FailedExecution:
        def describe_execution(self, **_: str) -> dict[str, Any]:
            return {"status": "FAILED", "error": "E", "cause": "c", "executionArn": arn, "name": "n"}

    def count(*_: object) -> Spent:
        if not answers:
            raise EndpointConnectionError(endpoint_url="none")
        return Spent([SpentPart("training", 1.41, "billed", "h")], 1.41, [], 3600, ["ml.g5.xlarge"], "2026-11-24")

    for part in ("_training_jobs", "_bedrock_jobs", "_endpoint"):
        monkeypatch.setattr(cleanup, part, lambda *_: ("", []))
    monkeypatch.setattr(client_maker, "client", lambda _: FailedExecution())
    monkeypatch.setattr(message, "step", lambda _: "Train")
    monkeypatch.setattr(money, "so_far", count)
    found = cleanup.handler({"execution": arn, "redrives": 0, "prefix": "p", "region": "r"}, None)
    if answers:
        assert "Spent: 1.41 in US dollars, before tax: training 1.41 (billed)\n" in found["message"]
        assert found["spent"]["total"] == 1.41
    else:
        assert "\nSpent: not known, because" in found["message"]
        assert found["spent"] is None


@pytest.mark.parametrize(("config", "goes_on"), [(f"{RUN}0", True), (THEIRS, False), (None, False)])
def test_an_endpoint_that_is_gone_when_a_run_ends_well_does_not_go_on_to_cost_money(
    monkeypatch: pytest.MonkeyPatch, config: str | None, goes_on: bool
) -> None:
    parts = [SpentPart("endpoint", 2.0, "estimated", "h")]
    lasts = [Ongoing("endpoint tuneway-0a1b2c3d", 1.408, None), Ongoing("the custom model in Bedrock", 0.0027, None)]
    output = {"spent": as_json(Spent(parts, 2.0, lasts, 3600, ["ml.g5.xlarge"], "2026-11-24"))}
    arn = "arn:aws:states:r:a:execution:m:n"
    monkeypatch.setattr(names, "run_id", lambda _: "0123456789")
    monkeypatch.setattr(client_maker, "client", lambda _: None)
    monkeypatch.setattr(cleanup, "describe_endpoint", lambda *_: {"EndpointConfigName": config})
    ended = {"status": "SUCCEEDED", "output": json.dumps(output), "executionArn": arn}
    found = cleanup._spent(ended, "tuneway-0a1b2c3d")
    assert found is not None
    assert found.ongoing == (lasts if goes_on else lasts[1:])


@pytest.mark.parametrize("counted", [{}, {"spent": {"training_usd": 1.0}}])
def test_the_cost_of_an_execution_of_an_earlier_version_is_not_taken_as_nothing(counted: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        cleanup._spent({"status": "SUCCEEDED", "output": json.dumps(counted), "executionArn": "arn:m:n"}, "p")
