"""The calls of a service from the request to the answer, and the pages of its list operations."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore import xform_name

from local_aws.core.listing import page
from local_aws.core.registry import Request, Response
from local_aws.core.service import Service
from local_aws.core.shapes import ServiceError
from local_aws.services import bedrock, quotas, sagemaker
from local_aws.services.apis import BEDROCK, BEDROCK_RUNTIME, QUOTAS, SAGEMAKER

START = datetime(2026, 1, 1, tzinfo=UTC)


def request(method: str, path: str, body: Any, target: str = "") -> Request:
    return Request(method, path, {}, {"x-amz-target": target}, json.dumps(body).encode(), "0" * 12, "us-west-2", "")


def content(response: Response | None) -> tuple[int, dict[str, str], Any]:
    assert response is not None
    assert isinstance(response.body, bytes)
    return response.status, response.headers, json.loads(response.body)


@pytest.fixture
def models() -> Service:
    """A service whose state has the creation times of its models by name."""
    service = Service("sagemaker")

    @service.operation
    def describe_model(state: dict[str, datetime], params: dict[str, Any], _request: Request) -> dict[str, Any]:
        if params["ModelName"] not in state:
            raise ServiceError("ValidationException", "Could not find model")
        return {"ModelName": params["ModelName"], "CreationTime": state[params["ModelName"]], "ModelArn": None}

    @service.operation
    def delete_model(*_arguments: Any) -> None:
        return None

    return service


def test_a_json_call_is_parsed_answered_and_refused(models: Service) -> None:
    def ask(operation: str, **params: Any) -> Response | None:
        return models.handle({"m": START}, request("POST", "/", params, f"SageMaker.{operation}"))

    kind = {"Content-Type": "application/x-amz-json-1.1"}
    assert content(ask("DescribeModel", ModelName="m")) == (
        200,
        kind,
        {"ModelName": "m", "CreationTime": START.timestamp()},
    )
    status, headers, body = content(ask("DescribeModel", ModelName="n"))
    assert (status, headers) == (400, {**kind, "x-amzn-errortype": "ValidationException"})
    assert body == {"__type": "ValidationException", "message": "Could not find model"}
    assert "1 validation error detected" in content(ask("DescribeModel"))[2]["message"]
    assert ask("DeleteModel", ModelName="m") is None, "an operation that returns None goes on to MiniStack"
    assert ask("CreateModel", ModelName="m") is None, "the service has no such operation"
    assert ask("NoSuchOperation") is None


def test_a_rest_call_has_the_labels_of_its_path_and_the_status_of_its_operation() -> None:
    service = Service("bedrock")

    @service.operation
    def create_model_customization_job(_state: None, params: dict[str, Any], _request: Request) -> dict[str, Any]:
        return {"jobArn": f"arn:{params['jobName']}"}

    @service.operation
    def get_foundation_model(_state: None, params: dict[str, Any], _request: Request) -> dict[str, Any]:
        raise ServiceError("ResourceNotFoundException", params["modelIdentifier"], 404)

    assert content(service.handle(None, request("GET", "/foundation-models/a.b-v1%3A0", None)))[::2] == (
        400,
        {"__type": "SerializationException", "message": "The request body is not a JSON object"},
    )
    assert content(service.handle(None, request("GET", "/foundation-models/a.b-v1%3A0", {})))[::2] == (
        404,
        {"__type": "ResourceNotFoundException", "message": "a.b-v1:0"},
    )
    assert service.handle(None, request("GET", "/no/such/path", {})) is None
    job = {
        "jobName": "j",
        "customModelName": "m",
        "roleArn": "arn:aws:iam::000000000000:role/r",
        "baseModelIdentifier": "a.b-v1:0",
        "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
    }
    created = content(service.handle(None, request("POST", "/model-customization-jobs", job)))
    assert created == (201, {"Content-Type": "application/json"}, {"jobArn": "arn:j"})


def test_a_body_of_bytes_and_a_header_are_members_and_an_answer_of_bytes_stays() -> None:
    service = Service("bedrock-runtime")

    @service.operation
    def invoke_model(_state: None, params: dict[str, Any], _request: Request) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, repr(params).encode())

    invoke = request("POST", "/model/a.b-v1%3A0/invoke", None)
    response = service.handle(None, replace(invoke, body=b"no json", headers={"content-type": "text/x", "accept": "*"}))
    assert response is not None and response.headers == {"Content-Type": "text/plain"}
    members = {"modelId": "a.b-v1:0", "body": b"no json", "contentType": "text/x", "accept": "*"}
    assert response.body == repr(members).encode()


@pytest.mark.parametrize("unknown", [{"EndpointNmae": "e"}, {"ProductionVariants": [{"VariantNmae": "v"}]}])
def test_a_member_that_no_shape_has_raises(unknown: dict[str, Any]) -> None:
    service = Service("sagemaker")

    @service.operation
    def describe_endpoint(state: dict[str, Any], *_arguments: Any) -> dict[str, Any]:
        return state

    describe = request("POST", "/", {"EndpointName": "e"}, "SageMaker.DescribeEndpoint")
    record: dict[str, Any] = {"EndpointName": "e", "Tags": []}
    assert content(service.handle(record, describe))[2] == {"EndpointName": "e"}, (
        "Tags is a member of other shapes alone, so it is left out"
    )
    with pytest.raises(KeyError, match=r"no shape of the service has the members \['\w+Nmae'\]"):
        service.handle(record | unknown, describe)


@pytest.mark.parametrize(("service", "count"), [(BEDROCK, 25), (BEDROCK_RUNTIME, 4), (QUOTAS, 4), (SAGEMAKER, 28)])
def test_every_operation_is_one_of_the_service_model(service: Service, count: int) -> None:
    assert bedrock and quotas and sagemaker  # Their import declares the operations.
    assert len(service.operations) == count
    assert set(service.operations) <= {xform_name(name) for name in service.model.operation_names}


@pytest.mark.parametrize("spell", [str, lambda name: name[0].lower() + name[1:]])
def test_pages_work_in_the_spelling_of_either_service(spell: Any) -> None:
    rows = [{"name": f"Row-{n}", "status": "Odd" if n % 2 else "Even", "at": START + timedelta(n)} for n in range(5)]

    def ask(**params: Any) -> tuple[list[int], str | None]:
        query = {spell(name): value for name, value in params.items()}
        found = page(rows, query, spell("Rows"), name="name", status="status", created="at", size=3)
        assert set(found) == {spell("Rows"), spell("NextToken")}
        return [rows.index(row) for row in found[spell("Rows")]], found[spell("NextToken")]

    assert ask() == ([4, 3, 2], "3")
    assert ask(NextToken="3") == ([1, 0], None)
    assert ask(SortOrder="Ascending", MaxResults=2) == ([0, 1], "2")
    assert ask(NameContains="row-3") == ([3], None)
    assert ask(StatusEquals="Odd") == ([3, 1], None)
    after, before = (START + timedelta(1)).timestamp(), (START + timedelta(3)).isoformat()
    assert ask(CreationTimeAfter=after, CreationTimeBefore=before) == ([2], None)
    with pytest.raises(ServiceError, match="Invalid NextToken"):
        ask(NextToken="x")
