"""What a run has cost so far, and what goes on to cost money. These are pure functions over what AWS has answered."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pipeline.contracts.money import Ongoing, Spent, SpentPart
from pipeline.money import bounds
from pipeline.money.prices import HOURS_PER_MONTH, SECONDS_PER_HOUR, of_instances
from pipeline.times import duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.contracts.events import Judged
    from pipeline.contracts.money import EndpointInstances, Prices
    from pipeline.contracts.planned import RunRecord
    from pipeline.money.job_time import JobTime


class TrainingUse(NamedTuple):
    """The seconds of training instances, by type, of all jobs of a run.

    Attributes:
        seconds: the seconds of all instances.
        basis: "billed" if AWS says of each job which seconds it bills. "estimated" while a job runs.
        time: where the time of the run's only job went. None if it is not known.
    """

    seconds: dict[str, int]
    basis: Literal["billed", "estimated"] = "billed"
    time: JobTime | None = None


class BedrockUse(NamedTuple):
    """The jobs and the model of a run in Bedrock.

    Attributes:
        mode: "customize" or "import".
        jobs: the jobs that the run has made. Each customization job is billed. An import job is free.
        usd_at_most: the bound of one job and a month of its model. None if a price is not known.
        units: the custom model units of a copy of an imported model, once Bedrock has told them.
        model: the ARN of the model, if there is one.
    """

    mode: str
    jobs: int
    usd_at_most: float | None
    units: int | None = None
    model: str | None = None


class EndpointUse(NamedTuple):
    """The life of a run's endpoint.

    Attributes:
        fleet: its instances.
        name: its name.
        since: when its deployment began, in epoch seconds.
        until: when it ends by itself (ISO 8601, UTC). None means never.
        ended: when it ended, in epoch seconds. None if it is there.
        earlier_seconds: how long the endpoints of the run's earlier attempts lived at most.
    """

    fleet: EndpointInstances
    name: str
    since: float
    until: str | None
    ended: float | None = None
    earlier_seconds: float = 0


def training_use(jobs: Iterable[dict[str, Any]], now: float) -> TrainingUse:
    """Return the seconds of training instances by type.

    SageMaker returns the billed seconds of one instance (API reference, DescribeTrainingJob), so they are multiplied. While a
    job runs, it has none, and the seconds from its start count.

    Args:
        jobs: the answers of DescribeTrainingJob for all jobs of the run.
        now: the time, in epoch seconds.
    """
    seconds: dict[str, int] = {}
    basis: Literal["billed", "estimated"] = "billed"
    for job in jobs:
        used = job.get("BillableTimeInSeconds")
        if used is None and job.get("TrainingJobStatus") in ("InProgress", "Stopping"):
            basis = "estimated"
            started = job.get("TrainingStartTime")
            used = max(0, round(now - started.timestamp())) if started else 0
        # A job that ended before it had instances has no selected type.
        if used:
            resources = job["ResourceConfig"]
            kind = instance_type(resources)
            seconds[kind] = seconds.get(kind, 0) + used * resources["InstanceCount"]
    return TrainingUse(seconds, basis)


def instance_type(resources: dict[str, Any]) -> str:
    """Return the type that a job ran on. From a list, SageMaker selects and bills one type (service model, ResourceConfig)."""
    # No page says when SageMaker tells the selected type of a job that runs. No price is known of a job without one.
    return str(resources.get("SelectedInstanceType") or resources.get("InstanceType") or "a type that is not told yet")


def spent_so_far(
    prices: Prices,
    region: str,
    training: TrainingUse,
    bedrock: BedrockUse | None,
    endpoint: EndpointUse | None,
    now: float,
    judge: SpentPart | None = None,
) -> Spent:
    """Return what a run has cost by now.

    Args:
        prices: the prices that the run counts with.
        region: the stack's region.
        training: the seconds of its training jobs.
        bedrock: what it uses in Bedrock, or None.
        endpoint: its endpoint, or None if it has deployed none.
        now: the time, in epoch seconds.
        judge: what its judge model has cost, or None.
    """
    parts = [_training(prices, region, training)]
    parts += [judge] if judge else []
    ongoing = []
    if bedrock is not None and bedrock.jobs:
        part, storage = _bedrock(bedrock, region)
        parts.append(part)
        ongoing += storage
    if endpoint is not None:
        part, life = _endpoint(prices, region, endpoint, now)
        parts.append(part)
        ongoing += life
    known = [part.usd for part in parts if part.usd is not None]
    return Spent(
        parts=parts,
        total=round(sum(known), 2) if len(known) == len(parts) else None,
        ongoing=ongoing,
        training_seconds_billed=sum(training.seconds.values()) if training.basis == "billed" else None,
        training_instance_types=list(training.seconds),
        prices_as_of=prices.as_of,
    )


def _training(prices: Prices, region: str, use: TrainingUse) -> SpentPart:
    """Return the cost of training. Spot capacity counts at the full price: its discount is in the seconds that AWS bills."""
    total: float | None = 0.0
    lines = []
    for name, seconds in use.seconds.items():
        price = prices.training.get(name)
        total = None if total is None or price is None else total + price * seconds / SECONDS_PER_HOUR
        lines.append(f"{seconds:,} {use.basis} seconds of {name} {_at(price, region)}")
    how = "; ".join(lines) or "no training instance was billed"
    if use.time:
        of = "of these seconds" if use.time.is_billed_whole else f"of the job's {use.time.seconds:,} seconds"
        how += f"; training took {use.time.trained:.0%} {of}"
    return SpentPart("training", total if total is None else round(total, 2), use.basis, how)


def _bedrock(use: BedrockUse, region: str) -> tuple[SpentPart, list[Ongoing]]:
    units: int | None = 1
    if use.mode == "customize":
        usd = None if use.usd_at_most is None else use.usd_at_most * use.jobs
        jobs = f"{use.jobs} job{'s' * (use.jobs != 1)}"
        how = f"at most: {jobs} at the record limit, each with a month of the custom model"
        what = "the custom model in Bedrock"
    else:
        units = use.units
        usd = use.usd_at_most if units is None else bounds.imported(units, region)
        counted = (
            "at most: the units are not known yet"
            if units is None
            else f"{units} custom model unit{'s' * (units != 1)}"
        )
        how = f"{counted}, a month of the imported model and the run's own questions"
        what = "the imported model in Bedrock"
    part = SpentPart("bedrock", usd if usd is None else round(usd, 2), "estimated", how)
    hourly = None if units is None else round(bounds.BEDROCK_MODEL_STORAGE_PER_MONTH * units / HOURS_PER_MONTH, 4)
    return part, [Ongoing(what, hourly, None)] if use.model else []


def _endpoint(prices: Prices, region: str, use: EndpointUse, now: float) -> tuple[SpentPart, list[Ongoing]]:
    fleet = use.fleet
    last = min(end for end in (now, use.ended, _seconds(use.until)) if end is not None)
    hours = (max(0.0, last - use.since) + use.earlier_seconds) / SECONDS_PER_HOUR
    usd = of_instances(prices.endpoint, fleet.instance_types, fleet.instance_count, hours)
    hourly = of_instances(prices.endpoint, fleet.instance_types, fleet.instance_count, 1)
    kind = " or ".join(fleet.instance_types)
    lived = duration(hours * SECONDS_PER_HOUR)
    how = f"{lived} of {fleet.instance_count} x {kind} {_at(hourly, region)}, from the start of its deployment"
    part = SpentPart("endpoint", usd if usd is None else round(usd, 2), "estimated", how)
    alive = use.ended is None and last == now
    return part, [Ongoing(endpoint_name(use.name), hourly and round(hourly, 4), use.until)] if alive else []


def judge_at_most(record: RunRecord) -> SpentPart | None:
    """Return the bound of the judge model's cost, for a run that has asked it. None for a run without one."""
    most = record.estimate.judge
    return SpentPart("judge", most, "estimated", "at most: all its rows, at their longest") if most != 0 else None


def judge_spent(judged: Judged | None, record: RunRecord) -> SpentPart | None:
    """Return what the judge model has cost. None for a run without one."""
    if judged is None or judged.usd is None:
        return judge_at_most(record) if judged else None
    return SpentPart("judge", round(judged.usd, 4), "billed", judged.tokens or "it was not asked")


def endpoint_name(name: str) -> str:
    """Return how `Ongoing` names an endpoint."""
    return f"endpoint {name}"


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _at(price: float | None, region: str) -> str:
    return f"in {region}, whose price is not known" if price is None else f"at {price:g} dollars per hour"
