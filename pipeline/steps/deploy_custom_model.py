"""The DeployCustomModel step: brings the stack's one deployment of custom models to the run's model, from any state.

A deployment serves a custom model on demand: it costs nothing while nobody asks it. There is one for each stack, with the
stack's prefix as its name, so that its ARN stays the same from run to run. The state machine calls the function until it is
done. Like the Deploy step, it decides by the state that it sees. `decide` has all decisions.

The API reference (UpdateCustomModelDeployment, CustomModelDeploymentUpdateDetails) says how an update goes: the deployment is
Active all the time, and `updateDetails` has the new model and how far it is. After a failed update the deployment still serves
the model that it served before.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from pipeline import aws, bedrock_jobs, jobs, names
from pipeline.contracts.bedrock import ModelDeployment, ModelDeploymentEvent

if TYPE_CHECKING:
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Action = Literal["create", "update", "delete", "wait", "serving", "superseded", "failed"]

LIMIT_MINUTES = 60
"""How long the deployment may take. No page says how long Bedrock needs."""


class ModelDeploymentFailed(Exception):
    """The deployment does not serve the run's custom model. The line has Bedrock's reason and the remedy."""


def decide(  # noqa: PLR0911 - one return per state
    status: str, model: str | None, update: tuple[str, str] | None, wanted: str, asked: bool, before: str | None
) -> Action:
    """Return what to do with the deployment.

    Args:
        status: its status, or "Absent" if there is no deployment.
        model: its custom model (`modelArn`).
        update: the model and the status of its last update (`updateDetails`), if there was one.
        wanted: the custom model that the run wants.
        asked: whether this run has already requested the wanted model.
        before: the model that it served when this run requested the wanted one.
    """
    if status == "Absent":
        return "create"
    if status in ("Creating", "Deleting") or (update and update[1] == "Updating"):
        return "wait"
    if status == "Failed":
        # This run failed if it has requested its model. Else the deployment comes from an earlier run.
        return "failed" if asked else "delete"
    current = served(model, update)
    if current == wanted:
        return "serving"
    if not asked:
        return "update"
    if update == (wanted, "UpdateFailed"):
        return "failed"
    # On a third model: another run has taken over.
    return "wait" if current == before else "superseded"


def served(model: str | None, update: tuple[str, str] | None) -> str | None:
    """Return the custom model that a deployment serves: that of its last update, if the update is completed."""
    return update[0] if update and update[1] == "UpdateCompleted" else model


@aws.handler(ModelDeploymentEvent)
def handler(event: ModelDeploymentEvent) -> ModelDeployment:
    """Look at the deployment, and do the next thing.

    Raises:
        ModelDeploymentFailed: the deployment cannot serve this model.
        jobs.NotOurs: a deployment without the stack's tag has the stack's name.
    """
    client, redrive, wanted, progress = aws.client("bedrock"), event.redrive, event.model, event.progress
    name = event.request["modelDeploymentName"]
    if progress is None or progress.redrive != redrive:  # A redrive starts again with its full time.
        progress = ModelDeployment("working", since=int(time.time()), redrive=redrive)
    found = _describe(client, name)
    status, model, arn = found["status"], found.get("modelArn"), found.get("customModelDeploymentArn", "")
    if arn:
        _confirm(client, arn, event.request)
    details = found.get("updateDetails")
    update = (details["modelArn"], details["updateStatus"]) if details else None
    action = decide(status, model, update, wanted, progress.asked, progress.before)
    logger.info("%s is %s on %s, last update %s: %s", name, status, model, update, action)
    if action == "failed":
        why = found.get("failureMessage") or "Bedrock gives no reason"
        raise ModelDeploymentFailed(
            f"custom model deployment {name} did not take {wanted}: {why}; redrive the execution to try again"
        )
    age = time.time() - progress.since
    if action not in ("serving", "superseded") and age > LIMIT_MINUTES * 60:
        raise ModelDeploymentFailed(
            f"custom model deployment {name} is still {update[1] if update else status} after {LIMIT_MINUTES} minutes; "
            "redrive the execution to wait again"
        )
    if action in ("create", "update"):
        progress = progress._replace(asked=True, before=served(model, update))
    if action == "create":
        _create(client, wanted, event.request)
    elif action == "update":
        client.update_custom_model_deployment(customModelDeploymentIdentifier=arn, modelArn=wanted)
    elif action == "delete":
        client.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)
    now = "has another run's model by now" if action == "superseded" else f"is {update[1] if update else status}"
    return progress._replace(
        phase=action if action in ("serving", "superseded") else "working",
        progress=f"custom model deployment {name} {now}",
        wait_seconds=jobs.wait(age),
        arn=arn,
    )


def _describe(client: Any, name: str) -> dict[str, Any]:
    """Return the answer of GetCustomModelDeployment, or the status "Absent" if there is no deployment of this name."""
    try:
        found: dict[str, Any] = client.get_custom_model_deployment(customModelDeploymentIdentifier=name)
    except ClientError as error:
        # As of a job: no page says which of the two errors stands for an unknown name.
        if not aws.is_absent(error) and aws.code(error) != "ValidationException":
            raise
        return {"status": "Absent"}
    return found


def _confirm(client: Any, arn: str, request: AwsRequest) -> None:
    """Check that the deployment has the stack's tag. Its name alone may be somebody else's."""
    tags = bedrock_jobs.tags(client.list_tags_for_resource(resourceARN=arn)["tags"])
    if tags.get(names.STACK_TAG) != bedrock_jobs.tags(request["tags"])[names.STACK_TAG]:
        raise jobs.NotOurs(
            f"{arn} has the name of this stack's custom model deployment but not its tag; delete it, then redrive the execution"
        )


def _create(client: Any, model: str, request: AwsRequest) -> None:
    # Without a clientRequestToken of its own: Bedrock ignores a repeated one silently, and a deployment that failed is deleted
    # and made again in one attempt. A deployment whose answer was lost is found by its name, which is the only one of its kind.
    try:
        client.create_custom_model_deployment(modelArn=model, **request)
    except ClientError:
        if _describe(client, request["modelDeploymentName"])["status"] == "Absent":
            raise
