"""What follows the end of every execution: its jobs are stopped, the endpoint is put right, and the user is told.

An execution that is aborted or times out runs no more of its states, and nothing stops the jobs that its functions have made.
So this hangs on the execution's status, by a rule in EventBridge. The state machine PREFIX-cleanup calls the function until
nothing is left to do, and then publishes what it returned.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, names, report
from pipeline.contracts.events import CleanedUp, CleanupEvent
from pipeline.endpoints import describe_endpoint

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Action = Literal["done", "wait", "back", "delete"]

CUSTOMIZE = "Customize"
"""The state that starts a run's Bedrock job. No job is made before an execution enters it (infra/definition.py)."""

_REFUSALS = ("ValidationException", "ConflictException", "ResourceNotFound", "ResourceNotFoundException")


@aws.handler(CleanupEvent)
def handler(event: CleanupEvent) -> CleanedUp:
    """Do what can be done now; of an execution that has been redriven meanwhile, nothing: everything is its own again."""
    described = aws.client("stepfunctions").describe_execution(executionArn=event.execution)
    if described["status"] == "RUNNING" or described.get("redriveCount", 0) > event.redrives:
        logger.info("%s runs again: nothing to do", event.execution)
        return CleanedUp([], None, None)
    run = f"{event.prefix}-{names.run_id(event.execution)}-"
    # In the order of what bills most. What is refused to one holds none of the others back.
    refused: list[Exception] = []
    _, training_left = _tried(partial(_training_jobs, run), refused)
    bedrock, bedrock_left = _tried(partial(_customization_jobs, run, event.execution), refused)
    endpoint, endpoint_left = _tried(partial(_endpoint, event.prefix, run), refused)
    if refused:
        raise refused[0]
    left = [*training_left, *bedrock_left, *endpoint_left]
    logger.info("left: %s", left or "nothing")
    return CleanedUp(left, **report.notice(described, event.prefix, event.region, endpoint, bedrock, left))


def _tried(part: partial[tuple[str, list[str]]], refused: list[Exception]) -> tuple[str, list[str]]:
    """Do one part; what AWS refuses goes to `refused`."""
    try:
        return part()
    except (ClientError, BotoCoreError) as error:
        refused.append(error)
    return "", []


def decide(status: str, current: str | None, pending: str | None, run: str, passed: str | None) -> Action:
    """What to do with an endpoint in `status` ("Absent" where there is none) after an execution has ended.

    Args:
        status: EndpointStatus.
        current: EndpointConfigName, the config that the endpoint is on.
        pending: the config of a deployment in progress (PendingDeploymentSummary), which AWS tells while there is one.
        run: what the names of the run's configs begin with.
        passed: the last config that passed its smoke test (the endpoint's tag), if any.
    """
    if status == "Absent" or not any(config and config.startswith(run) for config in (current, pending)):
        return "done"  # nothing there, or another run's
    if status in ("Updating", "SystemUpdating", "RollingBack", "Deleting"):
        return "wait"
    if status == "InService" and passed is not None:
        return "done" if current == passed else "back"
    # It never served this run's config well: half made (Creating, for up to an hour), failed, or sick with nothing before.
    return "delete"


def _endpoint(name: str, run: str) -> tuple[str, list[str]]:
    """The endpoint in words, and what is left to wait for."""
    client = aws.client("sagemaker")
    endpoint = describe_endpoint(client, name)
    status, current = endpoint["EndpointStatus"], endpoint.get("EndpointConfigName")
    if status == "Absent":
        _delete_schedule(name, run)
        return "nothing: there is no endpoint", []
    tags = client.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    passed = next((tag["Value"] for tag in tags if tag["Key"] == names.PASSED_TAG), None)
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    action = decide(status, current, pending, run, passed)
    if action == "back" and not all(
        aws.is_there(client.describe_endpoint_config, EndpointConfigName=config) for config in (current, passed)
    ):
        # Somebody deleted a config in use: SageMaker can neither leave the one nor take the other.
        action = "delete"
    logger.info("%s is %s on %s, pending %s, passed %s: %s", name, status, current, pending, passed, action)
    if action == "done":
        return f"endpoint {name} is {status} on {current}, {_until(name)}", []
    # Both may be refused as long as a deployment is in progress: the next call tries again.
    if action == "delete":
        _unless_refused(partial(client.delete_endpoint, EndpointName=name))
        return f"endpoint {name} is being deleted", [f"endpoint {name} ({status})"]
    if action == "back":
        _unless_refused(partial(client.update_endpoint, EndpointName=name, EndpointConfigName=passed))
    return f"endpoint {name} goes back to {passed}, {_until(name)}", [f"endpoint {name} ({status} on {current})"]


def _until(name: str) -> str:
    """When the endpoint deletes itself, in words."""
    client = aws.client("scheduler")
    try:
        expression: str = client.get_schedule(Name=name)["ScheduleExpression"]
    except client.exceptions.ResourceNotFoundException:
        return "without an end: it bills until somebody deletes it"
    return f"until {expression.removeprefix('at(').removesuffix(')')} UTC"


def _delete_schedule(name: str, run: str) -> None:
    """Delete the schedule of an end that has come, if this run has set it: it would be told as a failure to delete."""
    client = aws.client("scheduler")
    try:
        if f"{client.get_schedule(Name=name).get('Description')}-" == run:
            client.delete_schedule(Name=name)
    except client.exceptions.ResourceNotFoundException:
        logger.info("%s has no schedule", name)


def _training_jobs(run: str) -> tuple[str, list[str]]:
    """What is left to wait for; in words there is nothing to tell of training jobs."""
    client = aws.client("sagemaker")
    left = []
    for status in ("InProgress", "Stopping"):
        for page in client.get_paginator("list_training_jobs").paginate(NameContains=run, StatusEquals=status):
            for job in page["TrainingJobSummaries"]:
                left.append(f"training job {job['TrainingJobName']} ({status})")
                if status == "InProgress":
                    _unless_refused(partial(client.stop_training_job, TrainingJobName=job["TrainingJobName"]))
    return "", left


def _customization_jobs(run: str, execution: str) -> tuple[str, list[str]]:
    """What became of the run's Bedrock jobs, in words, and what is left to wait for.

    Bedrock is asked only if the run came to it: where the account has none, a run without it needs none.
    """
    if not report.has_entered(execution, CUSTOMIZE):
        return "no job", []
    client = aws.client("bedrock")
    told, left = [], []
    pages = client.get_paginator("list_model_customization_jobs").paginate(nameContains=run, sortOrder="Ascending")
    for job in [job for page in pages for job in page["modelCustomizationJobSummaries"]]:
        name, status = job["jobName"], job["status"]
        told.append(f"job {name} is {status}{f' ({model})' if (model := job.get('customModelArn')) else ''}")
        if status in ("InProgress", "Stopping"):
            left.append(f"customization job {name} ({status})")
        if status == "InProgress":
            _unless_refused(partial(client.stop_model_customization_job, jobIdentifier=job["jobArn"]))
    return "; ".join(told) or "no job", left


def _unless_refused(call: partial[Any]) -> None:
    """Make a call whose object may have ended, or changed, since it was seen; the next look tells."""
    try:
        call()
    except ClientError as error:
        if aws.code(error) not in _REFUSALS:
            raise
        logger.info("refused for now: %s", error)
