"""The Price List on local AWS: GetProducts with filters and pages, its documents, its Regions, and IAM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3

from tests.local_aws.conftest import refusal

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def pricing(aws: RunningAws, region: str = "us-east-1", **credentials: str) -> Any:
    keys = credentials or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("pricing", endpoint_url=aws.endpoint, region_name=region, **keys)


def term(field: str, value: str, kind: str = "TERM_MATCH") -> dict[str, str]:
    return {"Type": kind, "Field": field, "Value": value}


def products(client: Any, *filters: dict[str, str], **options: Any) -> list[dict[str, Any]]:
    answer = client.get_products(ServiceCode="AmazonSageMaker", Filters=list(filters), **options)
    return [json.loads(item) for item in answer["PriceList"]]


def test_the_filters_select_products_and_each_document_has_its_price_as_text(aws: RunningAws) -> None:
    client = pricing(aws)
    (item,) = products(
        client,
        term("regionCode", "eu-central-1"),
        term("usagetype", "Train:ml.g5.xlarge", "CONTAINS"),
        term("component", "Training"),
    )
    attributes = item["product"]["attributes"]
    assert (attributes["usagetype"], attributes["instanceType"]) == ("EUC1-Train:ml.g5.xlarge", "ml.g5.xlarge-Training")
    ((_, offer),) = item["terms"]["OnDemand"].items()
    ((_, dimension),) = offer["priceDimensions"].items()
    assert (dimension["unit"], dimension["pricePerUnit"]) == ("Hrs", {"USD": "1.7600000000"})
    uses = products(
        client,
        term("instanceName", "ml.g6.xlarge"),
        term("regionCode", "us-east-1"),
        term("component", "Training, Hosting", "ANY_OF"),
    )
    assert len(uses) == 2
    others = products(
        client,
        term("instanceName", "ml.g6.xlarge"),
        term("regionCode", "us-east-1"),
        term("component", "Training,Hosting", "NONE_OF"),
    )
    assert {one["product"]["attributes"]["component"] for one in others} == {"Notebook", "SpotTraining"}
    assert products(client, term("nothing", "x")) == []


def test_the_pages_hold_all_products_once(aws: RunningAws) -> None:
    client = pricing(aws)
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonSageMaker", PaginationConfig={"PageSize": 7}
    )
    skus = [json.loads(item)["product"]["sku"] for page in pages for item in page["PriceList"]]
    assert len(skus) == len(set(skus)) == len(products(client)) > 20


def test_what_the_price_list_refuses(aws: RunningAws) -> None:
    client = pricing(aws)
    assert refusal(client.get_products, ServiceCode="AmazonNothing")[0] == "NotFoundException"
    assert refusal(client.get_products, ServiceCode="AmazonSageMaker", MaxResults=101)[0] == "ValidationException"
    assert refusal(client.get_products, ServiceCode="AmazonSageMaker", NextToken="x")[0] == "InvalidNextTokenException"
    elsewhere = pricing(aws, "us-west-2")
    assert refusal(elsewhere.get_products, ServiceCode="AmazonSageMaker")[0] == "UnrecognizedClientException"


def test_a_role_needs_get_products_on_all_resources(aws: RunningAws) -> None:
    may = {"Effect": "Allow", "Action": "pricing:GetProducts", "Resource": "*"}
    for name, statements, allowed in (("prices-no", [], False), ("prices-yes", [may], True)):
        session = aws.session(aws.role(name, *statements))
        client = pricing(
            aws,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        )
        if allowed:
            assert products(client)
        else:
            assert refusal(client.get_products, ServiceCode="AmazonSageMaker")[0] == "AccessDeniedException"
