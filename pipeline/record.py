"""What a run leaves of itself: `models/RUN/run.json`, beside its model. The bucket is the list of runs.

The Assess step writes it, so that no model is without. It is written again when the model serves and Bedrock is not through,
and at the end, with what Bedrock made and what was spent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline import aws, cost, names
from pipeline.contracts.events import Spent
from pipeline.contracts.planned import RunRecord

if TYPE_CHECKING:
    from pipeline.contracts.events import Assessment, Customization, Deployment, Training
    from pipeline.contracts.planned import Estimate, PlannedBaseModel, PlannedDataset, StackFacts
    from pipeline.contracts.values import JsonObject
    from pipeline.settings import Settings


def begin(
    settings: Settings,
    deployed: JsonObject,
    stack: StackFacts,
    run: str,
    execution: str,
    base_model: PlannedBaseModel,
    dataset: PlannedDataset,
    bedrock_base_model: str | None,
    estimate: Estimate,
) -> RunRecord:
    """Return what is known of a run when it is planned.

    Args:
        settings: the run's.
        deployed: the settings as deployed.
        stack: what exists.
        run: its id.
        execution: the execution's ARN.
        base_model: as Plan has found it.
        dataset: as Plan has found it.
        bedrock_base_model: ARN of the foundation model that Bedrock customizes, if any.
        estimate: of the run.
    """
    return RunRecord(
        folder=names.place(stack.bucket, "models", run),
        run=run,
        execution=execution,
        settings=differing(settings.model_dump(mode="json"), deployed),
        base_model=f"{settings.training.base_model}@{base_model.revision or settings.training.base_revision}",
        licences={"base_model": base_model.licence, "dataset": dataset.licence},
        bedrock_base_model=bedrock_base_model,
        bedrock_usd_at_most=estimate.bedrock if bedrock_base_model else 0,
        region=stack.region,
    )


def differing(run: JsonObject, deployed: JsonObject, above: str = "") -> JsonObject:
    """Return the run's settings that are not as deployed, by their names with dots."""
    found: JsonObject = {}
    for name, value in run.items():
        other = deployed.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found |= differing(value, other, f"{above}{name}.")
        elif value != other:
            found[above + name] = value
    return found


def write(
    known: RunRecord,
    training: Training,
    manifest: str,
    assessment: Assessment,
    deployed: Deployment | None = None,
    customization: Customization | None = None,
) -> Spent:
    """Write the record, and return what the run has spent.

    Args:
        known: what was known when it was planned.
        training: the job that has left the model.
        manifest: data prep's, as S3 URI.
        assessment: the verdict.
        deployed: what serves the model, if anything passed.
        customization: Bedrock's job, if there is one.
    """
    serving = deployed if deployed and deployed.phase == "passed" else None
    bedrock = customization if customization and customization.job else None
    spent = Spent(
        training_seconds_billed=sum(training.billed_seconds.values()),
        training_instance_types=list(training.billed_seconds),
        training_usd=_dollars(training.billed_seconds, known.region),
        bedrock_usd_at_most=_times(known.bedrock_usd_at_most, bedrock.jobs) if bedrock else 0,
        prices_as_of=cost.AS_OF,
    )
    document = {
        "run": known.run,
        "execution": known.execution,
        "settings": known.settings,
        "base_model": known.base_model,
        "licences": known.licences,
        "bedrock_base_model": known.bedrock_base_model,
        "model": training.model,
        "manifest": manifest,
        "scores": assessment.scores,
        "promoted": assessment.promoted,
        "why": assessment.why,
        "serving": serving and {"endpoint": serving.endpoint, "config": serving.config, "until": serving.until},
        "bedrock": bedrock and {"job": bedrock.job, "jobs": bedrock.jobs, "custom_model": bedrock.custom_model},
        "spent": spent._asdict(),
    }
    bucket, _, key = known.folder.removeprefix("s3://").partition("/")
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key + names.RECORD, Body=body, ContentType="application/json")
    return spent


def _times(dollars: float | None, jobs: int) -> float | None:
    """What that many jobs cost, None if the price of one is not known."""
    return None if dollars is None else round(dollars * jobs, 2)


def _dollars(seconds: dict[str, int], region: str) -> float | None:
    """What billed seconds of these instance types cost, None if one has no price here.

    At the full price, also of spot capacity, whose discount SageMaker tells in the seconds.
    """
    total = 0.0
    for name, billed in seconds.items():
        price = cost.instance_price(name, region)
        if price is None:
            return None
        total += price * billed / 3600
    return round(total, 2)
