"""Service Quotas on this machine, for the SageMaker instance quotas that a run asks for.

Only quota codes that were seen in public listings of real accounts are known; every other code answers
NoSuchResourceException, as AWS does for a code that a service does not have. Values are 1 (a new account has
0 or 1) until they are set: by POST to /_tuneway/quotas with {"ml.g5.xlarge for training job usage": 0}, or by
the same document in <state dir>/quotas.json.

Sources: Service Quotas API Reference (GetServiceQuota, GetAWSDefaultServiceQuota, ListServiceQuotas); "Amazon
SageMaker AI endpoints and quotas" in the AWS General Reference (names of the quotas).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_aws.core.listing import page
from local_aws.core.registry import Request, Response, register_control, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import QUOTAS

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_VALUE = 1.0
# Quota code -> name, each found in at least one listing of a real account's quotas.
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


class Quotas:
    """The applied values; the state dir's file wins over nothing and loses to what was posted."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "quotas.json"
        self._set: dict[str, float] = {}

    # Unconfirmed: Value of a new account's instance quotas | Here: applied 1, default 0 | Source: differs by account;
    #   set with `/_tuneway/quotas` or `quotas.json`
    def value(self, name: str) -> float:
        """The applied value of a quota, by its name."""
        if name in self._set:
            return self._set[name]
        written = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        return float(written.get(name, DEFAULT_VALUE))

    def control(self, request: Request) -> Response:
        """POST sets values by quota name, GET shows them all."""
        if request.method == "POST":
            for name, value in json.loads(request.body).items():
                if name not in SAGEMAKER_QUOTAS.values():
                    return Response(400, body=f"unknown quota {name!r}\n".encode())
                self._set[name] = float(value)
        shown = {name: self.value(name) for name in SAGEMAKER_QUOTAS.values()}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(shown).encode())

    def _quota(self, code: str, value: float, request: Request) -> dict[str, Any]:
        return {
            "ServiceCode": "sagemaker",
            "ServiceName": "Amazon SageMaker",
            "QuotaArn": f"arn:aws:servicequotas:{request.region}:{request.account}:sagemaker/{code}",
            "QuotaCode": code,
            "QuotaName": SAGEMAKER_QUOTAS[code],
            "Value": value,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
            "QuotaAppliedAtLevel": "ACCOUNT",
        }

    # Unconfirmed: An unknown quota code | Here: `NoSuchResourceException` | Source: Service Quotas API Reference; only
    #   codes seen in listings of real accounts are known here
    def _known(self, params: dict[str, Any]) -> str:
        service, code = params["ServiceCode"], params["QuotaCode"]
        if service != "sagemaker" or code not in SAGEMAKER_QUOTAS:
            raise ServiceError(
                "NoSuchResourceException",
                f"The request failed because the specified quota {code} does not exist for service {service}.",
            )
        return str(code)

    @QUOTAS.operation
    def get_service_quota(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        code = self._known(params)
        return {"Quota": self._quota(code, self.value(SAGEMAKER_QUOTAS[code]), request)}

    @QUOTAS.operation
    def get_aws_default_service_quota(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"Quota": self._quota(self._known(params), 0.0, request)}

    @QUOTAS.operation
    def list_service_quotas(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return self._listed(params, request, {code: self.value(name) for code, name in SAGEMAKER_QUOTAS.items()})

    @QUOTAS.operation
    def list_aws_default_service_quotas(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return self._listed(params, request, dict.fromkeys(SAGEMAKER_QUOTAS, 0.0))

    def _listed(self, params: dict[str, Any], request: Request, values: dict[str, float]) -> dict[str, Any]:
        if params["ServiceCode"] != "sagemaker":
            raise ServiceError("NoSuchResourceException", f"The service {params['ServiceCode']} does not exist.")
        quotas = [self._quota(code, value, request) for code, value in values.items()]
        return page(quotas, params, "Quotas", size=100)


def register(state_dir: Path, _endpoint_url: str) -> None:
    """Answer Service Quotas' calls, and the control path /_tuneway/quotas."""
    quotas = Quotas(state_dir)
    register_service(
        "servicequotas",
        handler=lambda request: QUOTAS.handle(quotas, request),
        target_prefix=QUOTAS.target_prefix,
        signing_names=("servicequotas",),
        model="service-quotas",
    )
    register_control("quotas", quotas.control)
