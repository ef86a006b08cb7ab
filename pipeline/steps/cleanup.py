"""The cleanup after the end of every execution: it stops the jobs, repairs the endpoint, and writes the user's message.

An execution that is aborted or times out enters no further states, and nothing stops the jobs that its functions have made.
So a rule in EventBridge starts the cleanup when the execution's status changes. The state machine PREFIX-cleanup calls the
function until nothing is left to do, and then publishes the message that the function returned.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, message, money, names
from pipeline.contracts.events import CleanedUp, CleanupEvent
from pipeline.contracts.money import Spent
from pipeline.contracts.values import ContractError, parse
from pipeline.endpoints import configs, describe_endpoint

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

RepairAction = Literal["done", "wait", "back", "delete"]

CUSTOMIZE, IMPORT = "Customize", "ImportModel"
"""The states that start a run's Bedrock job. No job is made before an execution enters one of them (infra/definition.py)."""

DEPLOY = "Deploy"
"""The state that updates the endpoint."""

_REFUSALS = ("ValidationException", "ConflictException", "ResourceNotFound", "ResourceNotFoundException")


@aws.handler(CleanupEvent)
def handler(event: CleanupEvent) -> CleanedUp:
    """Do the part of the cleanup that is possible now.

    It does nothing if the execution has been redriven meanwhile, because jobs and endpoint then belong to it again.
    """
    described = aws.client("stepfunctions").describe_execution(executionArn=event.execution)
    if described["status"] == "RUNNING" or described.get("redriveCount", 0) > event.redrives:
        logger.info("%s runs again: nothing to do", event.execution)
        return CleanedUp([], None, None, None)
    run = f"{event.prefix}-{names.run_id(event.execution)}-"
    # The part that costs most comes first. If AWS refuses one part, the others run nevertheless.
    refused: list[Exception] = []
    _, training_jobs = _try(partial(_training_jobs, run), refused)
    bedrock, bedrock_jobs = _try(partial(_bedrock_jobs, run, event.execution), refused)
    endpoint, endpoints = _try(partial(_endpoint, event.prefix, run, event.execution), refused)
    if refused:
        raise refused[0]
    unfinished = [*training_jobs, *bedrock_jobs, *endpoints]
    logger.info("not ended yet: %s", unfinished or "nothing")
    try:
        spent = _spent(described, event.prefix)
        costs = money.lines(spent) if spent else []
    except (ClientError, BotoCoreError, ContractError) as error:
        # The message is more important than the amount in it. An execution that began before an update has another form.
        logger.warning("what the run has cost cannot be counted: %s", error)
        spent, costs = None, ["Spent: not known, because it could not be counted; AWS's bill has it"]
    notice = message.notice(described, event.prefix, event.region, endpoint, bedrock, unfinished, costs)
    return CleanedUp(unfinished, **notice, spent=spent)


def _spent(execution: dict[str, Any], prefix: str) -> Spent | None:
    """Return what the run has cost. A good end has it in its output. A bad end is counted from the run's jobs and endpoint."""
    if execution["status"] == "SUCCEEDED":
        spent = parse(Spent, json.loads(execution["output"]).get("spent"))
        run = f"{prefix}-{names.run_id(execution['executionArn'])}-"
        current = describe_endpoint(aws.client("sagemaker"), prefix).get("EndpointConfigName") or ""
        if not current.startswith(run):  # Nobody used it while Bedrock was at work, or another run has it.
            ongoing = [one for one in spent.ongoing if one.what != money.endpoint_name(prefix)]
            return spent._replace(ongoing=ongoing)
        return spent
    return money.so_far(execution["executionArn"], execution.get("redriveCount", 0), prefix)


def _try(part: partial[tuple[str, list[str]]], refused: list[Exception]) -> tuple[str, list[str]]:
    """Return the result of one part. If AWS refuses a call, add the error to `refused`."""
    try:
        return part()
    except (ClientError, BotoCoreError) as error:
        refused.append(error)
    return "", []


def decide(
    status: str, current: str | None, pending: str | None, run: str, passed: str | None, *, deployed: bool
) -> RepairAction:
    """Return what to do with the endpoint after an execution has ended.

    Args:
        status: EndpointStatus, or "Absent" if there is no endpoint.
        current: EndpointConfigName, the endpoint's current config.
        pending: the config of a deployment in progress, from PendingDeploymentSummary.
        run: the beginning of the names of the run's configs.
        passed: the last config that passed its smoke test, from the endpoint's tag, or None.
        deployed: whether the run has entered Deploy.
    """
    if status == "UpdateRollbackFailed" and deployed:
        # It serves "a mix of the old and new endpoint configurations" (API reference, DescribeEndpoint), whichever it names.
        return "delete"
    if status == "Absent" or not any(config and config.startswith(run) for config in (current, pending)):
        return "done"  # There is no endpoint, or it belongs to another run.
    if status in ("Updating", "SystemUpdating", "RollingBack", "Deleting"):
        return "wait"
    if status == "InService" and passed is not None:
        return "done" if current == passed else "back"
    # It never served a config that passed: it is half made (Creating, for up to an hour), failed, or did not answer well.
    return "delete"


def _endpoint(name: str, run: str, execution: str) -> tuple[str, list[str]]:
    """Repair the endpoint. Return its state in words, and the endpoint if it has to be waited for."""
    client = aws.client("sagemaker")
    endpoint = describe_endpoint(client, name)
    status, (current, pending) = endpoint["EndpointStatus"], configs(endpoint)
    if status == "Absent":
        _delete_schedule(name, run)
        return "nothing: there is no endpoint", []
    tags = client.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    passed = next((tag["Value"] for tag in tags if tag["Key"] == names.PASSED_TAG), None)
    deployed = status == "UpdateRollbackFailed" and DEPLOY in message.entered_states(execution)
    action = decide(status, current, pending, run, passed, deployed=deployed)
    if action == "back" and not all(
        aws.is_there(client.describe_endpoint_config, EndpointConfigName=config) for config in (current, passed)
    ):
        # Somebody deleted a config in use. SageMaker can only update from and to configs that exist.
        action = "delete"
    logger.info("%s is %s on %s, pending %s, passed %s: %s", name, status, current, pending, passed, action)
    if action == "done":
        return f"endpoint {name} is {status} on {current}, {_until(name)}", []
    # SageMaker may refuse both while a deployment is in progress. The next call of this function tries again.
    if action == "delete":
        _unless_refused(partial(client.delete_endpoint, EndpointName=name))
        return f"endpoint {name} is being deleted", [f"endpoint {name} ({status})"]
    if action == "back":
        _unless_refused(partial(client.update_endpoint, EndpointName=name, EndpointConfigName=passed))
    return f"endpoint {name} goes back to {passed}, {_until(name)}", [f"endpoint {name} ({status} on {current})"]


def _until(name: str) -> str:
    """Return in words when the endpoint deletes itself."""
    client = aws.client("scheduler")
    try:
        expression: str = client.get_schedule(Name=name)["ScheduleExpression"]
    except client.exceptions.ResourceNotFoundException:
        return "without an end: it costs money until somebody deletes it"
    return f"until {expression.removeprefix('at(').removesuffix(')')} UTC"


def _delete_schedule(name: str, run: str) -> None:
    """Delete the schedule of an endpoint that no longer exists, if this run set it. It would later report a failure."""
    client = aws.client("scheduler")
    try:
        if f"{client.get_schedule(Name=name).get('Description')}-" == run:
            client.delete_schedule(Name=name)
    except client.exceptions.ResourceNotFoundException:
        logger.info("%s has no schedule", name)


def _training_jobs(run: str) -> tuple[str, list[str]]:
    """Stop the run's training jobs. Return an empty text, because the message does not name them, and the unfinished jobs."""
    client = aws.client("sagemaker")
    unfinished = []
    for status in ("InProgress", "Stopping"):
        for page in client.get_paginator("list_training_jobs").paginate(NameContains=run, StatusEquals=status):
            for job in page["TrainingJobSummaries"]:
                unfinished.append(f"training job {job['TrainingJobName']} ({status})")
                if status == "InProgress":
                    _unless_refused(partial(client.stop_training_job, TrainingJobName=job["TrainingJobName"]))
    return "", unfinished


def _bedrock_jobs(run: str, execution: str) -> tuple[str, list[str]]:
    """Stop the run's Bedrock jobs. Return their states in words, and the unfinished ones.

    It calls Bedrock only if the run entered a state that makes a job. A run without Bedrock also works in an account that
    cannot use it.
    """
    entered = message.entered_states(execution)
    if IMPORT in entered:
        return _import_jobs(run)
    return _customization_jobs(run) if CUSTOMIZE in entered else ("no job", [])


def _import_jobs(run: str) -> tuple[str, list[str]]:
    """Return the states of the run's import jobs in words, and the unfinished ones. Bedrock has no call that stops them."""
    jobs, unfinished = [], []
    for job in aws.all_of(aws.client("bedrock"), "list_model_import_jobs", "modelImportJobSummaries", nameContains=run):
        name, status = job["jobName"], job["status"]
        jobs.append(f"import job {name} is {status}{f' ({model})' if (model := job.get('importedModelArn')) else ''}")
        if status == "InProgress":
            unfinished.append(f"import job {name} ({status}; it cannot be stopped, and ends by itself)")
    return "; ".join(jobs) or "no job", unfinished


def _customization_jobs(run: str) -> tuple[str, list[str]]:
    """Stop the run's customization jobs. Return their states in words, and the unfinished ones."""
    client = aws.client("bedrock")
    jobs, unfinished = [], []
    pages = client.get_paginator("list_model_customization_jobs").paginate(nameContains=run, sortOrder="Ascending")
    for job in [job for page in pages for job in page["modelCustomizationJobSummaries"]]:
        name, status = job["jobName"], job["status"]
        jobs.append(f"job {name} is {status}{f' ({model})' if (model := job.get('customModelArn')) else ''}")
        if status in ("InProgress", "Stopping"):
            unfinished.append(f"customization job {name} ({status})")
        if status == "InProgress":
            _unless_refused(partial(client.stop_model_customization_job, jobIdentifier=job["jobArn"]))
    return "; ".join(jobs) or "no job", unfinished


def _unless_refused(call: partial[Any]) -> None:
    """Make a call, and ignore a refusal: its job or endpoint may have ended or changed. The next look will show it."""
    try:
        call()
    except ClientError as error:
        if aws.code(error) not in _REFUSALS:
            raise
        logger.info("refused for now: %s", error)
