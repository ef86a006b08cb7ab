"""Reads quotas of the account, as far as Service Quotas returns them now: the applied value, else AWS's default.

ListServiceQuotas leaves out quotas that were never changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

PER_PAGE = 100
"""The largest page that ListServiceQuotas returns (service model). SageMaker's list is long, and Service Quotas throttles
early."""


class Quota(NamedTuple):
    """A quota of the account: its code and its value."""

    code: str
    value: float


def of_instances(names: Collection[str], region: str) -> dict[str, Quota]:
    """Return SageMaker's quotas by their names, such as `ml.g5.xlarge for endpoint usage`, without those that are unknown.

    Quota codes differ by instance type, and no page lists them. So quotas are found by name.
    """
    return _read("sagemaker", "QuotaName", names, region)


def of_code(service: str, code: str, region: str) -> float | None:
    """Return the value of the quota with a code, or None if it is unknown."""
    found = _read(service, "QuotaCode", [code], region, QuotaCode=code).get(code)
    return found and found.value


def console(service: str, region: str, code: str | None = None) -> str:
    """Return the address of the page on which an increase of a quota is requested, or of the service's list."""
    end = f"/{code}" if code else ""
    return f"https://{region}.console.aws.amazon.com/servicequotas/home/services/{service}/quotas{end}"


def _read(
    service: str, key: Literal["QuotaName", "QuotaCode"], wanted: Collection[str], region: str, **filters: str
) -> dict[str, Quota]:
    client = aws.client("service-quotas", region_name=region)
    found: dict[str, Quota] = {}
    try:
        for operation, only in (("list_service_quotas", filters), ("list_aws_default_service_quotas", {})):
            arguments: dict[str, Any] = {"ServiceCode": service, "PaginationConfig": {"PageSize": PER_PAGE}, **only}
            for page in client.get_paginator(operation).paginate(**arguments):
                for quota in page["Quotas"]:
                    if quota[key] in wanted:
                        found.setdefault(quota[key], Quota(quota["QuotaCode"], float(quota["Value"])))
            if len(found) == len(set(wanted)):
                break
    except (ClientError, BotoCoreError) as error:
        # The quotas only give an early warning, because AWS checks them again. So no run waits for Service Quotas.
        if not aws.is_busy(error):
            raise
        logger.warning("quotas of %s are not known: %s", service, error)
    return found
