"""EventBridge Scheduler's targets, called under the schedule's own role: any API (universal), and a Lambda function.

MiniStack stores the schedules and runs their clock. This module calls the targets, by ordinary signed API calls of the
role. When all attempts have failed, the same role sends the event to the target's dead-letter queue. Without a queue, the
event is lost.
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import UnknownServiceError

from local_aws.core import clients
from local_aws.core.authorization import service_model
from local_aws.ministack.iam import caller_account
from local_aws.ministack.schedules import run_schedules_with
from local_aws.ministack.sessions import AccessDeniedError, role_session, trusts_service

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.model import OperationModel, Shape

logger = logging.getLogger("local_aws.scheduler")

_UNIVERSAL = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:([a-z0-9-]+):([A-Za-z0-9]+)")
_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]+(:[A-Za-z0-9$_-]+)?")
_READ_ONLY = re.compile(
    r"(get|describe|list|poll|receive|search|scan|query|select|lookup|discover|validate|batchGet)(?=[A-Z])"
)
_FAILURES = (ClientError, BotoCoreError, AccessDeniedError, ValueError)
_ATTEMPTS = 3  # AWS makes up to 185 retries in 24 hours. A few show a local run as much.


# Differs: A schedule's target | AWS: templated or universal | Here: universal, with botocore's name of the service, or a
#   Lambda function; others are refused | Why: Tuneway has no other
# Unconfirmed: Text of Scheduler's refusal of an unknown or reading universal target | Here: `Invalid RequestJson
#   provided. Reason The service or action S:A is not supported.` | Source: memory; the documentation says only that they
#   are not supported
def check(schedule: dict[str, Any], region: str) -> str | None:
    """Return the ValidationException's message that refuses a new schedule for its target, or None."""
    target = schedule.get("Target") or {}
    root = f"arn:aws:scheduler:{region}:{caller_account()}"
    group = f"{root}:schedule-group/{schedule.get('GroupName') or 'default'}"
    if not trusts_service(str(target.get("RoleArn", "")), "scheduler", group, region):
        return "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    if _FUNCTION.fullmatch(str(target.get("Arn", ""))):
        return None if _is_json(target.get("Input")) else "The Input of a Lambda target must be well-formed JSON."
    found = _UNIVERSAL.fullmatch(str(target.get("Arn", "")))
    if found is None:
        return "Local AWS has Lambda functions and universal targets only: arn:aws:scheduler:::aws-sdk:SERVICE:ACTION"
    service, action = found.groups()
    if _READ_ONLY.match(action) or _operation(service, action) is None:
        return f"Invalid RequestJson provided. Reason The service or action {service}:{action} is not supported."
    return None


def _is_json(text: object) -> bool:
    """Return whether a target's Input is JSON, or left out."""
    try:
        json.loads(str(text or "{}"))
    except ValueError:
        return False
    return True


def _operation(service: str, action: str) -> OperationModel | None:
    """Return botocore's operation of a universal target, or None if it does not exist."""
    try:
        model = service_model(service)
    except UnknownServiceError:
        return None
    return next((model.operation_model(name) for name in model.operation_names if name.lower() == action.lower()), None)


def _renamed(value: Any, shape: Shape | None) -> Any:
    """Return the Input with the model's own spelling of its members. Scheduler takes PascalCase for every API."""
    members = getattr(shape, "members", None)
    if isinstance(value, dict) and members:
        spelled = {name.lower(): name for name in members}
        named = {spelled.get(key.lower(), key): item for key, item in value.items()}
        return {key: _renamed(item, members.get(key)) for key, item in named.items()}
    if isinstance(value, list):
        return [_renamed(item, getattr(shape, "member", None)) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, getattr(shape, "value", None)) for key, item in value.items()}
    return value


# Differs: A failed schedule target | AWS: retried as long and as often as its RetryPolicy allows (24 hours, 185 times),
#   then sent to its dead-letter queue | Here: up to 3 attempts within seconds, then the same; without a queue or
#   `sqs:SendMessage` the event is lost, and the server logs it | Why: a local run does not last a day
# Unconfirmed: The call of a Lambda target | Here: Invoke with the InvocationType `Event` and the Input as the payload, so
#   that Scheduler learns nothing of the function's end | Source: the Lambda Developer Guide, "Invoke a Lambda function on a
#   schedule": asynchronously
# Unconfirmed: Which errors of a target Scheduler retries | Here: all, also a denial; then the dead letter has
#   `EXHAUSTED_RETRY_CONDITION` `MaximumRetryAttempts`, or `MaximumEventAgeInSeconds` if the policy allows more than 3
#   attempts | Source: "Configuring a schedule's dead-letter queue" names the attributes, and no error without retries;
#   EventBridge's rules send a denial to the queue at once
# Unconfirmed: Body and values of a dead letter | Here: the target's input; `ERROR_CODE` and `ERROR_MESSAGE` as the
#   called service answered | Source: the same page's example, from memory
def _invoke(
    endpoint_url: str, schedule: dict[str, Any], target: dict[str, Any], scheduled_time: float, region: str
) -> None:
    arn, execution, role = str(schedule.get("Arn", "")), str(uuid.uuid4()), str(target.get("RoleArn", ""))
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(scheduled_time))
    retries = int((target.get("RetryPolicy") or {}).get("MaximumRetryAttempts", 185))
    attempts = min(_ATTEMPTS, retries + 1)
    is_function = _FUNCTION.fullmatch(str(target["Arn"])) is not None
    service, action = ("lambda", "invoke") if is_function else str(target["Arn"]).split(":")[-2:]

    def call(service: str, operation: str, /, **parameters: Any) -> None:
        group = arn.replace(":schedule/", ":schedule-group/").rpartition("/")[0]
        credentials = role_session(role, execution, "scheduler", source_arn=group, region=region)
        client = clients.client(service, credentials, endpoint_url=endpoint_url, region=region)
        getattr(client, xform_name(operation))(**parameters)

    for attempt in range(1, attempts + 1):
        text = str(target.get("Input") or "")
        known = {
            "schedule-arn": arn,
            "scheduled-time": moment,
            "execution-id": execution,
            "attempt-number": str(attempt),
        }
        for name, value in known.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        try:
            operation = _operation(service, action)
            assert operation is not None  # `check` refuses other schedules.
            given = {"FunctionName": target["Arn"], "InvocationType": "Event", "Payload": text or "{}"}
            if not is_function:
                given = _renamed(json.loads(text or "{}"), operation.input_shape)
            call(service, operation.name, **given)
        except _FAILURES as error:
            logger.warning("schedule %s, attempt %d: %s", arn, attempt, error)
            failure = error
            if attempt < attempts:
                time.sleep(attempt)
        else:
            logger.info("schedule %s called %s %s", arn, service, action)
            return

    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not queue:
        logger.warning("schedule %s has no dead-letter queue: its event is lost", arn)
        return
    # The names are those of the EventBridge Scheduler User Guide, "Configuring a schedule's dead-letter queue".
    code = failure.response["Error"]["Code"] if isinstance(failure, ClientError) else type(failure).__name__
    attributes = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": str(failure),
        "EXECUTION_ID": execution,
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts" if attempts > retries else "MaximumEventAgeInSeconds",
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": str(attempts - 1),
        "SCHEDULED_TIME": moment,
        "SCHEDULE_ARN": arn,
        "TARGET_ARN": str(target["Arn"]),
    }
    named = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    account, name = queue.split(":")[4:6]
    url = f"{endpoint_url}/{account}/{name}"
    try:
        call("sqs", "SendMessage", QueueUrl=url, MessageBody=text or "{}", MessageAttributes=named)
    except _FAILURES as error:
        logger.warning("schedule %s, dead-letter queue %s: its event is lost: %s", arn, queue, error)


def register(_state_dir: Path, endpoint_url: str) -> None:
    """Let schedules call their targets by this module."""

    def invoke(schedule: dict[str, Any], target: dict[str, Any], scheduled_time: float, region: str) -> None:
        arguments = (endpoint_url, schedule, target, scheduled_time, region)
        threading.Thread(target=_invoke, args=arguments, daemon=True).start()

    run_schedules_with(invoke, check)
