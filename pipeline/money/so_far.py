"""Counts what a run has cost so far, from AWS's own answers: for the message at a bad end, and for a user who watches a run.

The plan is in the execution's history, with the prices that the run counts with. The rest comes from the run's jobs and from
its endpoint. Nothing here costs money.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pipeline import aws, names
from pipeline.contracts.planned import RunRecord
from pipeline.contracts.values import ContractError, parse
from pipeline.endpoints import describe_endpoint
from pipeline.money.prices import SECONDS_PER_HOUR, of_instances
from pipeline.money.spent import BedrockUse, EndpointUse, judge_at_most, spent_so_far, training_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.contracts.money import Spent

PLAN = "Plan"
"""The state whose result has the run's record (infra/definition.py)."""

_FIRST_EVENTS = 50


def so_far(execution: str, redrives: int, prefix: str, clients: Callable[[str], Any] = aws.client) -> Spent | None:
    """Return what an execution has cost by now, or None if it has no plan, so that it has made nothing.

    Args:
        execution: the execution's ARN.
        redrives: how often it has been redriven.
        prefix: the stack's prefix.
        clients: makes a client of a service by its name in boto3.
    """
    record = planned(execution, clients)
    if record is None:
        return None
    now, run = time.time(), f"{prefix}-{names.run_id(execution)}"
    attempts = [f"{run}-{redrive}" for redrive in range(redrives + 1)]
    jobs = training_jobs(attempts, clients)
    # The judge is asked as soon as a job is completed.
    judged = any(job["TrainingJobStatus"] == "Completed" for job in jobs)
    return spent_so_far(
        record.prices,
        record.region,
        training_use(jobs, now),
        _bedrock(record, run, clients),
        _endpoint(record, prefix, attempts, clients, now),
        now,
        judge_at_most(record) if judged else None,
    )


def planned(execution: str, clients: Callable[[str], Any] = aws.client) -> RunRecord | None:
    """Return the record that Plan has made, from the execution's history. None if it has refused the run, or not ended.

    An execution of an earlier version of Tuneway has another record, and counts as one without a plan.
    """
    pages = (
        clients("stepfunctions")
        .get_paginator("get_execution_history")
        .paginate(executionArn=execution, includeExecutionData=True, PaginationConfig={"PageSize": _FIRST_EVENTS})
    )
    for event in (event for page in pages for event in page["events"]):
        exited = event.get("stateExitedEventDetails", {})
        if exited.get("name") == PLAN:
            record = json.loads(exited.get("output") or "{}").get("Payload", {}).get("record")
            try:
                return parse(RunRecord, record) if record else None
            except ContractError:
                return None
    return None


def training_jobs(attempts: list[str], clients: Callable[[str], Any] = aws.client) -> list[dict[str, Any]]:
    """Return SageMaker's descriptions of a run's training jobs, one for each attempt that has made one."""
    client, found = clients("sagemaker"), []
    for name in attempts:
        try:
            found.append(client.describe_training_job(TrainingJobName=name))
        except ClientError as error:
            if not aws.is_absent(error):
                raise
    return found


def _bedrock(record: RunRecord, run: str, clients: Callable[[str], Any]) -> BedrockUse | None:
    """Return the run's jobs in Bedrock. It is not called for a run that wants nothing there."""
    if record.bedrock_mode == "off":
        return None
    operation, key, model = {
        "customize": ("list_model_customization_jobs", "modelCustomizationJobSummaries", "customModelArn"),
        "import": ("list_model_import_jobs", "modelImportJobSummaries", "importedModelArn"),
    }[record.bedrock_mode]
    made = aws.all_of(clients("bedrock"), operation, key, nameContains=f"{run}-")
    if record.bedrock_mode == "import":  # The job is free. Only its model costs money.
        made = [job for job in made if job["status"] != "Failed"]
    models = [job[model] for job in made if job.get(model)]
    return BedrockUse(record.bedrock_mode, len(made), record.estimate.bedrock, model=models[-1] if models else None)


def _endpoint(
    record: RunRecord, name: str, attempts: list[str], clients: Callable[[str], Any], now: float
) -> EndpointUse | None:
    """Return the life of the run's endpoint, from the time at which Deploy made its config.

    SageMaker does not say when an endpoint ended. If it is gone or serves another run, it counts until now, and never for more
    than the bound of each attempt, which is too much rather than too little.
    """
    if record.fleet is None:
        return None
    client, since, configs = clients("sagemaker"), None, 0
    for config in attempts:
        try:
            made = client.describe_endpoint_config(EndpointConfigName=config)["CreationTime"].timestamp()
        except ClientError as error:
            if not aws.is_absent(error):
                raise
        else:
            since, configs = since or made, configs + 1
    if since is None:
        return None
    alive = describe_endpoint(client, name).get("EndpointConfigName") in attempts
    if alive:
        return EndpointUse(record.fleet, name, since, _until(name, clients))
    fleet, ended = record.fleet, now
    hourly = of_instances(record.prices.endpoint, fleet.instance_types, fleet.instance_count, 1)
    if hourly and record.estimate.endpoint is not None:
        ended = min(now, since + configs * record.estimate.endpoint / hourly * SECONDS_PER_HOUR)
    return EndpointUse(fleet, name, since, None, ended)


def _until(name: str, clients: Callable[[str], Any]) -> str | None:
    client = clients("scheduler")
    try:
        expression: str = client.get_schedule(Name=name)["ScheduleExpression"]
    except client.exceptions.ResourceNotFoundException:
        return None
    return f"{expression.removeprefix('at(').removesuffix(')')}Z"
