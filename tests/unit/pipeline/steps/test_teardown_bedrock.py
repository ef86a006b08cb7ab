"""The teardown works in an account that cannot call Bedrock, and while somebody else uses a custom model."""

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
from tests.unit.pipeline.steps.test_teardown import EMPTY_POLICY, PROPERTIES, event, make_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.steps.teardown import TeardownPass
    from tests.local_aws.conftest import RunningAws

    MakeUnavailable = Callable[[dict[str, Any] | None], None]
    UseBedrock = Callable[["BedrockDouble"], None]

# -- an account or a Region without Bedrock

DENIED = {"kind": "deny", "action": "bedrock:*"}
UNKNOWN = {"kind": "error", "action": "bedrock:*", "code": "UnknownOperationException", "status": 404}
BUSY = {"kind": "error", "action": "bedrock:*", "code": "ThrottlingException", "message": "Rate exceeded"}
NO_ENDPOINT = None


@pytest.fixture
def make_unavailable(bucket: str, faults: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> MakeUnavailable:
    """A function that makes Bedrock unavailable in one of the ways above, until the test ends."""

    def make(way: dict[str, Any] | None) -> None:
        if way is NO_ENDPOINT:
            monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", "http://127.0.0.1:1")
        else:
            faults(way)

    return make


def remaining_in_bedrock(one_pass: TeardownPass) -> list[str]:
    return [
        *one_pass.bedrock.customization_jobs(),
        *one_pass.bedrock.deployment(),
        *one_pass.bedrock.custom_models(),
        *one_pass.bedrock.import_jobs(),
        *one_pass.bedrock.imported_models(),
    ]


def put_record(aws: RunningAws, bucket: str, run: str, base_model: str | None) -> None:
    body = json.dumps({"bedrock_base_model": base_model})
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{run}/{names.RECORD}", Body=body)


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT])
def test_nothing_remains_if_bedrock_cannot_be_called_and_no_run_used_it(
    aws: RunningAws, bucket: str, make_unavailable: MakeUnavailable, way: dict[str, Any] | None
) -> None:
    put_record(aws, bucket, "one", None)
    make_unavailable(way)
    assert remaining_in_bedrock(make_pass(bucket)) == []


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT, BUSY])
def test_a_bedrock_that_cannot_be_called_is_an_error_if_a_run_or_the_settings_use_it(
    aws: RunningAws, bucket: str, make_unavailable: MakeUnavailable, way: dict[str, Any] | None
) -> None:
    make_unavailable(way)
    with pytest.raises((ClientError, EndpointConnectionError)):
        make_pass(bucket, enabled="true").bedrock.custom_models()
    put_record(aws, bucket, "one", None)
    put_record(aws, bucket, "two", "meta.llama")
    with pytest.raises((ClientError, EndpointConnectionError)):
        make_pass(bucket).bedrock.custom_models()


def test_a_busy_bedrock_is_an_error(bucket: str, make_unavailable: MakeUnavailable) -> None:
    make_unavailable(BUSY)
    with pytest.raises(ClientError, match="Rate exceeded"):
        make_pass(bucket).bedrock.customization_jobs()


def test_bedrock_is_not_called_in_a_region_where_no_run_can_use_it(
    bucket: str, make_unavailable: MakeUnavailable, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_unavailable(BUSY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-east-1")
    assert remaining_in_bedrock(make_pass(bucket, enabled="true")) == []
    assert {model.region for model in BASE_MODELS.values()} <= set(REGIONS)


@pytest.mark.parametrize("enabled", ["false", "true"])
def test_the_record_that_shows_the_use_of_bedrock_stays_while_a_model_remains(
    aws: RunningAws,
    bucket: str,
    make_unavailable: MakeUnavailable,
    monkeypatch: pytest.MonkeyPatch,
    enabled: str,
) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_policy(Bucket=bucket, Policy=EMPTY_POLICY)
    s3.put_object(Bucket=bucket, Key="models/one/model.safetensors", Body=b"x")
    put_record(aws, bucket, "one", "meta.llama")
    with monkeypatch.context() as patch:
        make, bedrock = client_maker.client, model_in_use("theirs-d")
        patch.setattr(client_maker, "client", lambda service: bedrock if service == "bedrock" else make(service))
        one_pass = make_pass(bucket, enabled=enabled)
        assert len(one_pass.bedrock.custom_models()) == 1
        assert one_pass._objects() == []
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    # If the setting shows that Bedrock was used, the record does not have to.
    assert keys == ([f"models/one/{names.RECORD}"] if enabled == "false" else [])
    make_unavailable(DENIED)
    with pytest.raises(ClientError, match="AccessDenied"):
        make_pass(bucket, enabled=enabled).bedrock.custom_models()


# -- models that somebody else uses


class BedrockDouble:
    """A client that answers each listing from `answers`: the key and the items by operation."""

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
def use_bedrock(monkeypatch: pytest.MonkeyPatch) -> UseBedrock:
    """A function that replaces the client of Bedrock."""
    make = client_maker.client
    return lambda bedrock: monkeypatch.setattr(
        client_maker, "client", lambda service: bedrock if service == "bedrock" else make(service)
    )


def model_in_use(*names_of_deployments: str, status: str = "Active") -> BedrockDouble:
    """Return a client for a model with these deployments and a Provisioned Throughput of somebody else."""
    deployments = [
        {
            "model": "m",
            "customModelDeploymentArn": f"arn:{name}",
            "customModelDeploymentName": name,
            "status": status,
        }
        for name in names_of_deployments
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
    """Return the event of the custom resource that names the users of the models."""
    return event() | {"ResourceType": names.MODEL_USERS, "ResourceProperties": PROPERTIES | {"KeepModels": keep}}


def test_somebody_elses_use_of_a_model_is_named_at_once_with_the_command_that_ends_it(
    use_bedrock: UseBedrock,
) -> None:
    use_bedrock(model_in_use("theirs-d", "ours"))
    with pytest.raises(RuntimeError) as error:
        teardown.is_complete(users_event(), None)
    line = str(error.value)
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


def test_an_error_about_many_uses_is_short_enough_for_cloudformation(
    use_bedrock: UseBedrock,
) -> None:
    use_bedrock(model_in_use(*(f"theirs-{number}-{'x' * 200}" for number in range(20))))
    with pytest.raises(RuntimeError, match=f"and {21 - NAMED_AT_MOST} more") as error:
        teardown.is_complete(users_event(), None)
    assert len(str(error.value)) < 3500


def test_users_are_not_named_if_models_are_kept_or_the_stack_is_updated(
    use_bedrock: UseBedrock,
) -> None:
    use_bedrock(model_in_use("theirs-d"))
    assert teardown.is_complete(users_event(keep="true"), None) == {"IsComplete": True}
    assert teardown.is_complete({**users_event(), "RequestType": "Update"}, None) == {"IsComplete": True}


@pytest.mark.parametrize("way", [DENIED, UNKNOWN, NO_ENDPOINT])
def test_if_bedrock_cannot_be_called_the_users_are_left_to_the_teardown(
    make_unavailable: MakeUnavailable, way: dict[str, Any] | None
) -> None:
    make_unavailable(way)
    assert teardown.is_complete(users_event(), None) == {"IsComplete": True}


def test_a_busy_bedrock_is_called_again_until_the_deadline(
    make_unavailable: MakeUnavailable,
) -> None:
    make_unavailable(BUSY)
    assert teardown.is_complete(users_event(), None) == {"IsComplete": False}
    # After the deadline, only the teardown's own error names the users.
    assert teardown.is_complete({**users_event(), "Deadline": 0}, None) == {"IsComplete": True}


def test_a_deployment_that_is_being_deleted_is_not_named(use_bedrock: UseBedrock) -> None:
    bedrock = model_in_use("theirs-d", status="Deleting")
    bedrock._answers["list_provisioned_model_throughputs"] = ("provisionedModelSummaries", [])
    use_bedrock(bedrock)
    assert CustomModels(PROPERTIES["Prefix"]).foreign_uses() == []
    assert teardown.is_complete(users_event(), None) == {"IsComplete": True}


def test_a_resource_that_was_deleted_after_it_was_listed_is_no_user_and_no_error(
    bucket: str, use_bedrock: UseBedrock
) -> None:
    bedrock = model_in_use("gone-d")
    bedrock._answers["list_provisioned_model_throughputs"] = ("provisionedModelSummaries", [])
    bedrock._answers["list_custom_models"][1].append({"modelArn": "gone-m", "modelName": "p-0a1b2c3d-gone"})
    use_bedrock(bedrock)
    assert CustomModels(PROPERTIES["Prefix"]).foreign_uses() == []
    assert make_pass(bucket).bedrock.custom_models() == []
    # If the model is deleted after its tags were read, the next pass looks for it again.
    error = {"Code": "ResourceNotFoundException", "Message": "not found"}
    bedrock.delete_custom_model = Mock(side_effect=ClientError({"Error": error}, "DeleteCustomModel"))
    assert make_pass(bucket).bedrock.custom_models() == ["custom model p-0a1b2c3d-model"]
    # The tags of a deployment that is being deleted are not read, because they may be deleted first.
    bedrock._answers["list_custom_model_deployments"][1][0]["status"] = "Deleting"
    assert make_pass(bucket).bedrock.custom_models() == [
        "custom model p-0a1b2c3d-model, used by deployment gone-d (Deleting)"
    ]


def test_a_model_in_use_remains_and_is_named_with_the_command_that_ends_the_use(
    bucket: str, use_bedrock: UseBedrock
) -> None:
    use_bedrock(model_in_use("theirs-d"))
    (remaining,) = make_pass(bucket).bedrock.custom_models()
    expected = "used by deployment theirs-d (Active), which is not this stack's: `aws bedrock delete-custom-model-d"
    assert expected in remaining
