"""The prices of instances: a table with source and date (prices.json), and the Price List API for all others.

A price that neither has is not known, and is never taken as 0.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.contracts.money import Prices

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = Path(__file__).with_name("prices.json")
"""The table. `make prices` writes it."""

MINUTES_PER_HOUR = 60
SECONDS_PER_HOUR = 3600
HOURS_PER_MONTH = 730
"""The hours that AWS's own examples count for a month."""


class PriceRow(NamedTuple):
    """The prices of one instance type in one Region, in dollars per hour. None means that AWS does not offer it, or not known.

    Attributes:
        instance_type: the type, such as ml.g5.xlarge.
        region: the Region.
        training: the price of a training instance.
        endpoint: the price of an endpoint's instance.
        as_of: the day on which the source had the price.
        source: where the price comes from.
    """

    instance_type: str
    region: str
    training: float | None
    endpoint: float | None
    as_of: str
    source: str


@functools.cache
def table() -> tuple[PriceRow, ...]:
    """Return all rows of the table."""
    return tuple(PriceRow(**row) for row in json.loads(TABLE.read_text(encoding="utf-8"))["prices"])


def known(region: str, *more: PriceRow) -> Prices:
    """Return the prices of a Region.

    Args:
        region: the Region.
        more: rows of the Price List. They only add to the table, which has been looked at by a person.
    """
    rows = [row for row in (*more, *table()) if row.region == region]
    return Prices(
        training={row.instance_type: row.training for row in rows if row.training is not None},
        endpoint={row.instance_type: row.endpoint for row in rows if row.endpoint is not None},
        as_of=min((row.as_of for row in rows), default=""),
    )


def write(rows: Iterable[PriceRow]) -> None:
    """Write the table, in the order of types and Regions."""
    text = json.dumps({"prices": [row._asdict() for row in sorted(rows)]}, indent=2)
    TABLE.write_text(text + "\n", encoding="utf-8")
    table.cache_clear()


def of_instances(prices: dict[str, float], types: list[str], count: int, hours: float) -> float | None:
    """Return the cost of `count` instances of the most expensive type, in dollars, or None if a price is not known."""
    found = [prices[name] for name in types if name in prices]
    return max(found) * count * hours if found and len(found) == len(types) else None


def endpoint_price(name: str, region: str) -> float | None:
    """Return the price of an endpoint's instance in dollars per hour, or None if the table does not have it."""
    return known(region).endpoint.get(name)
