"""The stack's endpoint as it is now: its status, the run whose model it serves, its price and its end."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline import aws, money, names, schedules
from pipeline.endpoints import describe_endpoint
from pipeline.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.stack import Stack


class EndpointNow(NamedTuple):
    """The endpoint.

    Attributes:
        name: its name.
        status: EndpointStatus.
        failure: FailureReason, or None.
        run: the run whose model it serves, or is about to serve. None if its config is gone.
        instances: its instances and their price per hour, in words.
        usd_per_hour: the price per hour, at most; None if it is not known.
        until: when its schedule deletes it at the latest; None if it has no such schedule.
        idle_minutes: the minutes without use after which it is deleted; None if nobody looks for use.
    """

    name: str
    status: str
    failure: str | None
    run: str | None
    instances: str
    usd_per_hour: float | None
    until: datetime | None
    idle_minutes: int | None

    def line(self) -> str:
        """Return the endpoint in one line, without its name."""
        of = f" with the model of run {self.run}" if self.run else ""
        return f"{self.status}{of}, {self.instances}, {self.end()}"

    def end(self) -> str:
        """Return in words when it ends."""
        latest = f"until {moment(self.until)} at the latest" if self.until else ""
        unused = f"until nobody has used it for {self.idle_minutes} minutes" if self.idle_minutes else ""
        return ", or ".join(filter(None, (latest, unused))) or "without an end"


def look(stack: Stack) -> EndpointNow | None:
    """Return the stack's endpoint, or None if there is none."""
    sagemaker, name = aws.client("sagemaker", region_name=stack.region), stack.endpoint
    found = describe_endpoint(sagemaker, name)
    if found["EndpointStatus"] == "Absent":
        return None
    run, types, count = None, list[str](), 1
    if config := _config(sagemaker, found.get("EndpointConfigName")):
        variant = config["ProductionVariants"][0]
        types = instance_types(variant)
        count = variant.get("InitialInstanceCount") or 1
        tags = aws.all_of(sagemaker, "list_tags", "Tags", ResourceArn=config["EndpointConfigArn"])
        run = next((tag["Value"] for tag in tags if tag["Key"] == names.RUN_TAG), None)
    hour = per_hour(types, count, stack.region)
    return EndpointNow(
        name=name,
        status=found["EndpointStatus"],
        failure=found.get("FailureReason"),
        run=run,
        instances=instances_words(types, count, hour),
        usd_per_hour=hour,
        until=_until(_schedule(stack, name)),
        idle_minutes=_idle_minutes(_schedule(stack, schedules.idle_name(name))),
    )


def _config(sagemaker: Any, name: str | None) -> dict[str, Any] | None:
    """Return an endpoint config, or None if somebody has deleted it."""
    if name is None:
        return None
    try:
        found: dict[str, Any] = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    except ClientError as error:
        if not aws.is_absent(error):
            raise
        return None
    return found


def _schedule(stack: Stack, name: str) -> dict[str, Any] | None:
    scheduler = aws.client("scheduler", region_name=stack.region)
    try:
        found: dict[str, Any] = scheduler.get_schedule(Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return None
    return found


def _until(schedule: dict[str, Any] | None) -> datetime | None:
    """Return the time of a one-time schedule. It has no zone of its own, so it is in UTC (pipeline.steps.deploy)."""
    found = re.fullmatch(r"at\((.+)\)", schedule["ScheduleExpression"]) if schedule else None
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None


def _idle_minutes(schedule: dict[str, Any] | None) -> int | None:
    return int(json.loads(schedule["Target"]["Input"])["minutes"]) if schedule else None


def instance_types(variant: dict[str, Any]) -> list[str]:
    """Return the instance types of a variant of an endpoint config: one, or those of its pools."""
    pools = [pool["InstanceType"] for pool in variant.get("InstancePools", ())]
    return pools or [variant["InstanceType"]]


def per_hour(types: Sequence[str], count: int, region: str) -> float | None:
    """Return the price per hour of the most expensive of the types, in dollars, or None if a price is not known."""
    prices = [money.endpoint_price(name, region) for name in types]
    known = [price for price in prices if price is not None]
    return max(known) * count if known and len(known) == len(prices) else None


def instances_words(types: Sequence[str], count: int, hour: float | None) -> str:
    """Return instances and their price in words."""
    if not types:
        return "instances that are not known, because its config is gone"
    price = "the price is not known here" if hour is None else f"{hour:.2f} dollars per hour"
    most = " at most" if hour is not None and len(types) > 1 else ""
    return f"{count} x {' or '.join(types)}, {price}{most}"
