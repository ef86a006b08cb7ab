"""What a run leaves of itself: `models/RUN/run.json`, beside its model. The bucket is the list of runs.

The Assess step writes it, so that no model is without. It is written again when the model serves and Bedrock is not through,
and at the end, with what Bedrock made and what was spent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline import aws, cost, names

if TYPE_CHECKING:
    from pipeline.settings import Settings

NAME = "run.json"


def begin(
    settings: Settings, deployed: dict[str, Any], stack: dict[str, Any], plan: dict[str, Any], execution: str
) -> dict[str, Any]:
    """Return what is known of a run when it is planned.

    Args:
        settings: the run's.
        deployed: the settings as deployed.
        stack: what exists.
        plan: the rest of the plan.
        execution: the execution's ARN.
    """
    customize, estimate = plan["customize"], plan["estimate"]
    return {
        "folder": names.place(stack["bucket"], "models", plan["run"]),
        "run": plan["run"],
        "execution": execution,
        "settings": differing(settings.model_dump(mode="json"), deployed),
        "base_model": f"{settings.training.base_model}@{plan['base_model']['revision'] or settings.training.base_revision}",
        "licences": {part: plan[part]["licence"] for part in ("base_model", "dataset")},
        "bedrock_base_model": customize and customize["request"]["baseModelIdentifier"],
        "bedrock_usd_at_most": estimate["bedrock"] if customize else 0,
        "region": stack["region"],
    }


def differing(run: dict[str, Any], deployed: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return the run's settings that are not as deployed, by their names with dots."""
    found: dict[str, Any] = {}
    for name, value in run.items():
        other = deployed.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found |= differing(value, other, f"{above}{name}.")
        elif value != other:
            found[above + name] = value
    return found


def write(
    event: dict[str, Any],
    assessment: dict[str, Any],
    serving: dict[str, Any] | None = None,
    bedrock: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the record and return it.

    Args:
        event: `record` (`begin`'s), `training` (the train function's answer) and `manifest` (S3 URI).
        assessment: `scores`, `promoted` and `why`.
        serving: `endpoint`, `config` and `until` of what serves the model.
        bedrock: `job`, `jobs` (how many were made) and `custom_model` (null until it is there) of the customization.
    """
    known, training = event["record"], event["training"]
    document = {
        **{key: known[key] for key in ("run", "execution", "settings", "base_model", "licences", "bedrock_base_model")},
        "model": training["model"],
        "manifest": event["manifest"],
        "scores": assessment["scores"],
        "promoted": assessment["promoted"],
        "why": assessment["why"],
        "serving": serving,
        "bedrock": bedrock,
        "spent": {
            "training_seconds_billed": sum(training["billed_seconds"].values()),
            "training_instance_types": list(training["billed_seconds"]),
            "training_usd": _dollars(training["billed_seconds"], known["region"]),
            "bedrock_usd_at_most": _times(known["bedrock_usd_at_most"], bedrock["jobs"]) if bedrock else 0,
            "prices_as_of": cost.AS_OF,
        },
    }
    bucket, _, key = known["folder"].removeprefix("s3://").partition("/")
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    aws.client("s3").put_object(Bucket=bucket, Key=key + NAME, Body=body, ContentType="application/json")
    return document


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
