"""What an execution has cost so far, from what AWS has answered about its jobs and its endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import money
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.events import Deployment, Judged
from pipeline.contracts.money import Spent, SpentPart
from pipeline.contracts.planned import RunRecord
from pipeline.contracts.values import ContractError, parse
from pipeline.money.words import NOT_KNOWN, dollars
from pipeline.times import moment

if TYPE_CHECKING:
    from cli.reader import SeenRun
    from pipeline.contracts.money import Ongoing


def spent(found: SeenRun, now: float) -> Spent | None:
    """Return what the execution has cost so far. None before Plan has answered, or if it is of another version.

    Args:
        found: what AWS has answered.
        now: the time, in epoch seconds.
    """
    answers = found.history.answers
    try:
        if found.status == "SUCCEEDED":
            return parse(Spent, found.output.get("spent"))
        record = parse(RunRecord, (answers.get("Plan") or {}).get("record"))
        made = found.history.bedrock
        job = parse(BedrockJob, made) if made else None
        deployed = parse(Deployment, answers["Deploy"]) if answers.get("Deploy") else None
        judged = parse(Judged, answers["Judge"]) if answers.get("Judge") else None
        # If the function of the judge has failed, only Assess has the bound of what it may have cost.
        assessed = (answers.get("Assess") or {}).get("judging")
        judge = parse(SpentPart, assessed) if assessed else money.judge_spent(judged, record)
    except ContractError:
        return None
    bedrock = job and money.BedrockUse(record.bedrock_mode, job.jobs, record.estimate.bedrock, model=job.model)
    training = money.training_use(found.jobs.values(), now)
    endpoint = money.endpoint_use(record, deployed)
    return money.spent_so_far(record.prices, record.region, training, bedrock, endpoint, now, judge)


def so_far(found: SeenRun, now: float) -> str:
    """Return the line about the money for a run that goes on."""
    cost = spent(found, now)
    if cost is None:
        return ""
    shown = [part for part in cost.parts if part.usd != 0]
    parts = ", ".join(f"{part.part} {'?' if part.usd is None else f'{part.usd:.2f}'} {part.basis}" for part in shown)
    return f"{_in_dollars(cost.total)} so far{f': {parts}' if parts else ''}"


def at_end(found: SeenRun, now: float) -> list[str]:
    """Return the lines about the money at the end: by part, and what goes on."""
    if (found.history.answers.get("Plan") or {}).get("refusal"):
        return ["nothing was spent"]
    cost = spent(found, now)
    if cost is None:
        return ["not known: Plan has not answered, or the execution is of another version of the stack"]
    lines = [f"{_in_dollars(cost.total)} so far, before tax"]
    lines += [f"{part.part} {_in_dollars(part.usd)}, {part.basis}: {part.how}" for part in cost.parts if part.usd != 0]
    return lines + [line for one in cost.ongoing if (line := _goes_on(found, one))]


def _goes_on(found: SeenRun, one: Ongoing) -> str:
    """Return the line about a thing that goes on to cost money; empty if it is the endpoint, and the run no longer has it."""
    end = f"until {moment(one.until)}" if one.until else "without an end"
    deployed = found.history.answers.get("Deploy") or {}
    if one.what == money.endpoint_name(deployed.get("endpoint", "")):
        if found.lost_endpoint:
            return ""
        tested = found.history.answers.get("SmokeTest") or {}
        if found.status != "SUCCEEDED" and tested.get("phase") != "passed":
            end = f"until the run's cleanup deletes it or gives it back to an earlier model; if that fails, {end}"
    price = "a price that is not known" if one.usd_per_hour is None else f"{one.usd_per_hour:g} dollars per hour"
    return f"goes on: {one.what}, at {price}, {end}"


def _in_dollars(amount: float | None) -> str:
    return NOT_KNOWN if amount is None else f"{dollars(amount)} dollars"
