"""The record of a run: `models/RUN/run.json`, beside its model. The bucket is the list of runs.

The Assess step writes the record, so that every model has one. The record is written again when the model serves while
Bedrock still works. It is written a last time at the end of the run, with the custom model and the costs. A run that serves
the model of an earlier run has a record, too. Its `model_run` names the earlier run.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pipeline import aws, money, names
from pipeline.contracts.planned import RunRecord
from pipeline.contracts.values import as_json
from pipeline.settings.defaults import changed

if TYPE_CHECKING:
    from pipeline.contracts.bedrock import BedrockAnswer, BedrockJob
    from pipeline.contracts.events import Assessment, Deployment, RegisteredModel, Training
    from pipeline.contracts.money import EndpointInstances, Estimate, Pace, Prices, Spent, SpentPart
    from pipeline.contracts.planned import PlannedBaseModel, StackFacts
    from pipeline.contracts.values import JsonObject
    from pipeline.settings import Settings


def begin(
    settings: Settings,
    deployed: JsonObject,
    stack: StackFacts,
    run: str,
    execution: str,
    base_model: PlannedBaseModel,
    dataset_licence: str | None,
    bedrock_base_model: str | None,
    estimate: Estimate,
    prices: Prices,
    fleet: EndpointInstances | None,
    model_run: str | None = None,
    dataset_key: str | None = None,
) -> RunRecord:
    """Return the part of the record that is known when the run is planned.

    Args:
        settings: the run's settings.
        deployed: the settings as deployed.
        stack: the stack's facts.
        run: the run's id.
        execution: the execution's ARN.
        base_model: the base model as Plan found it.
        dataset_licence: the licence of the dataset, if it is known.
        bedrock_base_model: ARN of the foundation model that Bedrock customizes, or None.
        estimate: the estimate of the run's cost.
        prices: the prices of instances that the run counts with.
        fleet: the instances of the endpoint, or None.
        model_run: the earlier run whose model this run serves. None if it makes its own.
        dataset_key: the key of the dataset (`pipeline.source.figures`). None if the run reads none.
    """
    return RunRecord(
        folder=names.place(stack.bucket, "models", run),
        run=run,
        model_run=model_run or run,
        execution=execution,
        settings=differing(settings.model_dump(mode="json"), deployed),
        changed=changed(settings.model_dump(mode="json")),
        instruction=settings.dataset.instruction,
        max_tokens=settings.training.evaluation.max_new_tokens,
        base_model=f"{base_model.name}@{base_model.revision or settings.training.base_revision}",
        licences={"base_model": base_model.licence, "dataset": dataset_licence},
        bedrock_mode=settings.bedrock.mode,
        bedrock_base_model=bedrock_base_model,
        estimate=estimate,
        prices=prices,
        fleet=fleet,
        region=stack.region,
        max_cost=settings.max_cost,
        dataset_key=dataset_key,
        training_instance_count=settings.training.instance_count,
    )


def differing(run: JsonObject, deployed: JsonObject, above: str = "") -> JsonObject:
    """Return the run's settings that differ from the deployed ones, by their dotted names."""
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
    bedrock: BedrockJob | None = None,
    answer: BedrockAnswer | None = None,
    registered: RegisteredModel | None = None,
) -> Spent:
    """Write the record, and return what the run has cost so far.

    Args:
        known: the part that was known when the run was planned.
        training: the training job that made the model.
        manifest: S3 URI of the manifest that data prep wrote.
        assessment: the result of Assess.
        deployed: the endpoint, if it has passed its smoke test.
        bedrock: Bedrock's job, if there is one.
        answer: how the model in Bedrock is called, if it has answered.
        registered: the model's version in the Model Registry, if it is registered.
    """
    serving = deployed if deployed and deployed.phase == "passed" else None
    made = bedrock if bedrock and bedrock.job else None
    spent = _spent(known, training, deployed, made, answer, assessment.judging, assessment.pace)
    document = {
        "run": known.run,
        "model_run": known.model_run,
        "execution": known.execution,
        "settings": known.settings,
        "changed": known.changed,
        "instruction": known.instruction,
        "formats": known.formats,
        "max_tokens": known.max_tokens,
        "base_model": known.base_model,
        "licences": known.licences,
        "dataset_key": known.dataset_key,
        "bedrock_mode": known.bedrock_mode,
        "bedrock_base_model": known.bedrock_base_model,
        "model": training.model,
        "manifest": manifest,
        "scores": assessment.scores,
        "promoted": assessment.promoted,
        "why": assessment.why,
        "serving": serving and {"endpoint": serving.endpoint, "config": serving.config, "until": serving.until},
        "bedrock": made and _bedrock(known, made, answer),
        "model_package": registered and registered.version,
        "pace": assessment.pace and as_json(assessment.pace),
        "estimate": as_json(known.estimate),
        "spent": as_json(spent),
    }
    bucket, _, key = known.folder.removeprefix("s3://").partition("/")
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key + names.RECORD, Body=body, ContentType="application/json")
    return spent


def _bedrock(known: RunRecord, made: BedrockJob, answer: BedrockAnswer | None) -> JsonObject:
    """Return the job, the model that it made, and how the model is called if it has answered."""
    passed = answer if answer and answer.phase == "passed" else None
    return {
        "job": made.job,
        "jobs": made.jobs,
        "custom_model": made.model if known.bedrock_mode == "customize" else None,
        "imported_model": made.model if known.bedrock_mode == "import" else None,
        "model_id": passed and passed.model_id,
        "api": passed and passed.api,
        "call": passed and passed.call,
        "samples": passed.samples if passed else [],
    }


def _spent(
    known: RunRecord,
    training: Training,
    deployed: Deployment | None,
    made: BedrockJob | None,
    answer: BedrockAnswer | None,
    judging: SpentPart | None,
    pace: Pace | None,
) -> Spent:
    """Return what the run has cost so far."""
    bedrock = made and money.BedrockUse(
        known.bedrock_mode, made.jobs, known.estimate.bedrock, answer.units if answer else None, made.model
    )
    use = money.TrainingUse(training.billed_seconds, time=money.job_time(pace))
    return money.spent_so_far(
        known.prices, known.region, use, bedrock, money.endpoint_use(known, deployed), time.time(), judging
    )
