"""Instance quotas: how many instances run, and whether more may.

Source of the message: ResourceLimitExceeded as users meet it in CreateTrainingJob and CreateEndpoint.
"""

from __future__ import annotations

import json
from urllib.request import urlopen

from local_aws.core.shapes import ServiceError


def check(endpoint_url: str, name: str, in_use: int, wanted: int) -> None:
    """Refuse `wanted` more instances under the quota `name` ("ml.g5.xlarge for endpoint usage").

    The value is what Service Quotas answers on this server; a quota it does not know limits nothing. Raises
    ServiceError.
    """
    with urlopen(f"{endpoint_url}/_tuneway/quotas", timeout=10) as answer:
        values: dict[str, float] = json.load(answer)
    if name in values and in_use + wanted > values[name]:
        raise ServiceError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{name}' is {values[name]:g} Instances, with current "
            f"utilization of {in_use} "
            f"Instances and a request delta of {wanted} Instances. Please use AWS Service Quotas to request "
            "an increase for "
            "this quota. If AWS Service Quotas is not available, contact AWS support to request an increase "
            "for this quota.",
        )
