"""The Deploy step: brings the stack's one stable endpoint to the wanted config, from any state.

The state machine calls the function until it is done. Each call looks at the endpoint, does at most one thing, and returns
the progress. The first call of an attempt also makes the model and the endpoint config. The function decides by the state
that it sees, and not by its own earlier calls. So a retry or a redrive can go on anywhere. `decide` has all decisions.

It relies on two facts (SageMaker API reference, DescribeEndpoint and UpdateEndpoint). After a failed UpdateEndpoint the
endpoint is InService again with the old config, so only InService with the wanted config means success. A Failed endpoint can
only be deleted.

`pipeline.steps.cleanup` runs after every bad end of an execution, and repairs the endpoint after a failed deployment.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from pipeline import aws, jobs, money, names, schedules
from pipeline.contracts.events import DeployEvent, Deployment
from pipeline.endpoints import configs, describe_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.contracts.planned import DeployPlan, ExpiryPlan
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

DeployAction = Literal["create", "update", "delete", "wait", "serving", "superseded", "failed"]

EXPIRY_RETRY = {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}
"""How long the schedule tries to delete the endpoint before it notifies a person.

It is an hour, because creating an endpoint can hang for that long, and the endpoint cannot be deleted before. With Scheduler's
own 24 hours, the endpoint could cost money for 24 hours first. The attempts are Scheduler's maximum, so that only the time
counts.
"""

PROVISIONING_MINUTES = 30
"""The time for instances, image and model before the container starts, in addition to endpoint.startup_timeout_minutes."""


class EndpointFailed(Exception):
    """The endpoint does not serve the wanted config. The line has SageMaker's reason and the remedy."""


def decide(
    status: str, current: str | None, wanted: str, asked: bool, before: str | None, known: bool = True
) -> DeployAction:
    """Return what to do with the endpoint.

    Args:
        status: EndpointStatus, or "Absent" if there is no endpoint.
        current: EndpointConfigName, the endpoint's current config.
        wanted: the config that the run wants.
        asked: whether this run has already requested the wanted config.
        before: the endpoint's config when this run requested the wanted one.
        known: whether the current config still exists. SageMaker does not update an endpoint whose config was deleted
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
        # On the earlier config: SageMaker rolled the update back. On a third config: another run has taken over.
        return "failed" if current == before else "superseded"
    # Failed, OutOfService: nothing serves. UpdateRollbackFailed: a mix of two configs does. This run failed if it has requested
    # its config. Else the endpoint comes from an earlier run.
    return "failed" if asked else "delete"


@aws.handler(DeployEvent)
def handler(event: DeployEvent) -> Deployment:
    """Look at the endpoint, and do the next thing.

    Returns:
        The progress, in the phase "working", "serving" or "superseded".

    Raises:
        EndpointFailed: the endpoint cannot serve this config.
        money.MaxCostReached: a new endpoint may go beyond max_cost.
    """
    plan, redrive, progress = event.plan, event.redrive, event.progress
    name, wanted, client = plan.endpoint, f"{event.name}-{redrive}", aws.client("sagemaker")
    if progress is None or progress.redrive != redrive:  # A redrive starts again with its full time.
        earlier = _lived(progress, plan)
        progress = Deployment(
            "working", endpoint=name, config=wanted, since=int(time.time()), redrive=redrive, earlier_seconds=earlier
        )
        if wanted not in configs(describe_endpoint(client, name)):
            money.check_endpoint(event.record, event.training, event.bedrock, progress)
        _make_config(client, wanted, event.model, plan)
    endpoint = describe_endpoint(client, name)
    status, current = endpoint["EndpointStatus"], endpoint.get("EndpointConfigName")
    # Somebody may have put the endpoint on a config that is not the stack's. The role may not describe such a config.
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
    # If the endpoint serves without a known end, the answer of the call that requested the config was lost.
    if action in ("create", "update") or (action == "serving" and progress.until is None):
        progress = progress._replace(until=_set_expiry(name, event.name, plan.expiry))
    if action == "create":
        client.create_endpoint(EndpointName=name, EndpointConfigName=wanted, Tags=plan.tags)
    elif action == "update":
        client.update_endpoint(EndpointName=name, EndpointConfigName=wanted)
    elif action == "delete":
        client.delete_endpoint(EndpointName=name)
        if not known:
            gone = f"endpoint {name} was created again: SageMaker cannot update it, because its config {current} was deleted"
            progress = progress._replace(warnings=[gone])
    return progress._replace(
        phase=action if action in ("serving", "superseded") else "working",
        progress=f"endpoint {name} is {status} on {current}" if current else f"endpoint {name} is {status}",
        wait_seconds=jobs.wait(age, plan.poll_seconds),
    )


def _lived(earlier: Deployment | None, plan: DeployPlan) -> int:
    """Return the seconds that the endpoints of the run's earlier attempts lived at most."""
    if earlier is None or not earlier.asked:
        return earlier.earlier_seconds if earlier else 0
    ends = [time.time()]
    if earlier.phase == "working":  # It never served, and the cleanup has deleted it.
        ends.append(earlier.since + 60 * (plan.startup_timeout_minutes + PROVISIONING_MINUTES))
    if earlier.until is not None:
        ends.append(datetime.fromisoformat(earlier.until).timestamp())
    return earlier.earlier_seconds + max(0, round(min(ends) - earlier.since))


def _make_config(client: Any, name: str, model: str, plan: DeployPlan) -> None:
    """Make the model and the endpoint config of this attempt, both named `name`, unless an earlier call has made them."""
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
    variant = {"VariantName": names.VARIANT, "ModelName": name, **plan.variant}
    _make(
        partial(client.create_endpoint_config, EndpointConfigName=name, ProductionVariants=[variant], Tags=plan.tags),
        partial(client.describe_endpoint_config, EndpointConfigName=name),
    )


def _make(create: Callable[[], Any], look: Callable[[], Any]) -> None:
    try:
        create()
    except ClientError:
        # The resource exists if the answer of an earlier call was lost. CreateEndpointConfig may also not find a model that
        # was made a second ago. The state machine then tries again.
        if not aws.is_there(look):
            raise


def expiry(name: str, run: str, planned: ExpiryPlan) -> AwsRequest:
    """Return a one-time schedule that deletes the endpoint. EventBridge Scheduler deletes the schedule afterwards.

    Deploy sets it before it requests the endpoint, so that no failure in between leaves an endpoint without an end. It sets it
    again with every deployment, because an earlier schedule has fired if the redrive is on another day.

    Args:
        name: the name of the endpoint, which is also that of the schedule.
        run: the beginning of the names of the run. The cleanup recognizes the schedules of its run by it.
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
    """Schedule the endpoint's end. Return its time (ISO 8601, UTC), or None if the endpoint has no end."""
    if wanted is None:
        return None
    schedule = expiry(name, run, wanted)
    schedules.put(schedule)
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
