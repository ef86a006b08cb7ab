"""Keeps `max_cost`: Plan refuses a run that may cost more, and no step then makes a job or an endpoint that may go beyond it.

A redrive does not run Plan, and each redrive may train again. So the steps that make something count what the run has spent.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import Refused
from pipeline.money.bounds import not_known
from pipeline.money.spent import (
    BedrockUse,
    EndpointUse,
    TrainingUse,
    judge_at_most,
    spent_so_far,
    training_use,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.contracts.bedrock import BedrockJob
    from pipeline.contracts.events import Deployment, Training
    from pipeline.contracts.money import Estimate, Part
    from pipeline.contracts.planned import RunRecord
    from pipeline.settings import Settings

_LOWER = {
    "training": "lower training.max_runtime_minutes",
    "customize": "lower bedrock.max_records",
    # Its bound follows from the size of the model alone.
    "import": "set bedrock.mode to off",
    "endpoint": "lower endpoint.time_to_live_minutes",
    "judge": "lower training.evaluation.judge_rows",
}
"""What lowers the bound of each part. That of Bedrock depends on its mode."""

_CENT = 0.005


class MaxCostReached(Exception):
    """The run may cost more than `max_cost` if it makes what it needs next. The text is one line with the remedy."""


def check_plan(estimate: Estimate, settings: Settings, why_not: str | None = None) -> None:
    """Refuse a run whose bound is above `max_cost`, or is not known.

    Args:
        estimate: the estimate of the run.
        settings: its settings.
        why_not: why AWS's Price List gave no prices, if it was asked and gave none.

    Raises:
        Refused: the line names the setting and the remedy.
    """
    max_cost = settings.max_cost
    if max_cost is None:
        return
    if estimate.total is None:
        raise Refused(
            f"max_cost: the most that this run can cost is not known, because the cost of {not_known(estimate, why_not)} is "
            "not known; set max_cost to null, or choose types and models with a known price and an endpoint with an end"
        )
    if estimate.total > max_cost + _CENT:
        parts = {name: getattr(estimate, name) for name in ("training", "bedrock", "endpoint", "judge")}
        dearest = max(parts, key=lambda name: parts[name])
        shares = ", ".join(f"{name} {usd:.2f}" for name, usd in parts.items() if usd)
        raise Refused(
            f"max_cost: this run may cost {estimate.total:.2f} dollars ({shares}), and max_cost is {max_cost:g}; raise "
            f"max_cost, or {_lower(dearest, settings.bedrock.mode)}"
        )


def _lower(part: str, bedrock_mode: str) -> str:
    return _LOWER[bedrock_mode if part == "bedrock" else part]


def check_training(record: RunRecord | None, earlier: Iterable[dict[str, Any]]) -> None:
    """Check the limit before a training job is made.

    Args:
        record: the run's record with the limit and the prices. None means no limit.
        earlier: the answers of DescribeTrainingJob for the run's earlier jobs.

    Raises:
        MaxCostReached: the new job may go beyond the limit.
    """
    if record is not None and record.max_cost is not None:
        now = time.time()
        _check(record, record.max_cost, "training", training_use(earlier, now), None, None, now)


def check_judge(record: RunRecord, training: Training) -> None:
    """Check the limit before the judge model is asked.

    Raises:
        MaxCostReached: the judge may go beyond the limit.
    """
    if record.max_cost is not None:
        _check(record, record.max_cost, "judge", TrainingUse(training.billed_seconds), None, None, time.time())


def check_bedrock(
    record: RunRecord | None, training: Training | None, deployed: Deployment | None, earlier: int
) -> None:
    """Check the limit before a job of Bedrock is made. `earlier` is the number of jobs that the run has made there.

    An endpoint that serves counts until its end, because it goes on to cost money while the job runs.
    """
    if record is not None and record.max_cost is not None:
        # The earlier jobs have failed. Only those of a customization are billed.
        billed = earlier if record.bedrock_mode == "customize" else 0
        bedrock = BedrockUse(record.bedrock_mode, billed, record.estimate.bedrock)
        use = TrainingUse(training.billed_seconds if training else {})
        endpoint, now = endpoint_use(record, deployed), time.time()
        end = datetime.fromisoformat(endpoint.until).timestamp() if endpoint and endpoint.until else now
        _check(record, record.max_cost, "bedrock", use, bedrock, endpoint, max(now, end))


def check_endpoint(
    record: RunRecord | None, training: Training | None, bedrock: BedrockJob | None, deployed: Deployment
) -> None:
    """Check the limit before an endpoint is made or updated. `deployed` knows how long those of earlier attempts lived."""
    if record is not None and record.max_cost is not None:
        made = BedrockUse(record.bedrock_mode, bedrock.jobs, record.estimate.bedrock) if bedrock else None
        use = TrainingUse(training.billed_seconds if training else {})
        now = time.time()
        earlier = endpoint_use(record, deployed._replace(since=round(now)))
        _check(record, record.max_cost, "endpoint", use, made, earlier, now)


def endpoint_use(record: RunRecord, deployed: Deployment | None) -> EndpointUse | None:
    """Return the life of the run's endpoint, or None if the run has deployed none."""
    if record.fleet is None or deployed is None or not deployed.since:
        return None
    # A superseded endpoint is on the config of another run, which goes on to pay for it.
    ended = time.time() if deployed.phase == "superseded" else None
    return EndpointUse(record.fleet, deployed.endpoint, deployed.since, deployed.until, ended, deployed.earlier_seconds)


def _check(
    record: RunRecord,
    max_cost: float,
    part: Part,
    training: TrainingUse,
    bedrock: BedrockUse | None,
    endpoint: EndpointUse | None,
    now: float,
) -> None:
    """Raise MaxCostReached if what was spent and the bound of `part` are above `max_cost` together, or not known."""
    # The judge has been asked before each later part. Its bound stands for what it has cost, which is cents.
    judge = judge_at_most(record) if part in ("bedrock", "endpoint") else None
    spent = spent_so_far(record.prices, record.region, training, bedrock, endpoint, now, judge)
    bound = getattr(record.estimate, part)
    if spent.total is not None and bound is not None and spent.total + bound <= max_cost + _CENT:
        return
    served = (
        f" (with its endpoint until {endpoint.until})" if endpoint and endpoint.until and part != "endpoint" else ""
    )
    sums = (
        "what this run costs is not known"
        if spent.total is None or bound is None
        else f"this run has cost {spent.total:.2f} dollars{served}, and the next step ({part}) may cost {bound:.2f} more"
    )
    anew = "start a new execution"
    if part == "endpoint":  # The model is there already, and a new training would cost as much again.
        anew += f" with the input {json.dumps({'serve': record.model_run})}, which trains nothing"
    raise MaxCostReached(
        f"max_cost: {sums}, and max_cost is {max_cost:g}; {anew}, and raise max_cost or "
        f"{_lower(part, record.bedrock_mode)}, because a redrive is refused again"
    )
