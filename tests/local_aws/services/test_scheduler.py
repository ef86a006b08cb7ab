"""Schedules call their target once under their own role, are deleted after it, and have a dead-letter queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, IMPORT_BOTO3, REGION, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

SEND, INVOKE = "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", "arn:aws:scheduler:::aws-sdk:lambda:invoke"


def at(seconds: float) -> str:
    """Return the schedule expression of a time so many seconds from now."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return f"at({moment:%Y-%m-%dT%H:%M:%S})"


def create(aws: RunningAws, name: str, target: dict[str, Any], seconds: float = 0) -> None:
    aws.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=at(seconds),
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target=target,
    )


@pytest.fixture(scope="module")
def queue(aws: RunningAws) -> str:
    return str(aws.client("sqs").create_queue(QueueName="ticks")["QueueUrl"])


def test_a_universal_target_is_called_once_under_the_schedules_role(aws: RunningAws, queue: str) -> None:
    allow = {
        "Effect": "Allow",
        "Action": "sqs:SendMessage",
        "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:ticks",
    }
    role = aws.role("ticker", allow, service="scheduler")
    body = {"queueurl": queue, "MessageBody": "<aws.scheduler.schedule-arn> <aws.scheduler.attempt-number>"}
    create(aws, "tick", {"Arn": SEND, "RoleArn": role, "Input": json.dumps(body)})
    received = eventually(lambda: aws.client("sqs").receive_message(QueueUrl=queue).get("Messages"))
    assert received[0]["Body"] == f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/tick 1"
    assert aws.client("scheduler").list_schedules(NamePrefix="tick")["Schedules"] == []
    assert aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=2).get("Messages") is None
    [sent] = aws.decisions(action="sqs:SendMessage", resource=f"arn:aws:sqs:{REGION}:{ACCOUNT}:ticks")
    assert sent["principal"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/ticker/")


def test_a_schedule_that_was_called_is_called_again_at_a_new_time(aws: RunningAws, queue: str) -> None:
    sqs = aws.client("sqs")
    allow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:ticks"}
    role = aws.role("again", allow, service="scheduler")
    target = {"Arn": SEND, "RoleArn": role, "Input": json.dumps({"QueueUrl": queue, "MessageBody": "again"})}
    parts = {"Name": "again", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
    aws.client("scheduler").create_schedule(**parts, ScheduleExpression=at(0))
    for _ in range(2):
        (message,) = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        aws.client("scheduler").update_schedule(**parts, ScheduleExpression=at(1))
    aws.client("scheduler").delete_schedule(Name="again")


def test_a_function_is_not_called_without_the_roles_permission(aws: RunningAws) -> None:
    source = "def handler(event, context): raise RuntimeError('must not run')\n"
    aws.function("guarded", source, aws.role("guarded-role"))
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:guarded"
    call = {"Arn": INVOKE, "Input": json.dumps({"FunctionName": arn})}
    create(aws, "guarded", {**call, "RoleArn": aws.role("without-invoke", service="scheduler")})
    denied = eventually(lambda: aws.decisions(action="lambda:InvokeFunction", resource=arn, allowed=False))
    assert denied[0]["principal"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/without-invoke/")


def test_a_function_is_called_with_its_payload(aws: RunningAws) -> None:
    source = "def handler(e, c): boto3.client('s3').put_object(Bucket='ran', Key=e['key'], Body=b'')\n"
    aws.client("s3").create_bucket(Bucket="ran", CreateBucketConfiguration={"LocationConstraint": REGION})
    write = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::ran/*"}
    aws.function("runs", IMPORT_BOTO3 + source, aws.role("runs-role", write))
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:runs"
    invoke = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}
    role = aws.role("runner", invoke, service="scheduler")
    call = {"FunctionName": arn, "InvocationType": "Event", "Payload": '{"key": "here"}'}
    create(aws, "runs", {"Arn": INVOKE, "RoleArn": role, "Input": json.dumps(call)})
    assert eventually(lambda: aws.client("s3").list_objects_v2(Bucket="ran")["KeyCount"]) == 1


def test_a_function_is_called_asynchronously_and_its_failures_go_to_its_own_destination(aws: RunningAws) -> None:
    queue = str(aws.client("sqs").create_queue(QueueName="calls-failed")["QueueUrl"])
    queue_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:calls-failed"
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": queue_arn}
    aws.function("failing", "def handler(e, c): raise ValueError('no ' + e['what'])\n", aws.role("failing-role", send))
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:failing"
    destination = {"OnFailure": {"Destination": queue_arn}}
    aws.client("lambda").put_function_event_invoke_config(
        FunctionName="failing", Qualifier="$LATEST", MaximumRetryAttempts=0, DestinationConfig=destination
    )
    invoke = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}
    role = aws.role("schedule-caller", invoke, service="scheduler")
    dead = {"DeadLetterConfig": {"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:ticks"}}
    create(aws, "calls", {"Arn": arn, "RoleArn": role, "Input": '{"what": "luck"}', **dead})
    (message,) = eventually(lambda: aws.client("sqs").receive_message(QueueUrl=queue).get("Messages"))
    record = json.loads(message["Body"])
    assert record["requestPayload"] == {"what": "luck"}
    assert record["requestContext"]["functionArn"] == f"{arn}:$LATEST"
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responsePayload"]["errorMessage"] == "no luck"
    # For Scheduler the call was delivered.
    ticks = aws.client("sqs").get_queue_url(QueueName="ticks")["QueueUrl"]
    assert aws.client("sqs").receive_message(QueueUrl=ticks, WaitTimeSeconds=1).get("Messages") is None
    [sent] = aws.decisions(action="sqs:SendMessage", resource=queue_arn, allowed=True)[1:]
    assert sent["principal"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/failing-role/")


def test_a_destination_needs_the_functions_role(aws: RunningAws) -> None:
    aws.client("sqs").create_queue(QueueName="calls-lost")
    destination = {"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:calls-lost"}}
    aws.function("silent", "def handler(e, c): raise ValueError\n", aws.role("silent-role"))
    with pytest.raises(ClientError, match="does not have permissions to call SendMessage on SQS"):
        aws.client("lambda").put_function_event_invoke_config(FunctionName="silent", DestinationConfig=destination)


def test_a_functions_input_must_be_json(aws: RunningAws) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:any"
    target = {"Arn": arn, "RoleArn": aws.role("speaker", service="scheduler"), "Input": "hello"}
    with pytest.raises(ClientError, match="must be well-formed JSON"):
        create(aws, "spoken", target)


@pytest.mark.parametrize("trusted", ["lambda", "states"])
def test_the_role_must_trust_scheduler(aws: RunningAws, trusted: str) -> None:
    role = aws.role(f"for-{trusted}", service=trusted)
    with pytest.raises(ClientError, match="must allow AWS EventBridge Scheduler to assume the role"):
        create(aws, "untrusted", {"Arn": SEND, "RoleArn": role})


@pytest.mark.parametrize(("source", "allowed"), [("schedule-group/default", True), ("schedule/default/guard*", False)])
def test_the_source_arn_of_a_trust_is_the_schedules_group_and_not_the_schedule(
    aws: RunningAws, source: str, allowed: bool
) -> None:
    condition = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:{source}"},
    }
    name = f"guard-{'group' if allowed else 'schedule'}"
    role = aws.role(name, service="scheduler", Condition=condition)
    target = {"Arn": SEND, "RoleArn": role, "Input": "{}"}
    if not allowed:
        with pytest.raises(ClientError, match="must allow AWS EventBridge Scheduler to assume the role"):
            create(aws, name, target)
        return
    create(aws, name, target)
    assumed = eventually(lambda: aws.decisions(action="sts:AssumeRole", resource=role))
    assert all(d["allowed"] for d in assumed)


@pytest.mark.parametrize("call", ["sqs:sendMesage", "nosuch:thing", "sagemaker:describeEndpoint"])
def test_a_universal_target_must_be_an_operation_that_exists_and_writes(aws: RunningAws, call: str) -> None:
    role = aws.role(f"universal-{call.replace(':', '-')}", service="scheduler")
    with pytest.raises(ClientError, match="is not supported"):
        create(aws, "wrong", {"Arn": f"arn:aws:scheduler:::aws-sdk:{call}", "RoleArn": role, "Input": "{}"})


def test_a_templated_target_is_refused(aws: RunningAws) -> None:
    target = {"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:ticks", "RoleArn": aws.role("templated", service="scheduler")}
    with pytest.raises(ClientError, match="Local AWS has Lambda functions and universal targets only"):
        create(aws, "templated", target)


FORBIDDEN = "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"


def dead_letter(aws: RunningAws, name: str, retries: int, *statements: dict[str, Any]) -> tuple[str, str]:
    """Create a schedule that fails and has the dead-letter queue NAME-failed. Return the queue's URL and ARN."""
    queue = str(aws.client("sqs").create_queue(QueueName=f"{name}-failed")["QueueUrl"])
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-failed"
    target = {
        "Arn": FORBIDDEN,
        "RoleArn": aws.role(f"{name}-caller", *statements, service="scheduler"),
        "Input": '{"EndpointName": "kept"}',
        "RetryPolicy": {"MaximumRetryAttempts": retries},
        "DeadLetterConfig": {"Arn": arn},
    }
    create(aws, name, target)
    return queue, arn


def logged(aws: RunningAws, *words: str) -> bool:
    """Return whether a line of local AWS's log has all these words."""
    lines = (aws.state_dir / "server.log").read_text().splitlines()
    return any(all(word in line for word in words) for line in lines)


@pytest.mark.parametrize(
    ("retries", "condition", "attempts"), [(0, "MaximumRetryAttempts", "0"), (185, "MaximumEventAgeInSeconds", "2")]
)
def test_a_failed_event_goes_to_the_dead_letter_queue_when_its_retries_are_used_up(
    aws: RunningAws, retries: int, condition: str, attempts: str
) -> None:
    name = f"fails-{retries}"
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": f"arn:aws:sqs:*:*:{name}-failed"}
    queue, arn = dead_letter(aws, name, retries, send)
    receive = aws.client("sqs").receive_message
    [message] = eventually(lambda: receive(QueueUrl=queue, MessageAttributeNames=["All"]).get("Messages"))
    assert message["Body"] == '{"EndpointName": "kept"}'
    attributes = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
    assert "is not authorized to perform: sagemaker:DeleteEndpoint" in attributes.pop("ERROR_MESSAGE")
    assert attributes.pop("EXECUTION_ID")
    assert attributes.pop("SCHEDULED_TIME").endswith("Z")
    assert attributes == {
        "ERROR_CODE": "AccessDeniedException",
        "EXHAUSTED_RETRY_CONDITION": condition,
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": attempts,
        "SCHEDULE_ARN": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{name}",
        "TARGET_ARN": FORBIDDEN,
    }
    [sent] = aws.decisions(action="sqs:SendMessage", resource=arn)
    assert sent["principal"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}-caller/")


def test_an_event_that_the_role_may_not_send_to_the_dead_letter_queue_is_lost(aws: RunningAws) -> None:
    queue, arn = dead_letter(aws, "mute", 0)
    assert eventually(lambda: aws.decisions(action="sqs:SendMessage", resource=arn, allowed=False))
    assert eventually(lambda: logged(aws, "schedule/default/mute", "its event is lost"))
    assert "Messages" not in aws.client("sqs").receive_message(QueueUrl=queue)


def test_a_failed_event_without_a_dead_letter_queue_is_lost(aws: RunningAws) -> None:
    role = aws.role("no-queue", service="scheduler")
    target = {"Arn": FORBIDDEN, "RoleArn": role, "Input": "{}", "RetryPolicy": {"MaximumRetryAttempts": 0}}
    create(aws, "no-queue", target)
    assert eventually(lambda: logged(aws, "schedule/default/no-queue has no dead-letter queue"))
