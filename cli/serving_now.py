"""The stack's endpoint as it is now: its status, the run whose model it serves, its price and its end."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import aws, money, names
from pipeline.endpoints import describe_endpoint
from pipeline.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.context import ConnectedStack


class EndpointNow(NamedTuple):
    """The endpoint.

    Attributes:
        name: its name.
        status: EndpointStatus.
        run: the run whose model it serves, or is about to serve. None if its config is gone.
        instances: its instances and their price per hour, in words.
        usd_per_hour: the price per hour, at most; None if it is not known.
        until: when its schedule deletes it at the latest; None if it has no end.
    """

    name: str
    status: str
    run: str | None
    instances: str
    usd_per_hour: float | None
    until: datetime | None

    def line(self) -> str:
        """Return the endpoint in one line, without its name."""
        of = f" with the model of run {self.run}" if self.run else ""
        return f"{self.status}{of}, {self.instances}, {until_words(self.until)}"


def look(connected: ConnectedStack) -> EndpointNow | None:
    """Return the stack's endpoint, or None if there is none."""
    sagemaker, name, region = connected.client("sagemaker"), connected.stack.endpoint, connected.stack.region
    found = describe_endpoint(sagemaker, name)
    if found["EndpointStatus"] == "Absent":
        return None
    config_name = found.get("EndpointConfigName")
    run, types, count = None, list[str](), 1
    if config_name and aws.is_there(sagemaker.describe_endpoint_config, EndpointConfigName=config_name):
        config = sagemaker.describe_endpoint_config(EndpointConfigName=config_name)
        variant = config["ProductionVariants"][0]
        types = instance_types(variant)
        count = variant.get("InitialInstanceCount") or 1
        tags = aws.all_of(sagemaker, "list_tags", "Tags", ResourceArn=config["EndpointConfigArn"])
        run = next((tag["Value"] for tag in tags if tag["Key"] == names.RUN_TAG), None)
    hour = per_hour(types, count, region)
    words = instances_words(types, count, hour)
    return EndpointNow(name, found["EndpointStatus"], run, words, hour, _until(connected))


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


def _until(connected: ConnectedStack) -> datetime | None:
    """Return when the schedule of the endpoint's time to live deletes it; None if there is no schedule."""
    scheduler = connected.client("scheduler")
    try:
        expression = scheduler.get_schedule(Name=connected.stack.endpoint)["ScheduleExpression"]
    except scheduler.exceptions.ResourceNotFoundException:
        return None
    found = re.fullmatch(r"at\((.+)\)", expression)
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None


def until_words(until: datetime | None) -> str:
    """Return in words when the endpoint ends at the latest."""
    return f"until {moment(until)} at the latest" if until else "without an end"
