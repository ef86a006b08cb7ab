"""The upper bound of a run's cost, in US dollars before tax. It follows from dated prices and from the run's own limits.

The prices are those of us-west-2 and us-east-1, from secondary sources as of `AS_OF`. They only serve as an estimate, and
never bill anything. The prices of Bedrock's base models are in `pipeline.catalogue`. A missing price means that the cost is
not known, and is never taken as 0. docs/costs.md explains the prices. `python -m pipeline.cost` prints the estimate of
config.yaml.
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
    """Return the upper bound of one run's cost.

    The training job runs until its time limit, Bedrock trains on its record limit, and the endpoint lives until its end:

    - Of several instance types, the most expensive one counts.
    - Spot capacity counts at the full price. Its discount changes, and waiting for it costs nothing.
    - A Bedrock record counts as `training.max_length` tokens, which is more than a dialogue has.
    - The endpoint lives for `time_to_live_minutes` and the longest start-up. If it has no end, its cost has no bound.

    Args:
        settings: the run's settings.
        bedrock_model: the base model that Bedrock customizes, or None.
        region: the stack's region.
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
    """Return a warning if a price is not known, because the estimate then has no total."""
    if not found.unknown:
        return []
    return [
        f"estimate: there is no total, because the price of {', '.join(found.unknown)} is not known here; look it up "
        "(https://aws.amazon.com/sagemaker/ai/pricing/) before this run goes on, or stop the execution"
    ]


def instance_price(name: str, region: str) -> float | None:
    """Return the price of an instance type in dollars per hour, or None if it is not known."""
    return INSTANCE_PER_HOUR.get(name) if region in PRICED_REGIONS else None


def _instances(types: list[str], count: int, minutes: int, region: str, unknown: list[str]) -> float | None:
    """Return the cost of `count` instances of the most expensive type, in dollars.

    Returns:
        None if the price of a type is not known. The type is then added to `unknown`.
    """
    prices = {name: instance_price(name, region) for name in types}
    unknown += [f"{name} in {region}" for name, price in prices.items() if price is None]
    known = [price for price in prices.values() if price is not None]
    return max(known) * count * minutes / 60 if len(known) == len(types) else None


def _customization(settings: Settings, model: str, unknown: list[str]) -> float | None:
    """Return the cost of Bedrock's job at its record limit and of a month of its model, or None if it is not known."""
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
