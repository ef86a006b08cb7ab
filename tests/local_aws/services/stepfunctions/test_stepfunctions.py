"""State machines on local AWS run under their role, with AWS's limits, variables, errors and events."""

from __future__ import annotations

import itertools
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION, control, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

INVOKE, PUBLISH = "arn:aws:states:::lambda:invoke", "arn:aws:states:::sns:publish"
_numbers = itertools.count()


def allow(actions: str | list[str], resource: str | list[str] = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    return aws.role("machine", service="states")


def create(aws: RunningAws, role: str, states: dict[str, Any], **top: Any) -> str:
    body = {"StartAt": next(iter(states)), "QueryLanguage": "JSONata", "States": states, **top}
    answer = aws.client("stepfunctions").create_state_machine(
        name=f"machine-{next(_numbers)}", definition=json.dumps(body), roleArn=role
    )
    return str(answer["stateMachineArn"])


def start(aws: RunningAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> str:
    machine = create(aws, role, states, **top)
    answer = aws.client("stepfunctions").start_execution(stateMachineArn=machine, input=json.dumps(data or {}))
    return str(answer["executionArn"])


def ended(aws: RunningAws, arn: str) -> dict[str, Any]:
    """Wait for the end of an execution. Return its description."""

    def execution() -> dict[str, Any] | None:
        found: dict[str, Any] = aws.client("stepfunctions").describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    found = eventually(execution, 20)
    assert found, "the execution did not end"
    return dict(found)


def run(aws: RunningAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> dict[str, Any]:
    return ended(aws, start(aws, role, states, data, **top))


def output(aws: RunningAws, role: str, states: dict[str, Any], data: Any = None, **top: Any) -> Any:
    """Run a machine, which must succeed. Return its output."""
    execution = run(aws, role, states, data, **top)
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return json.loads(execution["output"])


def history(aws: RunningAws, arn: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = aws.client("stepfunctions").get_execution_history(executionArn=arn)["events"]
    return events


def task(resource: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return ending({"Type": "Task", "Resource": resource, "Arguments": arguments, **more})


def passing(value: Any, **more: Any) -> dict[str, Any]:
    return ending({"Type": "Pass", "Output": value, **more})


def ending(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that ends the machine, unless it has a next one."""
    return state if "Next" in state else {**state, "End": True}


# Messages under the machine's role


class Topic:
    """A topic, a queue that gets its messages, and a role that may publish to it."""

    def __init__(self, aws: RunningAws) -> None:
        self.sqs, sns = aws.client("sqs"), aws.client("sns")
        self.url = self.sqs.create_queue(QueueName="states-topic")["QueueUrl"]
        self.arn = str(sns.create_topic(Name="states-topic")["TopicArn"])
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:states-topic"
        allowed = {**allow("sqs:SendMessage", queue), "Principal": {"Service": "sns.amazonaws.com"}}
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue)
        self.role = aws.role(
            "machine-publisher", allow("sns:Publish", [self.arn, f"{self.arn}-none"]), service="states"
        )

    def received(self) -> dict[str, Any]:
        """Return the next message, as SNS wraps it."""
        message = eventually(lambda: self.sqs.receive_message(QueueUrl=self.url).get("Messages"))[0]
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return dict(json.loads(message["Body"]))


@pytest.fixture(scope="module")
def topic(aws: RunningAws) -> Topic:
    return Topic(aws)


def test_a_message_is_published_under_the_machines_role(aws: RunningAws, topic: Topic) -> None:
    message = {"TopicArn": topic.arn, "Subject": "s", "Message": "m"}
    arn = start(aws, topic.role, {"Tell": task(PUBLISH, message)})
    result = json.loads(ended(aws, arn)["output"])
    assert set(result) == {"MessageId", "SdkHttpMetadata", "SdkResponseMetadata"}
    assert result["SdkHttpMetadata"] == {"HttpStatusCode": 200}
    received = topic.received()
    assert (received["MessageId"], received["Subject"], received["Message"]) == (result["MessageId"], "s", "m")
    assert [event["type"] for event in history(aws, arn)][2:5] == ["TaskScheduled", "TaskStarted", "TaskSucceeded"]
    details = history(aws, arn)[2]["taskScheduledEventDetails"]
    assert (details["resourceType"], details["resource"]) == ("sns", "publish")
    assert json.loads(details["parameters"]) == message
    (decision,) = aws.decisions(action="sns:Publish", resource=topic.arn)
    assert (decision["allowed"], ":assumed-role/machine-publisher/" in decision["principal"]) == (True, True)


def test_a_message_that_is_not_a_string_is_sent_as_json(aws: RunningAws, topic: Topic) -> None:
    output(aws, topic.role, {"Tell": task(PUBLISH, {"TopicArn": topic.arn, "Message": {"a": [1]}})})
    assert json.loads(topic.received()["Message"]) == {"a": [1]}


def test_a_missing_grant_fails_the_execution_and_is_named(aws: RunningAws, topic: Topic) -> None:
    role = aws.role("machine-without-grants", service="states")
    arn = start(aws, role, {"Tell": task(PUBLISH, {"TopicArn": topic.arn, "Message": "m"})})
    execution = ended(aws, arn)
    assert (execution["status"], execution["error"]) == ("FAILED", "SNS.AuthorizationErrorException")
    assert f"is not authorized to perform: sns:Publish on resource: {topic.arn}" in execution["cause"]
    assert "(Service: AmazonSNS; Status Code: 403; Error Code: AuthorizationError; Request ID: " in execution["cause"]
    assert "output" not in execution
    events = history(aws, arn)
    failed = next(event["taskFailedEventDetails"] for event in events if event["type"] == "TaskFailed")
    assert (failed["resourceType"], failed["error"]) == ("sns", execution["error"])
    assert events[-1]["type"] == "ExecutionFailed"
    assert events[-1]["executionFailedEventDetails"] == {"error": execution["error"], "cause": execution["cause"]}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"MessageGroup": "g"}, 'The field "MessageGroup" is not supported by Step Functions'),
        ({"Subject": 1}, "The value of the field 'Subject' has an invalid format"),
    ],
)
def test_wrong_computed_arguments_fail_the_execution(
    aws: RunningAws, topic: Topic, more: dict[str, Any], reason: str
) -> None:
    message = {"TopicArn": topic.arn, "Message": "m"} | more
    execution = run(aws, topic.role, {"Tell": task(PUBLISH, "{% $states.input %}")}, message)
    assert execution["error"] == "States.Runtime"
    assert "An error occurred while executing the state 'Tell' (entered at the event id #2)" in execution["cause"]
    assert f"could not be used to start the Task: [{reason}]" in execution["cause"]


def test_a_service_refusal_can_be_caught_by_its_name(aws: RunningAws, topic: Topic) -> None:
    catch = [{"ErrorEquals": ["SNS.NotFoundException"], "Next": "Default"}]
    tell = task(PUBLISH, {"TopicArn": f"{topic.arn}-none", "Message": "m"}, Catch=catch)
    assert output(aws, topic.role, {"Tell": tell, "Default": passing("unknown")}) == "unknown"


def test_a_retry_evaluates_its_arguments_with_the_new_count(aws: RunningAws, topic: Topic) -> None:
    arn = f"{{% '{topic.arn}' & ($states.context.State.RetryCount = 0 ? '-none' : '') %}}"
    retry = [{"ErrorEquals": ["SNS.NotFoundException"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    tell = task(
        PUBLISH, {"TopicArn": arn, "Message": "m"}, Retry=retry, Output="{% $states.context.State.RetryCount %}"
    )
    assert output(aws, topic.role, {"Tell": tell}) == 1


def test_a_state_can_be_tested_alone(aws: RunningAws, role: str) -> None:
    sfn = aws.client("stepfunctions")
    sfn.meta.config.inject_host_prefix = False  # The host would be sync-127.0.0.1.
    tested = sfn.test_state(
        definition=json.dumps({"QueryLanguage": "JSONata", **passing("{% $states.input.n + 1 %}")}),
        roleArn=role,
        input=json.dumps({"n": 1}),
    )
    assert (tested["status"], tested["output"]) == ("SUCCEEDED", "2")


# Creation


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            task("arn:aws:states:::sagemaker:createTrainingJob.sync", {}),
            "Local AWS does not have the resource arn:aws:states:::sagemaker:createTrainingJob.sync: "
            "call the service from a function at /States/A/Resource",
        ),
        (
            task(PUBLISH, {"Message": "m", "Topic": "t"}),
            'The field "Topic" is not supported by Step Functions at /States/A/Arguments',
        ),
    ],
)
def test_a_definition_that_cannot_run_is_refused_at_creation(
    aws: RunningAws, role: str, state: Any, message: str
) -> None:
    with pytest.raises(ClientError) as refused:
        create(aws, role, {"A": state})
    assert refused.value.response["Error"]["Code"] == "InvalidDefinition"
    assert message in refused.value.response["Error"]["Message"]


def test_a_role_that_step_functions_may_not_assume_is_refused_at_creation(aws: RunningAws) -> None:
    with pytest.raises(ClientError, match=r"Neither the global service principal states\.amazonaws\.com"):
        create(aws, aws.role("states-trusts-lambda", service="lambda"), {"A": passing(1)})
    condition = {"ArnLike": {"aws:SourceArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:machine-*"}}
    assert output(aws, aws.role("guarded", service="states", Condition=condition), {"A": passing(1)}) == 1
    condition["ArnLike"]["aws:SourceArn"] = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:*"
    with pytest.raises(ClientError, match=r"Neither the global service principal states\.amazonaws\.com"):
        create(aws, aws.role("guarded-elsewhere", service="states", Condition=condition), {"A": passing(1)})


# Limits


def test_the_machines_own_time_out_ends_the_execution(aws: RunningAws, role: str) -> None:
    events, sqs = aws.client("events"), aws.client("sqs")
    url = sqs.create_queue(QueueName="timed-out")["QueueUrl"]
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:timed-out"
    allowed = {**allow("sqs:SendMessage", queue), "Principal": {"Service": "events.amazonaws.com"}}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})
    pattern = {"source": ["aws.states"], "detail": {"status": ["TIMED_OUT"]}}
    events.put_rule(Name="timed-out", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="timed-out", Targets=[{"Id": "queue", "Arn": queue}])
    states = {"Wait": {"Type": "Wait", "Seconds": 30, "Next": "End"}, "End": passing(1)}
    started = time.monotonic()
    arn = start(aws, role, states, TimeoutSeconds=1)
    execution = ended(aws, arn)
    assert (execution["status"], execution["error"]) == ("TIMED_OUT", "States.Timeout")
    assert time.monotonic() - started < 10
    assert history(aws, arn)[-1]["type"] == "ExecutionTimedOut"
    messages = eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    assert json.loads(messages[0]["Body"])["detail"]["executionArn"] == arn


def test_a_state_may_pass_on_262144_bytes_and_no_more(aws: RunningAws, role: str) -> None:
    states = {"A": passing("{% $pad('', $states.input.n, 'x') %}", Next="B"), "B": passing(1)}
    assert run(aws, role, states, {"n": 262_144 - 2})["status"] == "SUCCEEDED"
    over = run(aws, role, states, {"n": 262_144 - 1})
    assert (over["status"], over["error"]) == ("FAILED", "States.DataLimitExceeded")
    assert over["cause"] == (
        "The state/task 'A' returned a result with a size exceeding the maximum number of bytes service limit."
    )


def test_a_payload_over_the_limit_is_not_caught_by_a_wildcard(aws: RunningAws, role: str) -> None:
    child = {"C": passing("{% $pad('', 200000, 'x') %}")}
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": "C", "States": child}
    each = {"Type": "Map", "ItemProcessor": processor, "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]}
    states = {"M": {**each, "End": True}, "Caught": {"Type": "Succeed"}}
    mapping = aws.role(
        "machine-mapping", allow(["states:StartExecution", "states:DescribeExecution"]), service="states"
    )
    assert run(aws, mapping, states, [1, 2])["error"] == "States.DataLimitExceeded"


def test_an_input_over_the_limit_is_refused(aws: RunningAws, role: str) -> None:
    machine, sfn = create(aws, role, {"A": passing(1)}), aws.client("stepfunctions")
    with pytest.raises(ClientError, match="less than or equal to 262144"):
        sfn.start_execution(stateMachineArn=machine, input=json.dumps("x" * 262_144))
    with pytest.raises(ClientError, match="InvalidExecutionInput"):
        sfn.start_execution(stateMachineArn=machine, input="{")
    with pytest.raises(ClientError, match="InvalidName"):
        sfn.start_execution(stateMachineArn=machine, name="no spaces", input="{}")


# Variables and context


def test_the_context_has_redrive_count_role_and_state(aws: RunningAws, role: str) -> None:
    read = {
        "redrive": "{% $states.context.Execution.RedriveCount %}",
        "role": "{% $states.context.Execution.RoleArn %}",
        "state": "{% $states.context.State.Name %}",
        "entered": "{% $exists($states.context.State.EnteredTime) %}",
        "retries": "{% $states.context.State.RetryCount %}",
    }
    expected = {"redrive": 0, "role": role, "state": "Read", "entered": True, "retries": 0}
    assert output(aws, role, {"Read": {"Type": "Succeed", "Output": read}}) == expected
    assert output(aws, role, {"Read": passing(read)}) == expected
    fail = {"Type": "Fail", "Error": "E", "Cause": "{% 'redriven ' & $states.context.Execution.RedriveCount %}"}
    assert run(aws, role, {"Read": fail})["cause"] == "redriven 0"


def test_a_stopped_execution_stays_aborted(aws: RunningAws, role: str) -> None:
    states = {"W": {"Type": "Wait", "Seconds": 1, "Next": "F"}, "F": {"Type": "Fail", "Error": "E"}}
    arn = start(aws, role, states, [1])
    assert eventually(lambda: history(aws, arn)[-1]["type"] == "WaitStateEntered")
    aws.client("stepfunctions").stop_execution(executionArn=arn, error="Mine", cause="enough")
    time.sleep(1.5)
    execution = aws.client("stepfunctions").describe_execution(executionArn=arn)
    assert (execution["status"], execution["error"], execution["cause"]) == ("ABORTED", "Mine", "enough")
    assert history(aws, arn)[-1]["type"] == "ExecutionAborted"


# Functions


@pytest.fixture(scope="module")
def function(aws: RunningAws) -> str:
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/*"
    role = aws.role("echo", allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], logs))
    source = (
        "class DatasetRefused(Exception):\n    pass\n"
        "import time\n"
        "def handler(event, context):\n"
        "    if event.get('fail'):\n        raise DatasetRefused('no rows')\n"
        "    time.sleep(event.get('seconds', 0))\n"
        "    return {'version': context.function_version, 'event': event}\n"
    )
    aws.function("echo", source, role)
    version = aws.client("lambda").publish_version(FunctionName="echo")["FunctionArn"]
    return str(version)


def test_a_function_is_called_by_its_version_under_the_role(aws: RunningAws, function: str) -> None:
    caller = aws.role("machine-caller", allow("lambda:InvokeFunction", function), service="states")
    invoke = task(INVOKE, {"FunctionName": function, "Payload": {"a": 1}})
    result = output(aws, caller, {"Call": invoke})
    assert result["Payload"] == {"version": "1", "event": {"a": 1}}
    assert (result["StatusCode"], result["ExecutedVersion"]) == (200, "1")
    assert output(aws, caller, {"Call": task(function, {"b": 2})}) == {"version": "1", "event": {"b": 2}}
    name, _, version = function.rpartition(":")
    qualified = task(INVOKE, {"FunctionName": name, "Qualifier": version})
    assert output(aws, caller, {"Call": qualified})["Payload"] == {"version": "1", "event": {}}
    unqualified = task(INVOKE, {"FunctionName": name})
    execution = run(aws, caller, {"Call": unqualified})
    assert execution["error"] == "Lambda.AWSLambdaException"
    assert "is not authorized to perform: lambda:InvokeFunction" in execution["cause"]


def test_a_functions_exception_is_the_tasks_error(aws: RunningAws, function: str) -> None:
    caller = aws.role("machine-catcher", allow("lambda:InvokeFunction", function), service="states")
    invoke = task(INVOKE, {"FunctionName": function, "Payload": {"fail": True}})
    arn = start(aws, caller, {"Call": invoke})
    execution = ended(aws, arn)
    assert execution["error"] == "DatasetRefused"
    cause = json.loads(execution["cause"])
    assert (cause["errorType"], cause["errorMessage"]) == ("DatasetRefused", "no rows")
    assert {"stackTrace", "requestId"} <= set(cause)
    invoke["Catch"] = [{"ErrorEquals": ["DatasetRefused"], "Next": "Caught"}]
    assert output(aws, caller, {"Call": invoke, "Caught": passing("caught")}) == "caught"


def test_a_task_that_times_out_fails_and_its_function_runs_on(aws: RunningAws, function: str) -> None:
    caller = aws.role("machine-patient", allow("lambda:InvokeFunction", function), service="states")
    invoke = task(INVOKE, {"FunctionName": function, "Payload": {"seconds": 3}}, TimeoutSeconds=1)
    arn = start(aws, caller, {"Call": invoke})
    assert ended(aws, arn)["error"] == "States.Timeout"
    events = history(aws, arn)
    time.sleep(3)
    assert history(aws, arn) == events
    assert [event["type"] for event in events][-2:] == ["TaskTimedOut", "ExecutionFailed"]


def test_wrong_computed_arguments_of_a_function_fail_the_execution(aws: RunningAws, function: str, role: str) -> None:
    for arguments, reason in (
        ({"FunctionName": function, "Event": {}}, 'The field "Event" is not supported by Step Functions'),
        ({"Payload": {}}, "The field 'FunctionName' is required but was missing"),
    ):
        execution = run(aws, role, {"Call": task(INVOKE, "{% $states.input %}")}, arguments)
        assert execution["error"] == "States.Runtime"
        assert f"could not be used to start the Task: [{reason}]" in execution["cause"]


def test_the_end_of_an_execution_can_be_backdated(aws: RunningAws, role: str) -> None:
    arn = start(aws, role, {"Wait": {"Type": "Wait", "Seconds": 30, "Next": "End"}, "End": passing(1)})
    with pytest.raises(HTTPError, match="400"):  # It runs.
        control(aws, "states", backdate=arn, seconds=45)
    states = aws.client("stepfunctions")
    states.stop_execution(executionArn=arn)
    before = states.describe_execution(executionArn=arn)
    control(aws, "states", backdate=arn, seconds=45)
    (listed,) = [
        execution
        for execution in states.list_executions(stateMachineArn=before["stateMachineArn"])["executions"]
        if execution["executionArn"] == arn
    ]
    assert listed["stopDate"] == before["stopDate"] - timedelta(seconds=45)
