"""The Deploy step: one stable endpoint a stack, brought to the config asked for from whatever is there.

The state machine calls the function again and again until it is through; each call looks, does at most one thing, and says
how far it is. The first call of an attempt also makes the model and the endpoint config. That the function starts from what
it sees, and not from what it did before, is why a retry or a redrive can go on anywhere. What to do is one table, `decide`.

Facts it rests on (SageMaker API reference, DescribeEndpoint and UpdateEndpoint): a failed UpdateEndpoint comes back to
InService on the old config, so through means InService on the config asked for; a Failed endpoint can only be deleted.

What a failed deployment leaves is put right by `pipeline.steps.cleanup`, which follows every bad end of an execution.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from pipeline import aws, jobs
from pipeline.contracts.events import DeployEvent, Deployment
from pipeline.endpoints import describe_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.contracts.planned import DeployPlan, ExpiryPlan
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Action = Literal["create", "update", "delete", "wait", "serving", "superseded", "failed"]

EXPIRY_RETRY = {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}
"""How long the schedule tries to delete the endpoint before a person is told.

An hour: creating an endpoint can hang for that long, and it cannot be deleted before. Scheduler's own 24 hours would bill
24 hours first. The attempts are Scheduler's most, so that the time alone decides.
"""

PROVISIONING_MINUTES = 30
"""Time for instances, image and model before the container starts (on top of endpoint.startup_timeout_minutes)."""


class EndpointFailed(Exception):
    """The endpoint did not come up on the config asked for: one line with SageMaker's reason and the remedy."""


def decide(
    status: str, current: str | None, wanted: str, asked: bool, before: str | None, known: bool = True
) -> Action:
    """Return what to do for an endpoint in `status` ("Absent" where there is none).

    Args:
        status: EndpointStatus.
        current: EndpointConfigName, the config that the endpoint is on.
        wanted: the config asked for.
        asked: whether this run has already asked for it.
        before: the config that the endpoint was on when this run asked.
        known: whether the current config still exists. SageMaker updates no endpoint whose config was deleted
            (hashicorp/terraform-provider-aws issue 40048).
    """
    if status in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"):
        return "wait"
    if status == "Absent":
        return "create"
    if status == "InService":
        if current == wanted:
            return "serving"
        if not asked:
            return "update" if known else "delete"
        # Back on the config of before: SageMaker rolled the update back. On a third one: another run has taken over.
        return "failed" if current == before else "superseded"
    # Failed, OutOfService, UpdateRollbackFailed: nothing serves. Ours if we asked for it, else what a run before left.
    return "failed" if asked else "delete"


@aws.handler(DeployEvent)
def handler(event: DeployEvent) -> Deployment:
    """Look at the endpoint and do the next thing.

    Returns:
        in the phase "working", "serving" or "superseded".

    Raises:
        EndpointFailed: the endpoint cannot serve this config.
    """
    plan, redrive, progress = event.request, event.redrive, event.progress
    name, wanted, client = plan.endpoint, f"{event.name}-{redrive}", aws.client("sagemaker")
    if progress is None or progress.redrive != redrive:  # a redrive starts anew, with its full time
        _make_config(client, wanted, event.model, plan)
        progress = Deployment("working", endpoint=name, config=wanted, since=int(time.time()), redrive=redrive)
    endpoint = describe_endpoint(client, name)
    status, current = endpoint["EndpointStatus"], endpoint.get("EndpointConfigName")
    # Only of the stack's own configs: somebody may have put the endpoint on another one, which the role may not describe.
    mine = status == "InService" and str(current).startswith(f"{name}-")
    known = not mine or aws.is_there(client.describe_endpoint_config, EndpointConfigName=current)
    action = decide(status, current, wanted, progress.asked, progress.before, known)
    logger.info("%s is %s on %s: %s", name, status, current, action)

    if action == "failed":
        raise _failure(name, endpoint, wanted)
    age, limit = time.time() - progress.since, 60 * (plan.startup_timeout_minutes + PROVISIONING_MINUTES)
    if action != "serving" and age > limit:
        raise EndpointFailed(
            f"endpoint {name} is still {status} after {limit // 60} minutes; redrive the execution to try again"
        )
    if action in ("create", "update"):
        progress = progress._replace(asked=True, before=current)
    # Serving without a known end: the answer of the call that asked for it was lost.
    if action in ("create", "update") or (action == "serving" and progress.until is None):
        progress = progress._replace(until=_set_expiry(name, event.name, plan.expiry))
    if action == "create":
        client.create_endpoint(EndpointName=name, EndpointConfigName=wanted, Tags=plan.tags)
    elif action == "update":
        client.update_endpoint(EndpointName=name, EndpointConfigName=wanted)
    elif action == "delete":
        client.delete_endpoint(EndpointName=name)
        if not known:
            gone = f"endpoint {name} was made anew, as its config {current} had been deleted and SageMaker updates no such one"
            progress = progress._replace(warnings=[gone])
    return progress._replace(
        phase=action if action in ("serving", "superseded") else "working",
        progress=f"endpoint {name} is {status} on {current}" if current else f"endpoint {name} is {status}",
        wait_seconds=jobs.wait(age, plan.poll_seconds),
    )


def _make_config(client: Any, name: str, model: str, plan: DeployPlan) -> None:
    """Make model and endpoint config of this attempt, both called `name`, unless a call before has made them."""
    source = {"S3DataSource": {"S3Uri": model, "S3DataType": "S3Prefix", "CompressionType": "None"}}
    _make(
        partial(
            client.create_model,
            ModelName=name,
            PrimaryContainer={**plan.container, "ModelDataSource": source},
            Tags=plan.tags,
            **plan.model,
        ),
        partial(client.describe_model, ModelName=name),
    )
    variant = {"VariantName": "AllTraffic", "ModelName": name, **plan.variant}
    _make(
        partial(client.create_endpoint_config, EndpointConfigName=name, ProductionVariants=[variant], Tags=plan.tags),
        partial(client.describe_endpoint_config, EndpointConfigName=name),
    )


def _make(create: Callable[[], Any], look: Callable[[], Any]) -> None:
    try:
        create()
    except ClientError:
        # It is there if the answer of a call before was lost. CreateEndpointConfig may also not see the model of a second
        # ago yet: the state machine tries again.
        if not aws.is_there(look):
            raise


def expiry(name: str, run: str, planned: ExpiryPlan) -> AwsRequest:
    """A one-time schedule that deletes the endpoint; EventBridge Scheduler deletes the schedule after it.

    Set before the endpoint is asked for, so that no failure in between leaves one without an end, and set again with every
    deployment: at a redrive of another day the schedule of before has fired.

    Args:
        name: the endpoint's, and the schedule's.
        run: what the names of the run that sets it begin with; the cleanup knows its own schedule by it.
        planned: minutes from now, role and queue.
    """
    end = datetime.now(UTC) + timedelta(minutes=planned.minutes)
    return {
        "Name": name,
        "Description": run,
        "ScheduleExpression": f"at({end:%Y-%m-%dT%H:%M:%S})",
        "ActionAfterCompletion": "DELETE",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": planned.role,
            "Input": json.dumps({"EndpointName": name}),
            "RetryPolicy": EXPIRY_RETRY,
            "DeadLetterConfig": {"Arn": planned.dead_letter},
        },
    }


def _set_expiry(name: str, run: str, wanted: ExpiryPlan | None) -> str | None:
    """Schedule the endpoint's end, and return when that is (ISO 8601, UTC); None where it has none."""
    if wanted is None:
        return None
    schedule = expiry(name, run, wanted)
    client = aws.client("scheduler")
    try:
        client.update_schedule(**schedule)
    except client.exceptions.ResourceNotFoundException:
        client.create_schedule(**schedule)
    return f"{schedule['ScheduleExpression'].removeprefix('at(').removesuffix(')')}Z"


def _failure(name: str, endpoint: dict[str, Any], wanted: str) -> EndpointFailed:
    reason = endpoint.get("FailureReason") or "SageMaker gives no reason"
    logs = (
        f"look into its log group /aws/sagemaker/Endpoints/{name}: if that names a setting of endpoint, start a new execution "
        "with another value, else redrive the execution"
    )
    if endpoint["EndpointStatus"] == "InService":
        serving = endpoint["EndpointConfigName"]
        return EndpointFailed(f"endpoint {name} refused {wanted} and serves {serving} as before: {reason}; {logs}")
    return EndpointFailed(f"endpoint {name} did not become healthy: {reason}; {logs}")
