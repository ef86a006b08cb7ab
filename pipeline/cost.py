"""What a run can cost at most, in US dollars before tax: computed from prices with a date, and from the run's own limits.

Prices are those of us-west-2 and us-east-1, from secondary sources as of `AS_OF`; they are shown as an estimate and
never used to bill anything. docs/costs.md explains them. `python -m pipeline.cost` prints the estimate of config.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.catalogue import BASE_MODELS

if TYPE_CHECKING:
    from pipeline.settings import Settings

AS_OF = "2026-11-24"

INSTANCE_PER_HOUR = {"ml.g5.xlarge": 1.408, "ml.g6.xlarge": 1.1267}
BEDROCK_PER_1K_TOKENS = {
    "meta.llama3-1-8b-instruct-v1:0:128k": 0.00149,
    "meta.llama3-3-70b-instruct-v1:0:128k": 0.0033,
    # From memory; articles that name 2.18 dollars for a job of about 5,000 short examples agree with its size.
    "amazon.nova-micro-v1:0:128k": 0.001,
}
BEDROCK_MODEL_STORAGE_PER_MONTH = 1.95


def estimate(settings: Settings, bedrock_model: str | None) -> dict[str, Any]:
    """The most one run costs: the training job at its time limit, Bedrock at its record limit, the endpoint to its end.

    Of several instance types the dearest is counted. Spot capacity is counted at the full price: its discount changes, and
    waiting for it costs nothing. A Bedrock record is counted at the training's `max_length` tokens, which is above what a
    dialogue has. The endpoint lives from its start for `time_to_live_minutes` and the longest start-up; without an end, it has
    no bound to count.

    Returns:
        dollars for `training`, `bedrock`, `endpoint`, `total`; `unknown` names what has no price here.
    """
    unknown: list[str] = []
    endpoint = bedrock = 0.0
    hours = settings.training.max_runtime_minutes / 60
    price = _dearest(settings.training.instance_types, unknown)
    training = price * hours * settings.training.instance_count
    if settings.endpoint.enabled:
        life = settings.endpoint.time_to_live_minutes
        if life is None:
            unknown.append("an endpoint without an end")
        else:
            price = _dearest(settings.endpoint.instance_types, unknown)
            hours = (life + settings.endpoint.startup_timeout_minutes) / 60
            endpoint = price * hours * settings.endpoint.instance_count
    if bedrock_model is not None:
        default = BASE_MODELS[bedrock_model].hyperparameters["epochCount"].default
        epochs = float(settings.bedrock.hyperparameters.get("epochCount", default))
        tokens = settings.bedrock.max_records * settings.training.max_length * epochs
        bedrock = BEDROCK_PER_1K_TOKENS[bedrock_model] * tokens / 1000 + BEDROCK_MODEL_STORAGE_PER_MONTH
    return {
        "training": round(training, 2),
        "bedrock": round(bedrock, 2),
        "endpoint": round(endpoint, 2),
        "total": round(training + bedrock + endpoint, 2),
        "currency": "USD",
        "prices_as_of": AS_OF,
        "unknown": unknown,
    }


def _dearest(types: list[str], unknown: list[str]) -> float:
    """The highest price an hour, 0 where none is known; types without a price are added to `unknown`."""
    unknown += [name for name in types if name not in INSTANCE_PER_HOUR]
    return max((INSTANCE_PER_HOUR[name] for name in types if name in INSTANCE_PER_HOUR), default=0.0)


if __name__ == "__main__":
    import json
    from pathlib import Path

    from pipeline.catalogue import DEFAULT_BY_REGION
    from pipeline.settings import load

    config = load(Path(__file__).resolve().parent.parent / "config.yaml")
    for region, model in DEFAULT_BY_REGION.items():
        print(region, json.dumps(estimate(config, model if config.bedrock.enabled else None)))
