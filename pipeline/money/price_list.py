"""Reads prices of instances from AWS's Price List: for Plan within seconds, and for the table by `make prices`.

`python -m pipeline.money.price_list [REGION] [TYPE ...]` asks for the rows of the table again, or for these types in this
Region, writes prices.json and shows what has changed. It needs credentials with `pricing:GetProducts`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws
from pipeline.money import prices
from pipeline.money.prices import PriceRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.contracts.money import Prices

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

SECONDS = 3.0
"""How long Plan waits for the Price List. A run does not depend on it."""

REGION = "us-east-1"
"""A Region in which the Price List has an endpoint (AWS Billing User Guide, "Using the AWS Price List Query API"). It has the
prices of all Regions."""

_SERVICE = "AmazonSageMaker"

# The attributes are those that vantage-sh/ec2instances.info reads from the offer file of AmazonSageMaker (scraping of
# SageMaker's instances): the usage type is USE1-Train:ml.m5.large, and `instanceType` is ml.m5.large-Training or "NA".
_USAGE = re.compile(r"(?:[A-Z0-9]+-)?(?P<use>Train|Host):(?P<type>ml\.[a-z0-9-]+\.[a-z0-9]+)")
_FIELDS = {"Train": "training", "Host": "endpoint"}


def look_up(region: str, types: Iterable[str], seconds: float = SECONDS) -> tuple[Prices, str | None]:
    """Return the prices of a Region, with those of the Price List for the types that the table does not have.

    Args:
        region: the Region.
        types: the instance types that a run may use.
        seconds: how long to wait for the Price List.

    Returns:
        The prices, and why the Price List gave none, if it did not.
    """
    known = prices.known(region)
    missing = sorted({name for name in types if name not in known.training or name not in known.endpoint})
    if not missing:
        return known, None
    found: list[PriceRow] = []
    why: list[str] = []
    patience: dict[str, Any] = {
        "connect_timeout": seconds,
        "read_timeout": seconds,
        "retries": {"total_max_attempts": 1},
    }

    def ask() -> None:
        try:
            client = aws.client("pricing", region_name=REGION, **patience)
            for name in missing:
                found.extend(_rows(client, region, name))
        except (ClientError, BotoCoreError) as error:
            why.append(" ".join(str(error).split()))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            logger.warning("an item of the Price List cannot be read: %r", error)
            why.append("its answer has another form")

    # The timeouts of a connection do not bound several calls, nor the look-up of a name. The thread does not hold up the end.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if asking.is_alive():
        why = [f"it did not answer within {seconds:g} seconds"]
    if why:
        logger.warning("the Price List gives no prices: %s", why[0])
    return prices.known(region, *list(found)), why[0] if why else None


def _rows(client: Any, region: str, instance_type: str) -> list[PriceRow]:
    """Return the prices of one instance type, in one row, or no row if the Price List does not have it."""
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
        {"Type": "CONTAINS", "Field": "usagetype", "Value": f":{instance_type}"},
    ]
    pages = client.get_paginator("get_products").paginate(ServiceCode=_SERVICE, FormatVersion="aws_v1", Filters=filters)
    return parse((json.loads(item) for page in pages for item in page["PriceList"]), region, instance_type)


def parse(items: Iterable[dict[str, Any]], region: str, instance_type: str) -> list[PriceRow]:
    """Return the row of one instance type from items of a price list.

    Items of other uses (notebooks, batch transforms, spot), of other types whose names begin in the same way, and of Outposts
    do not count. If there are several prices for one use, the highest counts.
    """
    found: dict[str, float] = {}
    published = ""
    for item in items:
        attributes = item["product"]["attributes"]
        usage = _USAGE.fullmatch(attributes.get("usagetype", ""))
        if usage is None or usage["type"] != instance_type or attributes.get("regionCode") != region:
            continue
        if attributes.get("locationType", "AWS Region") != "AWS Region":
            continue
        for offer in item["terms"].get("OnDemand", {}).values():
            for dimension in offer["priceDimensions"].values():
                price = float(dimension["pricePerUnit"].get("USD", 0))
                if dimension["unit"] == "Hrs" and price > 0:
                    field = _FIELDS[usage["use"]]
                    found[field] = max(price, found.get(field, 0.0))
                    published = max(published, item.get("publicationDate", ""))
    if not found:
        return []
    day = published[:10] or datetime.now(UTC).strftime("%Y-%m-%d")
    return [
        PriceRow(
            instance_type, region, found.get("training"), found.get("endpoint"), day, f"AWS Price List, {_SERVICE}"
        )
    ]


def refresh(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Write the table with the Price List's prices of these types and Regions. Return a line for each change.

    A row that the Price List does not have stays as it is.
    """
    rows = {(row.instance_type, row.region): row for row in prices.table()}
    client = aws.client("pricing", region_name=REGION)
    lines = []
    for name, region in wanted:
        new, old = _rows(client, region, name), rows.get((name, region))
        if not new:
            lines.append(f"{name} in {region}: the Price List does not have it" + (", so the row stays" if old else ""))
            continue
        rows[name, region] = new[0]
        before = _amounts(old) if old else "no row"
        lines.append(f"{name} in {region}: {before} -> {_amounts(new[0])} ({new[0].as_of})")
    prices.write(rows.values())
    return lines


def _amounts(row: PriceRow) -> str:
    return f"training {row.training}, endpoint {row.endpoint}"


def main(arguments: list[str]) -> int:
    """Refresh the table, and return the exit code."""
    region, types = (arguments[0], arguments[1:]) if arguments else ("", [])
    wanted = [(name, region) for name in types] or [
        (row.instance_type, row.region) for row in prices.table() if region in ("", row.region)
    ]
    try:
        lines = refresh(wanted)
    except (ClientError, BotoCoreError) as error:
        print(
            f"error: the Price List cannot be read: {error}; check the credentials and pricing:GetProducts",
            file=sys.stderr,
        )
        return 1
    print("\n".join(lines))
    print(f"wrote {prices.TABLE}; look at `git diff` before you commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
