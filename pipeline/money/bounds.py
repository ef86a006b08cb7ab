"""The upper bound of a run's cost. It follows from dated prices and from the run's own limits.

The prices of instances are in `pipeline.money.prices`, and those of Bedrock's base models in `pipeline.catalogue`. A missing
price means that the cost is not known, and is never taken as 0. docs/costs.md explains the bounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline import judging
from pipeline.catalogue import BASE_MODELS
from pipeline.contracts.money import Estimate
from pipeline.money.prices import MINUTES_PER_HOUR, of_instances

if TYPE_CHECKING:
    from pipeline.contracts.money import Expected, Prices
    from pipeline.settings import Settings

AS_OF = "2026-11-24"
"""The day of the prices of Bedrock. Their sources are secondary (docs/costs.md)."""

BEDROCK_MODEL_STORAGE_PER_MONTH = 1.95
"""Of a custom model, and of each unit of an imported model."""

IMPORTED_PER_UNIT_MINUTE = {"us-east-1": 0.0785, "us-west-2": 0.0785}
"""The price of one custom model unit of one copy for a minute. Secondary sources have 0.0785 and, later, 0.05718."""

IMPORTED_WINDOW_MINUTES = 5
"""The time for which Bedrock bills a copy at least, each time that a call wakes it (its user guide, "Calculate the cost of
running a custom model": "Billing is charged over 5-minute billing windows from the first successful inference call")."""

IMPORTED_WINDOWS = 2
"""The most windows that a run's own calls open. They take less than a minute, and a window may end between them."""

IMPORTED_UNITS = ((8.1e9, 2), (71e9, 8))
"""The most units of a copy by the model's parameters: Llama 3.1 8B has 2, and 70B has 8, with 128K tokens (secondary sources).
Bedrock counts the units when it imports the model, and smaller models have fewer."""


def estimate(
    settings: Settings,
    prices: Prices,
    expected: Expected,
    bedrock_model: str | None,
    region: str,
    parameters: int = 0,
    *,
    trains: bool = True,
) -> Estimate:
    """Return the upper bound of one run's cost.

    The training job runs until its time limit, Bedrock trains on its record limit, and the endpoint lives until its end:

    - Of several instance types, the most expensive one counts.
    - Spot capacity counts at the full price. Its discount changes, and waiting for it costs nothing.
    - A Bedrock record counts as `training.max_length` tokens, which is more than a dialogue has.
    - An imported model has the units of a larger model whose units are known, and answers the run's own questions once.
    - The judge model reads its longest request and writes its longest answer, twice for each row.
    - The endpoint lives for `time_to_live_minutes` and the longest start-up. If it has no end, its cost has no bound.

    Args:
        settings: the run's settings.
        prices: the prices of instances.
        expected: the expected cost (`pipeline.money.expected`), which the estimate shows beside the bound.
        bedrock_model: the base model that Bedrock customizes, or None.
        region: the stack's region.
        parameters: the parameters of the model that Bedrock imports, if it imports one.
        trains: whether the run trains. If not, it serves the model of an earlier run.
    """
    unknown: list[str] = []
    training, endpoint = settings.training, settings.endpoint
    parts: dict[str, float | None] = {"training": 0.0, "bedrock": 0.0, "endpoint": 0.0}
    if trains:
        hours = training.max_runtime_minutes / MINUTES_PER_HOUR
        parts["training"] = of_instances(prices.training, training.instance_types, training.instance_count, hours)
        unknown += _without_price(prices.training, training.instance_types, region)
    if bedrock_model is not None:
        parts["bedrock"] = customization(settings, bedrock_model)
        unknown += [bedrock_model] if parts["bedrock"] is None else []
    elif settings.bedrock.mode == "import":
        parts["bedrock"] = imported(units_at_most(parameters), region)
        if parts["bedrock"] is None:
            unknown.append(f"an imported model of {parameters:,} parameters in {region}")
    parts["judge"] = judge_cost(settings) if trains else 0.0
    if endpoint.enabled:
        life = endpoint.time_to_live_minutes
        if life is None:
            parts["endpoint"] = None
            unknown.append("an endpoint without an end")
        else:
            hours = (life + endpoint.startup_timeout_minutes) / MINUTES_PER_HOUR
            parts["endpoint"] = of_instances(prices.endpoint, endpoint.instance_types, endpoint.instance_count, hours)
            unknown += _without_price(prices.endpoint, endpoint.instance_types, region)
    rounded = {name: part if part is None else round(part, 2) for name, part in parts.items()}
    known = [part for part in rounded.values() if part is not None]
    return Estimate(
        **rounded,
        total=round(sum(known), 2) if len(known) == len(rounded) else None,
        currency="USD",
        prices_as_of=prices.as_of,
        unknown=list(dict.fromkeys(unknown)),
        expected=expected,
    )


def judge_cost(settings: Settings, bytes_per_token: int = 1) -> float:
    """Return the cost of the judge model, rounded up to a cent; 0 without one (`pipeline.judging.at_most`)."""
    judge = judging.plan(settings)
    return math.ceil(100 * judging.at_most(judge, bytes_per_token)) / 100 if judge else 0.0


def warnings(found: Estimate, why_not: str | None = None) -> list[str]:
    """Return a warning if a price is not known, because the estimate then has no total.

    Args:
        found: the estimate.
        why_not: why AWS's Price List gave no prices, if it was asked and gave none.
    """
    if not found.unknown:
        return []
    return [
        f"estimate: there is no total, because the cost of {not_known(found, why_not)} is not known here; look it up "
        "(https://aws.amazon.com/sagemaker/ai/pricing/, https://aws.amazon.com/bedrock/pricing/) before this run goes on, or "
        "stop the execution"
    ]


def not_known(found: Estimate, why_not: str | None) -> str:
    """Return the parts whose cost is not known, and why the Price List has not told it."""
    return f"{', '.join(found.unknown)}{f' (the Price List: {why_not})' if why_not else ''}"


def _without_price(known: dict[str, float], types: list[str], region: str) -> list[str]:
    return [f"{name} in {region}" for name in types if name not in known]


def customization(settings: Settings, model: str, tokens: float | None = None) -> float | None:
    """Return the cost of one customization job and of a month of its model, or None if the price is not known.

    Args:
        settings: the run's settings.
        model: the base model that Bedrock customizes.
        tokens: the tokens of its records. None: as many as the record limit allows.
    """
    price = BASE_MODELS[model].usd_per_1k_tokens
    if price is None:
        return None
    most = settings.bedrock.max_records * settings.training.max_length
    default = BASE_MODELS[model].hyperparameters["epochCount"].default
    epochs = float(settings.bedrock.hyperparameters.get("epochCount", default))
    return price * min(most, most if tokens is None else tokens) * epochs / 1000 + BEDROCK_MODEL_STORAGE_PER_MONTH


def units_at_most(parameters: int) -> int | None:
    """Return the most custom model units of a copy of an imported model, or None if it is larger than all known ones."""
    return next((units for most, units in IMPORTED_UNITS if parameters <= most), None)


def imported(units: int | None, region: str) -> float | None:
    """Return the cost of an imported model, in dollars: a month of its storage, and the run's own questions.

    Returns:
        None if the number of units or the Region's price is not known.
    """
    price = IMPORTED_PER_UNIT_MINUTE.get(region)
    if units is None or price is None:
        return None
    return units * (BEDROCK_MODEL_STORAGE_PER_MONTH + IMPORTED_WINDOWS * IMPORTED_WINDOW_MINUTES * price)


def wake_warning(region: str) -> str:
    """Return the warning about the cost of each call that wakes an imported model."""
    price = IMPORTED_PER_UNIT_MINUTE.get(region)
    dollars = "an unknown price" if price is None else f"about {price * IMPORTED_WINDOW_MINUTES:.2f} dollars"
    return (
        "bedrock.mode: an imported model scales to zero when nobody asks it; each call that wakes it is billed for "
        f"{IMPORTED_WINDOW_MINUTES} minutes of each copy and unit at least, which is {dollars} per unit in {region}"
    )
