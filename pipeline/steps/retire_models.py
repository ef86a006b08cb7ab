"""The RetireModels step: deletes the models that earlier runs have left in Bedrock, because each costs storage.

It runs when the run's own model has answered. It looks at models of the run's kind, custom or imported. The run's model and the
next older ones stay, `bedrock.keep_models` in all. Younger ones stay too, and so do the models of runs that have not ended. A
custom model that a deployment or Provisioned Throughput uses stays, whoever has made that.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pipeline import aws, names
from pipeline.contracts.bedrock import Retired, RetireEvent
from pipeline.custom_models import CustomModels

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


@aws.handler(RetireEvent)
def handler(event: RetireEvent) -> Retired:
    """Delete the stack's older models that nothing uses."""
    models = CustomModels(event.prefix)
    imported = ":imported-model/" in event.model
    operation = "list_imported_models" if imported else "list_custom_models"
    delete: Callable[..., Any] = models.client.delete_imported_model if imported else models.client.delete_custom_model
    running = _running(event.state_machine)
    deleted, warnings = [], []
    for model in older(models.listed(operation, "modelSummaries"), event.model, event.keep):
        arn, name = model["modelArn"], model["modelName"]
        run, _, _ = name.removeprefix(f"{event.prefix}-").partition("-")
        if run in running or not models.is_ours(arn):
            continue
        uses = [] if imported else models.uses(arn)
        if uses:
            warnings.append(f"custom model {name} of an earlier run stays, because {', '.join(uses)} uses it")
            continue
        try:
            delete(modelIdentifier=arn)
        except ClientError as error:
            # Somebody began to use it, or an update away from it is not over, or it is gone. The next run tries again.
            if aws.code(error) not in ("ConflictException", "ResourceNotFoundException"):
                raise
            logger.info("%s stays: %s", name, error)
            continue
        deleted.append(name)
    logger.info("deleted: %s; stay: %s", deleted, warnings)
    return Retired(deleted, warnings)


def _running(state_machine: str) -> set[str]:
    """Return the ids of the runs that have not ended. They may be about to serve their models."""
    client = aws.client("stepfunctions")
    executions = aws.all_of(
        client, "list_executions", "executions", stateMachineArn=state_machine, statusFilter="RUNNING"
    )
    return {names.run_id(execution["executionArn"]) for execution in executions}


def older(models: list[dict[str, Any]], own: str, keep: int) -> list[dict[str, Any]]:
    """Return the models that are older than the `keep` youngest ones from the run's own model on.

    Args:
        models: the summaries of the stack's models of one kind.
        own: the ARN of the run's model.
        keep: how many models stay.
    """
    by_age = sorted(models, key=lambda model: model["creationTime"], reverse=True)
    # A listing may show a new model late. Then it is younger than all that are listed.
    mine = next((place for place, model in enumerate(by_age) if model["modelArn"] == own), -1)
    return by_age[mine + keep :]
