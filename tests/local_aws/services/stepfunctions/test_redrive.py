"""RedriveExecution on local AWS: the state and the data it goes on with, and the attempt before, which changes nothing more."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION, eventually, zipped
from tests.local_aws.services.stepfunctions.test_stepfunctions import (
    allow,
    create,
    ended,
    history,
    passing,
    start,
    task,
)

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

COUNT = "{% $states.context.Execution.RedriveCount %}"
RETRIES = "{% $states.context.State.RetryCount %}"
INVOKE = "arn:aws:states:::lambda:invoke"


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("redriven", allow("lambda:InvokeFunction"), service="states")


def redrive(aws: RunningAws, arn: str, **more: str) -> datetime:
    answer = aws.client("stepfunctions").redrive_execution(executionArn=arn, **more)
    return datetime.fromisoformat(answer["redriveDate"].isoformat())


def describe(aws: RunningAws, arn: str) -> dict[str, Any]:
    return dict(aws.client("stepfunctions").describe_execution(executionArn=arn))


def stop(aws: RunningAws, arn: str) -> None:
    aws.client("stepfunctions").stop_execution(executionArn=arn, error="Mine", cause="enough")


def event_types(aws: RunningAws, arn: str) -> list[str]:
    """Return the types of the events of an execution's history."""
    return [event["type"] for event in history(aws, arn)]


def redrive_refusal(aws: RunningAws, arn: str, **more: str) -> tuple[str, str]:
    """Ask for a redrive that must be refused. Return the error's code and message."""
    with pytest.raises(ClientError) as refused:
        redrive(aws, arn, **more)
    return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]


def function(aws: RunningAws, name: str, body: str) -> None:
    """Create the function, or give it another body."""
    source = f"import time\nclass Broken(Exception):\n    pass\ndef handler(event, context):\n    {body}\n"
    client = aws.client("lambda")
    try:
        client.update_function_code(FunctionName=name, ZipFile=zipped({"index.py": source}))
    except client.exceptions.ResourceNotFoundException:
        aws.function(name, source, aws.role(f"{name}-role", allow("logs:*")))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})


def test_a_redrive_goes_on_at_the_failed_task(aws: RunningAws, role: str) -> None:
    function(aws, "mended", "raise Broken('no')")
    payload = {"id": "{% $id %}", "input": "{% $states.input %}", "redrive": COUNT, "retry": RETRIES}
    retry = {"ErrorEquals": ["Broken"], "IntervalSeconds": 1, "MaxAttempts": 1, "BackoffRate": 2}
    retry |= {"MaxDelaySeconds": 2, "JitterStrategy": "FULL"}
    call = task(
        INVOKE, {"FunctionName": "mended", "Payload": payload}, Retry=[retry], Output="{% $states.result.Payload %}"
    )
    call["Assign"] = {"id": "changed"}
    states = {"First": passing({"n": 1}, Assign={"id": "{% $uuid() %}"}, Next="Call"), "Call": call}
    arn = start(aws, role, states, {"flag": True})
    failed = ended(aws, arn)
    assert (failed["status"], failed["error"], failed["redriveCount"]) == ("FAILED", "Broken", 0)
    assert failed["redriveStatus"] == "REDRIVABLE"
    assert not {"redriveDate", "redriveStatusReason"} & set(failed)
    before = event_types(aws, arn)

    redrive(aws, arn)  # The function is not mended yet: the execution fails again, after a retry.
    assert ended(aws, arn)["redriveCount"] == 1
    function(aws, "mended", "return event")
    date = redrive(aws, arn)
    done = ended(aws, arn)
    assert (done["status"], done["redriveCount"]) == ("SUCCEEDED", 2)
    assert done["redriveDate"] == date
    assert abs((datetime.now(UTC) - date).total_seconds()) < 30
    assert (done["redriveStatus"], done["redriveStatusReason"]) == (
        "NOT_REDRIVABLE",
        "Execution is SUCCEEDED and cannot be redriven",
    )
    assert {"error", "cause"} & set(done) == set()
    assert (done["name"], done["startDate"], done["input"]) == (failed["name"], failed["startDate"], failed["input"])
    assert done["stopDate"] > failed["stopDate"]

    events = history(aws, arn)
    payloads = [
        json.loads(e["taskScheduledEventDetails"]["parameters"])["Payload"]
        for e in events
        if e["type"] == "TaskScheduled"
    ]
    assert [(p["redrive"], p["retry"]) for p in payloads] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert {p["id"] for p in payloads} == {json.loads(done["output"])["id"]}
    assert all(p["input"] == {"n": 1} for p in payloads)
    assert event_types(aws, arn)[: len(before)] == before
    assert [e["id"] for e in events] == list(range(1, len(events) + 1))
    assert [e["executionRedrivenEventDetails"]["redriveCount"] for e in events if e["type"] == "ExecutionRedriven"] == [
        1,
        2,
    ]
    assert event_types(aws, arn).count("PassStateEntered") == event_types(aws, arn).count("TaskStateEntered") == 1
    assert event_types(aws, arn)[-6:] == [
        "ExecutionRedriven", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited", "ExecutionSucceeded",
    ]  # fmt: skip


def test_an_execution_stopped_in_a_wait_waits_again(aws: RunningAws, role: str) -> None:
    states = {
        "Set": {"Type": "Pass", "Assign": {"n": 1}, "Next": "Wait"},
        "Wait": {"Type": "Wait", "Seconds": 3, "Assign": {"n": "{% $n + 1 %}"}, "Next": "Read"},
        "Read": passing(
            {"n": "{% $n %}", "redrive": COUNT, "time": "{% $exists($states.context.Execution.RedriveTime) %}"}
        ),
    }
    arn = start(aws, role, states)
    assert eventually(lambda: event_types(aws, arn)[-1] == "WaitStateEntered")
    stop(aws, arn)
    stopped = describe(aws, arn)
    assert (stopped["status"], stopped["redriveStatus"]) == ("ABORTED", "REDRIVABLE")
    time.sleep(1.5)
    redrive(aws, arn)
    running = describe(aws, arn)
    assert (running["status"], running["redriveStatusReason"]) == (
        "RUNNING",
        "Execution is RUNNING and cannot be redriven",
    )
    assert not {"stopDate", "error", "cause", "output"} & set(running)
    time.sleep(2)  # The first attempt's thread has woken up by now. The second still waits.
    assert event_types(aws, arn)[-1] == "ExecutionRedriven"
    done = ended(aws, arn)
    assert (done["status"], json.loads(done["output"])) == ("SUCCEEDED", {"n": 2, "redrive": 1, "time": True})
    time.sleep(0.5)
    after = event_types(aws, arn)
    assert after[after.index("ExecutionAborted") :] == [
        "ExecutionAborted", "ExecutionRedriven", "WaitStateExited", "PassStateEntered", "PassStateExited", "ExecutionSucceeded",
    ]  # fmt: skip


def test_the_call_of_a_stopped_attempt_changes_nothing_when_it_returns(aws: RunningAws, role: str) -> None:
    # While the second call is in progress, the first one returns, or fails and would be retried.
    function(
        aws,
        "slow",
        "time.sleep(event['seconds'])\n    if event['fail'] == event['redrive']:\n        raise Broken('no')",
    )
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 3}]
    catch = [{"ErrorEquals": ["States.ALL"], "Assign": {"by": "caught"}, "Next": "Read"}]
    for fail in (None, 0):
        payload = {"seconds": 1.5, "fail": fail, "redrive": COUNT}
        call = task(INVOKE, {"FunctionName": "slow", "Payload": payload}, Retry=retry, Catch=catch, Next="Read")
        call |= {"Assign": {"by": COUNT}}
        arn = start(aws, role, {"Call": call, "Read": passing("{% $by %}")})
        assert eventually(lambda arn=arn: "TaskStarted" in event_types(aws, arn))
        time.sleep(0.7)
        stop(aws, arn)
        redrive(aws, arn)
        done = ended(aws, arn)
        assert (done["status"], done["output"]) == ("SUCCEEDED", "1")
        time.sleep(2)
        assert event_types(aws, arn)[-8:] == [
            "ExecutionRedriven", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited",
            "PassStateEntered", "PassStateExited", "ExecutionSucceeded",
        ]  # fmt: skip
        assert describe(aws, arn)["status"] == "SUCCEEDED"
        calls = aws.decisions(action="lambda:InvokeFunction", allowed=True)
        assert sum(decision["resource"].endswith(":slow") for decision in calls) == (2 if fail is None else 4)


def test_an_execution_stopped_before_a_retry_does_not_call_again(aws: RunningAws, role: str) -> None:
    function(aws, "pausing", "if event['redrive'] == 0:\n        raise Broken('no')\n    return event")
    retry = [{"ErrorEquals": ["Broken"], "IntervalSeconds": 2, "MaxAttempts": 1}]
    payload = {"redrive": COUNT, "retry": RETRIES}
    arn = start(aws, role, {"Call": task(INVOKE, {"FunctionName": "pausing", "Payload": payload}, Retry=retry)})
    assert eventually(lambda: event_types(aws, arn)[-1] == "TaskFailed")
    stop(aws, arn)
    time.sleep(3)

    def calls() -> int:
        decisions = aws.decisions(action="lambda:InvokeFunction", allowed=True)
        return sum(decision["resource"].endswith(":pausing") for decision in decisions)

    assert (calls(), describe(aws, arn)["status"]) == (1, "ABORTED")
    redrive(aws, arn)
    assert json.loads(ended(aws, arn)["output"])["Payload"] == {"redrive": 1, "retry": 0}
    assert calls() == 2


def test_the_machines_time_out_starts_again_with_a_redrive(aws: RunningAws, role: str) -> None:
    states = {
        "Wait": {"Type": "Wait", "Seconds": "{% $states.context.Execution.RedriveCount < 2 ? 30 : 1 %}", "End": True}
    }
    arn = start(aws, role, states, TimeoutSeconds=2)
    first = ended(aws, arn)
    assert (first["status"], first["error"], first["redriveStatus"]) == ("TIMED_OUT", "States.Timeout", "REDRIVABLE")
    date = redrive(aws, arn)
    second = ended(aws, arn)
    assert (second["status"], second["redriveCount"]) == ("TIMED_OUT", 1)
    assert 1.5 < (second["stopDate"] - date).total_seconds() < 6
    redrive(aws, arn)
    assert ended(aws, arn)["status"] == "SUCCEEDED"


def test_a_redrive_has_the_definition_and_the_role_of_the_start(aws: RunningAws, role: str) -> None:
    sfn = aws.client("stepfunctions")
    states = {
        "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Ask"},
        "Ask": task(INVOKE, {"FunctionName": "redriven-versioned", "Payload": {}}, Next="Read"),
        "Read": passing({"definition": "old", "role": "{% $states.context.Execution.RoleArn %}"}),
    }
    machine = create(aws, role, states)
    arn = sfn.start_execution(stateMachineArn=machine)["executionArn"]
    other = aws.role("redriven-other", service="states")
    new = json.dumps({"StartAt": "New", "QueryLanguage": "JSONata", "States": {"New": passing("new")}})
    sfn.update_state_machine(stateMachineArn=machine, definition=new, roleArn=other)  # While the execution waits.
    assert ended(aws, arn)["error"] == "Lambda.ResourceNotFoundException"
    function(aws, "redriven-versioned", "return event")
    redrive(aws, arn)
    done = ended(aws, arn)
    assert json.loads(done["output"]) == {"definition": "old", "role": role}
    fresh = ended(aws, sfn.start_execution(stateMachineArn=machine)["executionArn"])
    assert json.loads(fresh["output"]) == "new"


def test_a_fail_state_fails_again(aws: RunningAws, role: str) -> None:
    fail = {"Type": "Fail", "Error": "E", "Cause": "{% 'redriven ' & $states.context.Execution.RedriveCount %}"}
    arn = start(aws, role, {"Before": passing(1, Next="F"), "F": fail})
    for count in range(3):
        failed = ended(aws, arn)
        assert (failed["status"], failed["error"], failed["cause"]) == ("FAILED", "E", f"redriven {count}")
        redrive(aws, arn)
    assert ended(aws, arn)["redriveCount"] == 3
    assert event_types(aws, arn).count("PassStateEntered") == 1


def test_an_execution_that_cannot_be_redriven_is_refused_with_the_reason(aws: RunningAws, role: str) -> None:
    sfn = aws.client("stepfunctions")
    succeeded = start(aws, role, {"A": passing(1)})
    ended(aws, succeeded)
    reason = ("ExecutionNotRedrivable", "Execution is SUCCEEDED and cannot be redriven")
    assert redrive_refusal(aws, succeeded) == reason
    assert describe(aws, succeeded)["redriveCount"] == 0
    running = start(aws, role, {"W": {"Type": "Wait", "Seconds": 5, "End": True}})
    assert redrive_refusal(aws, running) == ("ExecutionNotRedrivable", "Execution is RUNNING and cannot be redriven")
    stop(aws, running)
    assert redrive_refusal(aws, running, clientToken="no spaces")[0] == "ValidationException"
    assert redrive_refusal(aws, f"{running}-other")[0] == "ExecutionDoesNotExist"
    assert redrive_refusal(aws, running.replace(":execution:", ":stateMachine:"))[0] == "InvalidArn"
    sfn.delete_state_machine(stateMachineArn=describe(aws, running)["stateMachineArn"])
    assert redrive_refusal(aws, running)[0] == "ExecutionDoesNotExist"


def test_a_repeated_client_token_redrives_once(aws: RunningAws, role: str) -> None:
    arn = start(aws, role, {"F": {"Type": "Fail", "Error": "E"}})
    ended(aws, arn)
    date = redrive(aws, arn, clientToken="token-1")
    ended(aws, arn)
    assert redrive(aws, arn, clientToken="token-1") == date
    assert describe(aws, arn)["redriveCount"] == 1
    assert redrive(aws, arn, clientToken="token-2") > date
    assert ended(aws, arn)["redriveCount"] == 2


def test_a_redrive_needs_its_permission_on_the_execution(aws: RunningAws, role: str) -> None:
    arn = start(aws, role, {"F": {"Type": "Fail", "Error": "E"}})
    ended(aws, arn)
    own, others = f"{arn.rpartition(':')[0]}:*", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:other:*"
    may = aws.session(aws.role("may-redrive", allow("states:RedriveExecution", own)))
    may_not = aws.session(aws.role("may-not-redrive", allow("states:RedriveExecution", others)))
    with pytest.raises(ClientError, match=f"not authorized to perform: states:RedriveExecution on resource: {arn}"):
        aws.client("stepfunctions", may_not).redrive_execution(executionArn=arn)
    assert describe(aws, arn)["redriveCount"] == 0
    assert aws.client("stepfunctions", may).redrive_execution(executionArn=arn)["redriveDate"]
    assert ended(aws, arn)["redriveCount"] == 1


class Events:
    """EventBridge's events about one state machine, which come by way of a queue."""

    def __init__(self, aws: RunningAws, name: str, machine: str) -> None:
        self.sqs, events = aws.client("sqs"), aws.client("events")
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        allowed = {**allow("sqs:SendMessage", queue), "Principal": {"Service": "events.amazonaws.com"}}
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})
        events.put_rule(Name=name, EventPattern=json.dumps({"detail": {"stateMachineArn": [machine]}}))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue}])
        self.details: list[dict[str, Any]] = []

    def received(self, count: int) -> list[dict[str, Any]]:
        """Wait for this many events. Return the details of all."""

        def receive() -> bool:
            for message in self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
                self.details.append(json.loads(message["Body"])["detail"])
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return len(self.details) >= count

        assert eventually(receive)
        return self.details


def test_eventbridge_gets_an_event_for_every_change_of_status(aws: RunningAws, role: str) -> None:
    states = {
        "W": {"Type": "Wait", "Seconds": "{% $states.context.Execution.RedriveCount < 2 ? 20 : 0 %}", "End": True}
    }
    machine = create(aws, role, states, TimeoutSeconds=2)
    events = Events(aws, "redrives", machine)
    arn = aws.client("stepfunctions").start_execution(stateMachineArn=machine, input='{"a": 1}')["executionArn"]
    stop(aws, arn)
    redrive(aws, arn)
    ended(aws, arn)
    redrive(aws, arn)
    ended(aws, arn)
    details = events.received(6)
    fields = ("status", "redriveCount", "redriveStatus", "error", "cause")
    assert [tuple(detail[name] for name in fields) for detail in details] == [
        ("RUNNING", 0, "NOT_REDRIVABLE", None, None),
        ("ABORTED", 0, "REDRIVABLE", "Mine", "enough"),
        ("RUNNING", 1, "NOT_REDRIVABLE", None, None),
        ("TIMED_OUT", 1, "REDRIVABLE", "States.Timeout", None),
        ("RUNNING", 2, "NOT_REDRIVABLE", None, None),
        ("SUCCEEDED", 2, "NOT_REDRIVABLE", None, None),
    ]
    assert {d["executionArn"] for d in details} == {arn}
    assert all(d["input"] == '{"a": 1}' and d["inputDetails"] == {"included": True} for d in details)
    assert [d["redriveDate"] is None for d in details] == [True, True, False, False, False, False]
    assert [d["stopDate"] is None for d in details] == [True, False] * 3
    assert (details[-1]["output"], details[-1]["outputDetails"]) == ('{"a": 1}', {"included": True})
    assert details[2]["redriveStatusReason"] == "Execution is RUNNING and cannot be redriven"
    assert details[3]["redriveStatusReason"] is None


def test_an_event_has_at_most_248_kilobytes_of_input_and_output(aws: RunningAws, role: str) -> None:
    machine = create(aws, role, {"A": passing("{% $pad('', 1000, 'y') %}")})
    events = Events(aws, "long", machine)
    text = json.dumps({"text": "x" * 253_500})
    arn = aws.client("stepfunctions").start_execution(stateMachineArn=machine, input=text)["executionArn"]
    running, succeeded = events.received(2)
    assert (running["input"] == text, running["inputDetails"]) == (True, {"included": True})
    assert (succeeded["input"], succeeded["inputDetails"]) == (None, {"included": False})
    assert (len(succeeded["output"]), succeeded["outputDetails"]) == (1002, {"included": True})
    assert describe(aws, arn)["input"] == text
