"""The Price List on this machine: GetProducts for the instances of SageMaker, with a few products.

The documents have the form of a price list's items (AWS Billing User Guide, "Reading the service price list file": product with
attributes, terms with OnDemand, price dimensions with the price per unit as text). The attributes of SageMaker's instances are
those that vantage-sh/ec2instances.info (sagemaker.py) reads from the offer file of AmazonSageMaker.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Registered, Request, Response, register_control, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import PRICING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAGEMAKER = "AmazonSageMaker"
ENDPOINTS = ("us-east-1", "eu-central-1", "ap-south-1")
"""The Regions in which the Price List has an endpoint (AWS General Reference, "AWS Billing and Cost Management endpoints")."""

_PREFIXES = {"us-east-1": "USE1", "us-west-2": "USW2", "eu-central-1": "EUC1", "ap-northeast-1": "APN1"}
_USES = {"Train": "Training", "Host": "Hosting", "Notebk": "Notebook", "ManagedSpotTrain": "SpotTraining"}
_PUBLISHED = "2026-11-20T00:00:00Z"

# Unconfirmed: Prices of SageMaker's instances | Here: a few types in four Regions, others when a test or a user sets them by
#   `/_tuneway/prices` | Source: prices that public repositories and pages quote; AWS changes them
_PRICES = {
    ("ml.g5.xlarge", "us-east-1"): 1.408,
    ("ml.g5.xlarge", "us-west-2"): 1.408,
    ("ml.g5.xlarge", "eu-central-1"): 1.76,
    ("ml.g5.2xlarge", "us-east-1"): 1.515,
    ("ml.g5.2xlarge", "us-west-2"): 1.515,
    ("ml.g6.xlarge", "us-east-1"): 1.1267,
    ("ml.g6.xlarge", "us-west-2"): 1.1267,
    ("ml.g6.xlarge", "ap-northeast-1"): 1.634,
}


class PriceList:
    """The products of the Price List."""

    def __init__(self) -> None:
        """Begin with a few instance types."""
        self._prices = dict(_PRICES)

    def control(self, request: Request) -> Response:
        """Set prices by "TYPE REGION" (POST; null takes the product away), and answer with all of them (POST and GET)."""
        if request.method == "POST":
            for place, price in json.loads(request.body).items():
                name, _, region = place.partition(" ")
                if price is None:
                    self._prices.pop((name, region), None)
                else:
                    self._prices[name, region] = float(price)
        known = {f"{name} {region}": price for (name, region), price in self._prices.items()}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(known).encode())

    def products(self) -> Iterator[dict[str, Any]]:
        """Yield all products, each with the attributes that filters compare."""
        for (name, region), price in self._prices.items():
            for use, kind in _USES.items():
                yield _product(name, region, use, kind, price)

    # Differs: A call in another Region than us-east-1, eu-central-1 and ap-south-1 | AWS: has no such host
    #   | Here: UnrecognizedClientException, because local AWS has one host for all Regions | Why: the caller must fail, too
    # Unconfirmed: CONTAINS on usagetype | Here: a substring, and upper and lower case matter | Source: the service model's
    #   documentation of FilterType; its pages have only examples of TERM_MATCH
    @PRICING.operation
    def get_products(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        if request.region not in ENDPOINTS:
            raise ServiceError("UnrecognizedClientException", f"There is no Price List in {request.region}.")
        if params.get("FormatVersion", "aws_v1") != "aws_v1":
            raise ServiceError("InvalidParameterException", "Invalid format version.")
        if params["ServiceCode"] != SAGEMAKER:
            raise ServiceError("NotFoundException", f"The service code {params['ServiceCode']} was not found.")
        size = int(params.get("MaxResults", 100))
        token = params.get("NextToken", "0")
        if not token.isdigit():
            raise ServiceError("InvalidNextTokenException", "Invalid NextToken.")
        found = [item for item in self.products() if all(_fits(item, one) for one in params.get("Filters", ()))]
        begin, end = int(token), int(token) + size
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(item) for item in found[begin:end]], **more}


def _product(name: str, region: str, use: str, kind: str, price: float) -> dict[str, Any]:
    usage = f"{_PREFIXES.get(region, region.upper())}-{use}:{name}"
    sku = hashlib.sha256(usage.encode()).hexdigest()[:16].upper()
    offer, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    return {
        "product": {
            "productFamily": "ML Instance",
            "attributes": {
                "servicecode": SAGEMAKER,
                "servicename": "Amazon SageMaker",
                "regionCode": region,
                "locationType": "AWS Region",
                "instanceName": name,
                "instanceType": f"{name}-{kind}",
                "platoinstancename": name,
                "platoinstancetype": kind,
                "component": kind,
                "usagetype": usage,
                "operation": "RunInstance",
            },
            "sku": sku,
        },
        "serviceCode": SAGEMAKER,
        "terms": {
            "OnDemand": {
                offer: {
                    "sku": sku,
                    "offerTermCode": "JRTCKXETXF",
                    "effectiveDate": "2026-11-01T00:00:00Z",
                    "termAttributes": {},
                    "priceDimensions": {
                        rate: {
                            "rateCode": rate,
                            "unit": "Hrs",
                            "beginRange": "0",
                            "endRange": "Inf",
                            "description": f"${price} per {kind} {name} hour in {region}",
                            "appliesTo": [],
                            "pricePerUnit": {"USD": f"{price:.10f}"},
                        }
                    },
                }
            }
        },
        "version": "20261120000000",
        "publicationDate": _PUBLISHED,
    }


def _fits(item: dict[str, Any], asked: dict[str, str]) -> bool:
    """Return whether a product passes a filter. A product without the attribute passes none."""
    product = item["product"]
    values = {**product["attributes"], "productFamily": product["productFamily"], "ServiceCode": SAGEMAKER}
    value, wanted = values.get(asked["Field"]), asked["Value"]
    if value is None:
        return False
    listed = [one.strip() for one in wanted.split(",")]
    match asked["Type"]:
        case "CONTAINS":
            return wanted in value
        case "ANY_OF":
            return value in listed
        case "NONE_OF":
            return value not in listed
    return bool(value == wanted)


def register(_state_dir: Path, _endpoint_url: str) -> None:
    """Answer the Price List's calls, and the control path /_tuneway/prices."""
    prices = PriceList()
    register_service(Registered("pricing", partial(PRICING.handle, prices), PRICING.target_prefix))
    register_control("prices", prices.control)
