"""The teardown and Bedrock: where it cannot be asked, and whose use of a model holds the model."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline import aws as client_maker
from pipeline import names
from pipeline.catalogue import BASE_MODELS, REGIONS
from pipeline.custom_models import NAMED_AT_MOST, CustomModels
from pipeline.steps import teardown
from tests.unit.pipeline.steps.test_plan_account import faults
from tests.unit.pipeline.steps.test_teardown import NOT_KEPT, PROPERTIES, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local_aws.conftest import RunningAws

# -- an account or a Region without Bedrock

DENIED = {"kind": "deny", "action": "bedrock:*"}
UNKNOWN = {"kind": "error", "action": "bedrock:*", "code": "UnknownOperationException", "status": 404}
BUSY = {"kind": "error", "action": "bedrock:*", "code": "ThrottlingException", "message": "Rate exceeded"}
NO_ENDPOINT = None


@pytest.fixture
def without(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, Any] | None], None]]:
    """Takes Bedrock away in one way, until the test ends."""
    del bucket

    def take(way: dict[str, Any] | None) -> None:
        if way is None:
            monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", "http://127.0.0.1:1")
        else:
            faults(aws, way)

    yield take
    faults(aws)


def one_pass(bucket: str, enabled: str = "false", machine: str = "") -> teardown.TeardownPass:
    properties = {"Prefix": PROPERTIES["Prefix"], "Bucket": bucket, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    return teardown.TeardownPass(properties | {"BedrockEnabled": enabled})


def left_in_bedrock(of: teardown.TeardownPass) -> list[str]:
    return [*of._customization_jobs(), *of._custom_models(), *of._imported_models()]


def put_record(aws: RunningAws, bucket: str, run: str, base_model: str | None) -> None:
    body = json.dumps({"bedrock_base_model": base_model})
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{run}/{names.RECORD}", Body=body)


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT])
def test_where_bedrock_cannot_be_asked_and_no_run_ever_used_it_nothing_is_there(
    aws: RunningAws, bucket: str, without: Callable[[dict[str, Any] | None], None], way: dict[str, Any] | None
) -> None:
    put_record(aws, bucket, "one", None)
    without(way)
    assert left_in_bedrock(one_pass(bucket)) == []


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT, BUSY])
def test_where_a_run_used_it_or_the_settings_have_it_that_is_an_error(
    aws: RunningAws, bucket: str, without: Callable[[dict[str, Any] | None], None], way: dict[str, Any] | None
) -> None:
    without(way)
    with pytest.raises((ClientError, EndpointConnectionError)):
        one_pass(bucket, enabled="true")._custom_models()
    put_record(aws, bucket, "one", None)
    put_record(aws, bucket, "two", "meta.llama")
    with pytest.raises((ClientError, EndpointConnectionError)):
        one_pass(bucket)._custom_models()


def test_a_busy_bedrock_is_never_taken_for_none(bucket: str, without: Callable[[dict[str, Any] | None], None]) -> None:
    without(BUSY)
    with pytest.raises(ClientError, match="Rate exceeded"):
        one_pass(bucket)._customization_jobs()


def test_in_a_region_where_no_run_can_use_it_bedrock_is_not_asked(
    bucket: str, without: Callable[[dict[str, Any] | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(BUSY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-east-1")
    assert left_in_bedrock(one_pass(bucket, enabled="true")) == []
    assert {model.region for model in BASE_MODELS.values()} <= set(REGIONS)


@pytest.mark.parametrize("enabled", ["false", "true"])
def test_what_tells_that_bedrock_was_used_stays_while_a_model_is_held(
    aws: RunningAws,
    bucket: str,
    without: Callable[[dict[str, Any] | None], None],
    monkeypatch: pytest.MonkeyPatch,
    enabled: str,
) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": []}))
    s3.put_object(Bucket=bucket, Key="models/one/model.safetensors", Body=b"x")
    put_record(aws, bucket, "one", "meta.llama")
    with monkeypatch.context() as somebody:
        made = client_maker.client
        somebody.setattr(client_maker, "client", lambda of: serving("theirs-d") if of == "bedrock" else made(of))
        held = one_pass(bucket, enabled, machine="arn:aws:states:us-west-2:000000000000:stateMachine:p")
        assert len(held._custom_models()) == 1
        assert held._objects() == []
    kept = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    # Where the setting tells it, nothing else has to.
    assert kept == ([f"models/one/{names.RECORD}"] if enabled == "false" else [])
    without(DENIED)
    with pytest.raises(ClientError, match="AccessDenied"):
        one_pass(bucket, enabled)._custom_models()


# -- what somebody else holds


class BedrockDouble:
    """A client that answers every listing with `answers`."""

    def __init__(self, **answers: Any) -> None:
        self.meta = SimpleNamespace(region_name="us-west-2")
        self.delete_custom_model = Mock()
        self._answers = answers

    def get_paginator(self, operation: str) -> Any:
        def paginate(**arguments: str) -> list[dict[str, Any]]:
            key, items = self._answers[operation]
            return [{key: [item for item in items if item.get("model", "") == arguments.get("modelArnEquals", "")]}]

        return SimpleNamespace(paginate=paginate)

    def list_tags_for_resource(self, resourceARN: str) -> dict[str, Any]:
        if "gone" in resourceARN:
            error = {"Code": "ResourceNotFoundException", "Message": "The specified resource ARN not found"}
            raise ClientError({"Error": error}, "ListTagsForResource")
        ours = [{"key": names.STACK_TAG, "value": PROPERTIES["Prefix"]}]
        return {"tags": [] if "theirs" in resourceARN else ours}

    def __getattr__(self, name: str) -> Any:
        return lambda **_: None


@pytest.fixture
def held_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[BedrockDouble], None]:
    """Puts a client in the place of Bedrock's."""
    make = client_maker.client
    return lambda bedrock: monkeypatch.setattr(
        client_maker, "client", lambda service: bedrock if service == "bedrock" else make(service)
    )


def serving(*who: str, status: str = "Active") -> BedrockDouble:
    deployments = [
        {
            "model": "m",
            "customModelDeploymentArn": f"arn:{name}",
            "customModelDeploymentName": name,
            "status": status,
        }
        for name in who
    ]
    throughput = {
        "model": "m",
        "provisionedModelArn": "arn:theirs-t",
        "provisionedModelName": "t",
        "status": "InService",
    }
    return BedrockDouble(
        list_custom_models=("modelSummaries", [{"modelArn": "m", "modelName": "p-0a1b2c3d-model"}]),
        list_custom_model_deployments=("modelDeploymentSummaries", deployments),
        list_provisioned_model_throughputs=("provisionedModelSummaries", [throughput]),
    )


def users_event(keep: str = "false") -> dict[str, Any]:
    return event() | {"ResourceType": names.MODEL_USERS, "ResourceProperties": PROPERTIES | {"KeepModels": keep}}


def test_somebody_elses_use_of_a_model_is_named_at_once_with_the_command_that_ends_it(
    held_by: Callable[[BedrockDouble], None],
) -> None:
    held_by(serving("theirs-d", "ours"))
    with pytest.raises(RuntimeError) as told:
        teardown.is_complete(users_event(), None)
    line = str(told.value)
    assert "\n" not in line
    assert (
        "custom model p-0a1b2c3d-model is used by deployment theirs-d (Active), which is not this stack's: `aws bedrock "
        "delete-custom-model-deployment --region us-west-2 --custom-model-deployment-identifier arn:theirs-d`"
    ) in line
    assert (
        "Provisioned Throughput t (InService), which is not this stack's: `aws bedrock "
        "delete-provisioned-model-throughput --region us-west-2 --provisioned-model-id arn:theirs-t`"
    ) in line
    assert line.endswith("then run `cdk destroy` again")
    assert "ours (Active)" not in line


def test_many_uses_are_not_more_than_cloudformation_takes(held_by: Callable[[BedrockDouble], None]) -> None:
    held_by(serving(*(f"theirs-{number}-{'x' * 200}" for number in range(20))))
    with pytest.raises(RuntimeError, match=f"and {21 - NAMED_AT_MOST} more") as told:
        teardown.is_complete(users_event(), None)
    assert len(str(told.value)) < 3500


def test_what_is_kept_is_not_held(held_by: Callable[[BedrockDouble], None]) -> None:
    held_by(serving("theirs-d"))
    assert teardown.is_complete(users_event(keep="true"), None) == {"IsComplete": True}
    assert teardown.is_complete({**users_event(), "RequestType": "Update"}, None) == {"IsComplete": True}


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT])
def test_whose_users_cannot_be_asked_for_is_left_to_the_teardown(
    without: Callable[[dict[str, Any] | None], None], way: dict[str, Any] | None
) -> None:
    without(way)
    assert teardown.is_complete(users_event(), None) == {"IsComplete": True}


def test_a_busy_bedrock_is_asked_again_who_uses_the_models(
    without: Callable[[dict[str, Any] | None], None],
) -> None:
    without(BUSY)
    assert teardown.is_complete(users_event(), None) == {"IsComplete": False}
    # Then the teardown's own last word is all there is.
    assert teardown.is_complete({**users_event(), "Deadline": 0}, None) == {"IsComplete": True}


def test_one_that_is_being_deleted_is_waited_for_and_not_named(held_by: Callable[[BedrockDouble], None]) -> None:
    bedrock = serving("theirs-d", status="Deleting")
    bedrock._answers["list_provisioned_model_throughputs"] = ("provisionedModelSummaries", [])
    held_by(bedrock)
    assert CustomModels(PROPERTIES["Prefix"]).foreign_uses() == []
    teardown.is_complete(users_event(), None)


def test_what_is_gone_since_it_was_listed_holds_nothing_and_fails_nothing(
    bucket: str, held_by: Callable[[BedrockDouble], None]
) -> None:
    bedrock = serving("gone-d")
    bedrock._answers["list_provisioned_model_throughputs"] = ("provisionedModelSummaries", [])
    bedrock._answers["list_custom_models"][1].append({"modelArn": "gone-m", "modelName": "p-0a1b2c3d-gone"})
    held_by(bedrock)
    assert CustomModels(PROPERTIES["Prefix"]).foreign_uses() == []
    assert one_pass(bucket)._custom_models() == []
    # The model itself, between its tags and its deletion, is looked for once more.
    gone = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "not found"}}, "DeleteCustomModel")
    bedrock.delete_custom_model = Mock(side_effect=gone)
    assert one_pass(bucket)._custom_models() == ["custom model p-0a1b2c3d-model"]
    # Of one that leaves, the tags are not asked for: they may be gone first.
    bedrock._answers["list_custom_model_deployments"][1][0]["status"] = "Deleting"
    assert one_pass(bucket)._custom_models() == ["custom model p-0a1b2c3d-model, used by deployment gone-d (Deleting)"]


def test_a_model_that_is_held_stays_and_the_last_word_has_the_command_too(
    bucket: str, held_by: Callable[[BedrockDouble], None]
) -> None:
    held_by(serving("theirs-d"))
    (left,) = one_pass(bucket)._custom_models()
    assert "used by deployment theirs-d (Active), which is not this stack's: `aws bedrock delete-custom-model-d" in left
