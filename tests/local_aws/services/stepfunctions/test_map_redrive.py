"""A Distributed Map that is stopped, timed out or redriven, and EventBridge's events about its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local_aws.conftest import eventually
from tests.local_aws.services.stepfunctions.test_distributed_map import (
    EXECUTIONS,
    INVOKE,
    RUNNING,
    call,
    children,
    decided,
    failing,
    map_run,
    mapping,
    output_of,
)
from tests.local_aws.services.stepfunctions.test_redrive import Events, event_types, function, redrive, redrive_refusal
from tests.local_aws.services.stepfunctions.test_stepfunctions import (
    allow,
    create,
    ended,
    passing,
    start,
    task,
)

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("map-redrive", allow([*RUNNING, "lambda:InvokeFunction", "s3:GetObject"]), service="states")


def test_a_stop_of_the_parent_stops_the_children(aws: RunningAws, role: str) -> None:
    wait = {"W": {"Type": "Wait", "Seconds": 30, "End": True}}
    arn = start(aws, role, {"Map": mapping(wait, Items=[1, 2, 3], MaxConcurrency=2)})
    assert eventually(lambda: event_types(aws, arn)[-1] == "MapRunStarted" and len(children(aws, arn)) == 2)
    aws.client("stepfunctions").stop_execution(executionArn=arn)
    assert eventually(lambda: map_run(aws, arn)["status"] == "ABORTED")
    assert [child["status"] for child in children(aws, arn)] == ["ABORTED"] * 2
    for child in children(aws, arn):
        assert event_types(aws, child["executionArn"])[-1] == "ExecutionAborted"
        assert (f"{EXECUTIONS}:{arn.split(':')[6]}:{child['name']}", True) in decided(aws, "states:StopExecution", role)
    assert map_run(aws, arn)["itemCounts"]["pending"] == 1


def test_a_child_that_the_role_may_not_stop_runs_on(aws: RunningAws) -> None:
    allowed = [action for action in RUNNING if action != "states:StopExecution"]
    role = aws.role("mapping-no-stop", allow(allowed), service="states")
    arn = start(aws, role, {"Map": mapping({"W": {"Type": "Wait", "Seconds": 2, "End": True}}, Items=[1])})
    assert eventually(lambda: event_types(aws, arn)[-1] == "MapRunStarted" and children(aws, arn))
    aws.client("stepfunctions").stop_execution(executionArn=arn)
    assert eventually(lambda: map_run(aws, arn)["status"] == "ABORTED")
    assert [child["status"] for child in children(aws, arn)] == ["RUNNING"]
    redrive(aws, arn)  # The redrive waits for this child, and neither starts nor redrives it.
    assert output_of(aws, arn) == [1]
    assert [child["redriveCount"] for child in children(aws, arn)] == [0]


def test_a_redrive_after_a_later_failure_leaves_the_map_alone(aws: RunningAws, role: str) -> None:
    function(aws, "map-merge", "raise Broken('no')")
    merge = task(
        INVOKE, {"FunctionName": "map-merge", "Payload": {"all": "{% $all %}"}}, Output="{% $states.result.Payload %}"
    )
    states = {
        "Map": mapping({"C": {"Type": "Succeed"}}, Items=[1, 2], Assign={"all": "{% $states.result %}"}, Next="Merge"),
        "Merge": merge,
    }
    arn = start(aws, role, states)
    assert ended(aws, arn)["error"] == "Broken"
    function(aws, "map-merge", "return event")
    redrive(aws, arn)
    assert output_of(aws, arn) == {"all": [1, 2]}
    assert event_types(aws, arn).count("MapStateEntered") == event_types(aws, arn).count("MapRunStarted") == 1
    assert {child["redriveCount"] for child in children(aws, arn)} == {0}


def test_a_redrive_of_a_failed_map_runs_the_failed_children_again(aws: RunningAws) -> None:
    function(aws, "map-mended", "if event['shard'] > 1:\n        raise Broken('no')\n    return event['shard']")
    may_redrive = allow("states:RedriveExecution", f"{EXECUTIONS}:*/Shards:*")
    role = aws.role("mapping-redrive", allow([*RUNNING[:3], "lambda:InvokeFunction"]), may_redrive, service="states")
    child = {
        "Before": {"Type": "Pass", "Assign": {"id": "{% $uuid() %}"}, "Next": "Shard"},
        "Shard": call("map-mended", Assign={"n": "{% $states.context.Execution.RedriveCount %}"}, Next="After"),
        "After": passing({"shard": "{% $states.input %}", "redrive": "{% $n %}", "id": "{% $id %}"}),
    }
    selector = {"shard": "{% $states.context.Map.Item.Value %}"}
    map_ = mapping(child, Items=[0, 1, 2, 3], ItemSelector=selector, MaxConcurrency=1)
    arn = start(aws, role, {"Map": map_})
    assert ended(aws, arn)["error"] == "States.ExceedToleratedFailureThreshold"
    before = {child["executionArn"]: child for child in children(aws, arn)}
    # The fourth child has not started.
    assert [child["status"] for child in before.values()] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    failed = list(before.values())[2]
    assert failed["redriveStatus"] == "REDRIVABLE_BY_MAP_RUN"
    # A child cannot be redriven by itself.
    assert redrive_refusal(aws, failed["executionArn"])[0] == "ValidationException"

    function(aws, "map-mended", "return event['shard']")
    redrive(aws, arn)
    result = output_of(aws, arn)
    assert [(child["shard"], child["redrive"]) for child in result] == [(0, 0), (1, 0), (2, 1), (3, 0)]
    after = {child["executionArn"]: child for child in children(aws, arn)}
    assert set(before) < set(after)
    assert len(after) == 4
    assert [after[child]["redriveCount"] for child in before] == [0, 0, 1]
    steps = event_types(aws, failed["executionArn"])
    assert steps.count("PassStateEntered") == 2  # Before and After, each once.
    assert decided(aws, "states:RedriveExecution", role) == [(failed["executionArn"], True)]
    assert event_types(aws, arn).count("MapRunStarted") == event_types(aws, arn).count("MapRunRedriven") == 1
    assert map_run(aws, arn)["redriveCount"] == 1


def test_a_redrive_after_a_stop_runs_the_stopped_children_again(aws: RunningAws, role: str) -> None:
    seconds = "{% $states.context.Execution.RedriveCount = 0 and $states.input > 0 ? 30 : 0 %}"
    wait = {"W": {"Type": "Wait", "Seconds": seconds, "End": True}}
    arn = start(aws, role, {"Map": mapping(wait, Items=[0, 1, 2], MaxConcurrency=0)})
    assert eventually(lambda: sorted(c["status"] for c in children(aws, arn)) == ["RUNNING", "RUNNING", "SUCCEEDED"])
    aws.client("stepfunctions").stop_execution(executionArn=arn)
    redrive(aws, arn)  # At once, while the children are being stopped.
    assert output_of(aws, arn) == [0, 1, 2]
    assert sorted(child["redriveCount"] for child in children(aws, arn)) == [0, 1, 1]


def test_a_map_that_is_entered_again_starts_all_its_children(aws: RunningAws, role: str) -> None:
    again = [{"Condition": "{% $rounds < 2 %}", "Next": "Map"}]
    states = {
        "Set": passing([1], Assign={"rounds": 0}, Next="Map"),
        "Map": mapping({"C": {"Type": "Succeed"}}, Assign={"rounds": "{% $rounds + 1 %}"}, Next="Again"),
        "Again": {"Type": "Choice", "Choices": again, "Default": "End"},
        "End": {"Type": "Succeed"},
    }
    arn = start(aws, role, states)
    assert output_of(aws, arn) == [1]
    assert event_types(aws, arn).count("MapRunStarted") == 2


def test_only_the_map_that_failed_the_execution_is_redriven(aws: RunningAws, role: str) -> None:
    function(aws, "map-gate", "raise Broken('no')")
    again = [{"Condition": "{% $rounds < 2 %}", "Next": "Map"}]
    catch = [{"ErrorEquals": ["States.ALL"], "Assign": {"rounds": 1}, "Next": "Gate"}]
    states = {
        "Set": passing(["bad"], Assign={"rounds": 0}, Next="Map"),
        "Map": failing([], Catch=catch, Assign={"rounds": 2}, Next="Gate")
        | {"Items": "{% $rounds = 0 ? ['bad'] : ['good'] %}"},
        "Gate": call("map-gate", Next="Again"),
        "Again": {"Type": "Choice", "Choices": again, "Default": "End"},
        "End": {"Type": "Succeed"},
    }
    arn = start(aws, role, states)
    assert ended(aws, arn)["error"] == "Broken"
    function(aws, "map-gate", "return event")
    redrive(aws, arn)
    assert output_of(aws, arn) == ["good"]
    assert (event_types(aws, arn).count("MapRunStarted"), event_types(aws, arn).count("MapRunRedriven")) == (2, 0)


def test_a_redrive_of_a_map_that_failed_in_its_output_starts_all_children(aws: RunningAws, role: str) -> None:
    output = "{% $states.context.Execution.RedriveCount > 0 ? $states.result : $missing %}"
    arn = start(aws, role, {"Map": mapping({"C": {"Type": "Succeed"}}, Items=[1], Output=output)})
    assert ended(aws, arn)["error"] == "States.QueryEvaluationError"
    redrive(aws, arn)
    assert output_of(aws, arn) == [1]
    assert (event_types(aws, arn).count("MapRunStarted"), event_types(aws, arn).count("MapRunRedriven")) == (2, 0)


def test_a_time_out_of_the_parent_stops_the_children(aws: RunningAws, role: str) -> None:
    wait = {"W": {"Type": "Wait", "Seconds": 30, "End": True}}
    arn = start(aws, role, {"Map": mapping(wait, Items=[1])}, TimeoutSeconds=1)
    assert ended(aws, arn)["status"] == "TIMED_OUT"
    assert eventually(lambda: [child["status"] for child in children(aws, arn)] == ["ABORTED"])
    assert eventually(lambda: map_run(aws, arn)["status"] == "ABORTED")


def test_eventbridge_gets_the_events_of_the_children(aws: RunningAws, role: str) -> None:
    machine = create(aws, role, {"Map": failing(["bad"])})
    events = Events(aws, "map-children", f"{machine}/Shards")
    arn = aws.client("stepfunctions").start_execution(stateMachineArn=machine)["executionArn"]
    details = events.received(2)
    assert [(detail["status"], detail["error"]) for detail in details] == [("RUNNING", None), ("FAILED", "Bad")]
    assert [detail["executionArn"] for detail in details] == [child["executionArn"] for child in children(aws, arn)] * 2
