"""The Deploy step: one stable endpoint a stack, brought to the config asked for from whatever is there.

The state machine calls the function again and again until it is through; each call looks, does at most one thing, and
says how far it is. That it starts from what it sees, and not from what it did before, is why a retry or a redrive can
go on anywhere. What to do is one table, `decide`.

Facts it rests on (SageMaker API reference, DescribeEndpoint and UpdateEndpoint): a failed UpdateEndpoint comes back to
InService on the old config, so through means InService on the config asked for; a Failed endpoint can only be deleted.

What a failed deployment leaves is put right by `pipeline.cleanup`, which follows every bad end of an execution.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import boto3
from botocore.exceptions import ClientError

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Action = Literal["create", "update", "delete", "wait", "serving", "superseded", "failed"]

PROVISIONING_MINUTES = 30
"""Time for instances, image and model before the container starts (on top of endpoint.startup_timeout_minutes)."""


class EndpointFailed(Exception):
    """The endpoint did not come up on the config asked for: one line with SageMaker's reason and the remedy."""


def decide(status: str, current: str | None, wanted: str, asked: bool, before: str | None) -> Action:
    """What to do for an endpoint in `status` ("Absent" where there is none).

    Args:
        status: EndpointStatus.
        current: EndpointConfigName, the config that the endpoint is on.
        wanted: the config asked for.
        asked: whether this run has already asked for it.
        before: the config that the endpoint was on when this run asked.
    """
    if status in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"):
        return "wait"
    if status == "Absent":
        return "create"
    if status == "InService":
        if current == wanted:
            return "serving"
        if not asked:
            return "update"
        # Back on the config of before: SageMaker rolled the update back. On a third one: another run has taken over.
        return "failed" if current == before else "superseded"
    # Failed, OutOfService, UpdateRollbackFailed: nothing serves. Ours if we asked for it, else what a run before left.
    return "failed" if asked else "delete"


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Look at the endpoint and do the next thing.

    Args:
        event: `endpoint`, `config`, `tags`, `timeout_minutes` (startup), `expiry` (null, or `Minutes` and `RoleArn`),
            `redrive` (count), and `progress`: null or what the call before returned.

    Returns:
        `phase` ("working", "serving" or "superseded"), `status`, `asked`, `before`, `since` (epoch seconds), `redrive`.

    Raises:
        EndpointFailed: the endpoint cannot serve this config.
    """
    name, wanted, redrive = event["endpoint"], event["config"], event["redrive"]
    progress = event["progress"]
    if progress is None or progress["redrive"] != redrive:  # a redrive starts anew, with its full time
        progress = {"asked": False, "before": None, "since": int(time.time()), "redrive": redrive}
    client = boto3.client("sagemaker")
    endpoint = describe(client, name)
    status, current = endpoint["EndpointStatus"], endpoint.get("EndpointConfigName")
    action = decide(status, current, wanted, progress["asked"], progress["before"])
    logger.info("%s is %s on %s: %s", name, status, current, action)

    if action == "failed":
        raise _failure(name, endpoint, wanted)
    limit = 60 * (event["timeout_minutes"] + PROVISIONING_MINUTES)
    if action != "serving" and time.time() - progress["since"] > limit:
        raise EndpointFailed(
            f"endpoint {name} is still {status} after {limit // 60} minutes; redrive the execution to try again"
        )
    if action in ("create", "update") and event["expiry"]:
        _set_expiry(expiry(name, event["expiry"]["Minutes"], event["expiry"]["RoleArn"]))
    if action == "create":
        client.create_endpoint(EndpointName=name, EndpointConfigName=wanted, Tags=event["tags"])
    elif action == "update":
        client.update_endpoint(EndpointName=name, EndpointConfigName=wanted)
    elif action == "delete":
        client.delete_endpoint(EndpointName=name)
    if action in ("create", "update"):
        progress = {**progress, "asked": True, "before": current}
    phase = action if action in ("serving", "superseded") else "working"
    return {**progress, "phase": phase, "status": status}


def describe(client: Any, name: str) -> dict[str, Any]:
    """DescribeEndpoint, with EndpointStatus "Absent" for an endpoint that is not there.

    SageMaker has no error of its own for that: it answers ValidationException, "Could not find endpoint".
    """
    try:
        endpoint: dict[str, Any] = client.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:
            raise
        return {"EndpointStatus": "Absent"}
    return endpoint


def expiry(name: str, minutes: int, role: str) -> dict[str, Any]:
    """A one-time schedule that deletes the endpoint; EventBridge Scheduler deletes the schedule after it.

    Set before the endpoint is asked for, so that no failure in between leaves one without an end, and set again with every
    deployment: at a redrive of another day the schedule of before has fired.
    """
    return {
        "Name": name,
        "ScheduleExpression": f"at({datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S})",
        "ActionAfterCompletion": "DELETE",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": role,
            "Input": json.dumps({"EndpointName": name}),
        },
    }


def _set_expiry(schedule: dict[str, Any]) -> None:
    client = boto3.client("scheduler")
    try:
        client.update_schedule(**schedule)
    except client.exceptions.ResourceNotFoundException:
        client.create_schedule(**schedule)


def _failure(name: str, endpoint: dict[str, Any], wanted: str) -> EndpointFailed:
    reason = endpoint.get("FailureReason") or "SageMaker gives no reason"
    logs = f"see the log group /aws/sagemaker/Endpoints/{name}, then redrive the execution"
    if endpoint["EndpointStatus"] == "InService":
        serving = endpoint["EndpointConfigName"]
        return EndpointFailed(f"endpoint {name} refused {wanted} and serves {serving} as before: {reason}; {logs}")
    return EndpointFailed(f"endpoint {name} did not become healthy: {reason}; {logs}")
