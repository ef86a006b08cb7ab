"""Service Quotas on this machine: SageMaker's instances, and Bedrock's imported models.

It knows only quotas whose codes are in public listings of real accounts. Each value of SageMaker's is 1 (a new account has
0 or 1), and that of Bedrock's 3, until a POST to /_tuneway/quotas with {"ml.g5.xlarge for training job usage": 0} sets
it, or the same document in <state dir>/quotas.json.

Sources: Service Quotas API Reference (the four operations that read); "Amazon SageMaker AI endpoints and quotas" and "Amazon
Bedrock endpoints and quotas" in the AWS General Reference (names, codes and defaults). Users quote the message
ResourceLimitExceeded from CreateTrainingJob and CreateEndpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from local_aws.core.listing import page
from local_aws.core.registry import Registered, Request, Response, register_control, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import QUOTAS

# Quota code -> name. Each is in at least one public listing of a real account's quotas.
SAGEMAKER_QUOTAS = {
    "L-B6D80D9C": "ml.g5.xlarge for training job usage",
    "L-1928E07B": "ml.g5.xlarge for endpoint usage",
    "L-2D6DEB3C": "ml.g5.2xlarge for training job usage",
    "L-9614C779": "ml.g5.2xlarge for endpoint usage",
    "L-C1B9A48D": "ml.g5.4xlarge for endpoint usage",
    "L-56AE9D73": "ml.g6.xlarge for training job usage",
    "L-D470D954": "ml.g6.xlarge for endpoint usage",
    "L-A886A53A": "ml.g6.xlarge for spot training job usage",
    "L-98BDE811": "ml.g6.2xlarge for endpoint usage",
}
IMPORTED_MODELS = "Imported models per account"
# Service code -> its name, its quotas by code, and their default.
_SERVICES: dict[str, tuple[str, dict[str, str], float]] = {
    "sagemaker": ("Amazon SageMaker", SAGEMAKER_QUOTAS, 0.0),
    "bedrock": ("Amazon Bedrock", {"L-45B04988": IMPORTED_MODELS}, 3.0),
}
_NEW = dict.fromkeys(SAGEMAKER_QUOTAS.values(), 1.0) | {IMPORTED_MODELS: 3.0}


@dataclass
class Quotas:
    """The applied values. Posted values override those of the file."""

    file: Path
    posted: dict[str, float] = field(default_factory=dict)

    # Unconfirmed: Value of a new account's instance quotas | Here: applied 1, default 0 | Source: differs by account;
    #   set with `/_tuneway/quotas` or `quotas.json`
    def values(self) -> dict[str, float]:
        """Return the values that local AWS enforces, by the quotas' names."""
        return {name: float(self._given().get(name, value)) for name, value in _NEW.items()}

    # Unconfirmed: The applied value of "Imported models per account" | Here: not there until somebody sets it, so that only
    #   the default of 3 can be read | Source: API Reference of GetServiceQuota: "For some quotas, only the default values
    #   are available"
    def applied(self) -> dict[str, float]:
        """Return the applied values, by the quotas' names."""
        set_by_hand = self._given()
        return {name: value for name, value in self.values().items() if name != IMPORTED_MODELS or name in set_by_hand}

    def _given(self) -> dict[str, Any]:
        in_file = json.loads(self.file.read_text("utf-8")) if self.file.exists() else {}
        return {**in_file, **self.posted}

    def control(self, request: Request) -> Response:
        """Set values by quota name (POST), and answer with all values (POST and GET)."""
        if request.method == "POST":
            given = {name: float(value) for name, value in json.loads(request.body).items()}
            if unknown := given.keys() - self.values().keys():
                return Response(400, body=f"unknown quota {', '.join(sorted(unknown))}\n".encode())
            self.posted |= given
        return Response(200, {"Content-Type": "application/json"}, json.dumps(self.values()).encode())

    def check(self, name: str, in_use: int, wanted: int) -> None:
        """Refuse `wanted` more instances over a quota. An unknown quota limits nothing. Raises ServiceError."""
        limit = self.values().get(name)
        if limit is not None and in_use + wanted > limit:
            raise ServiceError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{name}' is {limit:g} Instances, with current utilization of {in_use} "
                f"Instances and a request delta of {wanted} Instances. Please use AWS Service Quotas to request an "
                "increase for this quota. If AWS Service Quotas is not available, contact AWS support to request an "
                "increase for this quota.",
            )

    @QUOTAS.operation
    def list_service_quotas(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return page(_quotas(params, request, self.applied()), params, "Quotas", size=100)

    @QUOTAS.operation
    def list_aws_default_service_quotas(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return page(_quotas(params, request, None), params, "Quotas", size=100)

    @QUOTAS.operation
    def get_service_quota(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return _found(params, _quotas(params, request, self.applied()))

    @QUOTAS.operation
    def get_aws_default_service_quota(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return _found(params, _quotas(params, request, None))


def _quotas(params: dict[str, Any], request: Request, applied: dict[str, float] | None) -> list[dict[str, Any]]:
    """Return the quotas of a service: those with an applied value, or all with their defaults."""
    code = params["ServiceCode"]
    if code not in _SERVICES:
        raise ServiceError("NoSuchResourceException", f"The service {code} does not exist.")
    service, named, default = _SERVICES[code]
    shared = {
        "ServiceCode": code,
        "ServiceName": service,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": "ACCOUNT",
    }
    root = f"arn:aws:servicequotas:{request.region}:{request.account}:{code}"
    values = dict.fromkeys(named.values(), default) if applied is None else applied
    return [
        {**shared, "QuotaArn": f"{root}/{quota}", "QuotaCode": quota, "QuotaName": name, "Value": values[name]}
        for quota, name in named.items()
        if name in values
    ]


def _found(params: dict[str, Any], quotas: list[dict[str, Any]]) -> dict[str, Any]:
    for quota in quotas:
        if quota["QuotaCode"] == params["QuotaCode"]:
            return {"Quota": quota}
    raise ServiceError("NoSuchResourceException", f"The quota {params['QuotaCode']} does not exist.")


APPLIED = Quotas(Path("quotas.json"))
"""The quotas of this server, which SageMaker checks."""


def register(state_dir: Path, _endpoint_url: str) -> None:
    """Answer Service Quotas' calls, and the control path /_tuneway/quotas."""
    APPLIED.file = state_dir / "quotas.json"
    handler = partial(QUOTAS.handle, APPLIED)
    register_service(Registered("servicequotas", handler, QUOTAS.target_prefix, model="service-quotas"))
    register_control("quotas", APPLIED.control)
