"""What a run can cost at most, in US dollars before tax: computed from prices with a date, and from the run's own limits.

Prices are those of us-west-2 and us-east-1, from secondary sources as of `AS_OF`; they are shown as an estimate and never used
to bill anything. Those of Bedrock's base models are in `pipeline.catalogue`. What has no price is not known, and never 0.
docs/costs.md explains them. `python -m pipeline.cost` prints the estimate of config.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.catalogue import BASE_MODELS
from pipeline.contracts.planned import Estimate

if TYPE_CHECKING:
    from pipeline.settings import Settings

AS_OF = "2026-11-24"

PRICED_REGIONS = ("us-east-1", "us-west-2")
INSTANCE_PER_HOUR = {"ml.g5.xlarge": 1.408, "ml.g6.xlarge": 1.1267}
BEDROCK_MODEL_STORAGE_PER_MONTH = 1.95


def estimate(settings: Settings, bedrock_model: str | None, region: str) -> Estimate:
    """The most one run costs: the training job at its time limit, Bedrock at its record limit, the endpoint to its end.

    Of several instance types the dearest is counted. Spot capacity is counted at the full price: its discount changes, and
    waiting for it costs nothing. A Bedrock record is counted at the training's `max_length` tokens, which is above what a
    dialogue has. The endpoint lives from its start for `time_to_live_minutes` and the longest start-up; without an end, it has
    no bound to count.

    Args:
        settings: the run's.
        bedrock_model: the base model that Bedrock customizes, if any.
        region: the stack's.

    """
    unknown: list[str] = []
    training, endpoint = settings.training, settings.endpoint
    parts: dict[str, float | None] = {
        "training": _instances(
            training.instance_types, training.instance_count, training.max_runtime_minutes, region, unknown
        ),
        "bedrock": 0.0,
        "endpoint": 0.0,
    }
    if bedrock_model is not None:
        parts["bedrock"] = _customization(settings, bedrock_model, unknown)
    if endpoint.enabled:
        life = endpoint.time_to_live_minutes
        if life is None:
            parts["endpoint"] = None
            unknown.append("an endpoint without an end")
        else:
            minutes = life + endpoint.startup_timeout_minutes
            parts["endpoint"] = _instances(endpoint.instance_types, endpoint.instance_count, minutes, region, unknown)
    known = [part for part in parts.values() if part is not None]
    return Estimate(
        **{name: part if part is None else round(part, 2) for name, part in parts.items()},
        total=round(sum(known), 2) if len(known) == len(parts) else None,
        currency="USD",
        prices_as_of=AS_OF,
        unknown=list(dict.fromkeys(unknown)),
    )


def warnings(found: Estimate) -> list[str]:
    """What of an estimate a user must be told: a bound that leaves something out is none."""
    if not found.unknown:
        return []
    return [
        f"estimate: it is not known here what {', '.join(found.unknown)} costs, and so there is no total; look it up "
        "(https://aws.amazon.com/sagemaker/ai/pricing/) before this run goes on, or stop the execution"
    ]


def instance_price(name: str, region: str) -> float | None:
    """Dollars an hour of an instance type, None where it is not known."""
    return INSTANCE_PER_HOUR.get(name) if region in PRICED_REGIONS else None


def _instances(types: list[str], count: int, minutes: int, region: str, unknown: list[str]) -> float | None:
    """What `count` instances of the dearest type cost; None where the price of any is not known, which `unknown` gets."""
    prices = {name: instance_price(name, region) for name in types}
    unknown += [f"{name} in {region}" for name, price in prices.items() if price is None]
    known = [price for price in prices.values() if price is not None]
    return max(known) * count * minutes / 60 if len(known) == len(types) else None


def _customization(settings: Settings, model: str, unknown: list[str]) -> float | None:
    """What Bedrock's job at its record limit and a month of its model cost; None where the price is not known."""
    price = BASE_MODELS[model].usd_per_1k_tokens
    if price is None:
        unknown.append(model)
        return None
    default = BASE_MODELS[model].hyperparameters["epochCount"].default
    epochs = float(settings.bedrock.hyperparameters.get("epochCount", default))
    tokens = settings.bedrock.max_records * settings.training.max_length * epochs
    return price * tokens / 1000 + BEDROCK_MODEL_STORAGE_PER_MONTH


if __name__ == "__main__":
    import json
    from pathlib import Path

    from pipeline.catalogue import DEFAULT_BY_REGION
    from pipeline.settings import load

    config = load(Path(__file__).resolve().parent.parent / "config.yaml")
    for region, model in DEFAULT_BY_REGION.items():
        print(region, json.dumps(estimate(config, model if config.bedrock.enabled else None, region)._asdict()))
