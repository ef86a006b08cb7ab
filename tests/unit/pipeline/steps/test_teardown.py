"""When the teardown goes on, gives up, and does nothing; what a stack's life leaves for it is deleted in tests/local."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline import aws as client_maker
from pipeline import names, record
from pipeline.catalogue import BASE_MODELS, REGIONS
from pipeline.custom_models import NAMED_AT_MOST, CustomModels
from pipeline.steps import teardown
from tests.local_aws.services.stepfunctions.test_stepfunctions import ended, start
from tests.unit.pipeline.steps.test_plan_account import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local_aws.conftest import RunningAws

PROPERTIES = {"Prefix": "p-0a1b2c3d"}
NOT_KEPT = {"KeepModels": "false", "BedrockEnabled": "false"}


def event(kind: str = "Delete", deadline: float = 60) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResourceType": "Custom::TunewayTeardown",
        "ResourceProperties": PROPERTIES,
        "Deadline": int(time.time() + deadline),
    }


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the next passes find left; an exception is raised."""
    found: list[Any] = []

    class Pass:
        def __init__(self, properties: dict[str, str]) -> None:
            assert properties == PROPERTIES

        def step(self) -> list[str]:
            left = found.pop(0)
            if isinstance(left, Exception):
                raise left
            return list(left)

    monkeypatch.setattr(teardown, "TeardownPass", Pass)
    return found


def test_the_id_is_constant_and_the_deadline_before_the_frameworks() -> None:
    for kind in ("Create", "Update", "Delete"):
        answer = teardown.on_event(event(kind), None)
        assert answer["PhysicalResourceId"] == "p-0a1b2c3d"
        assert answer["Deadline"] - time.time() < 55 * 60


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_it_acts_only_when_the_stack_goes(passes: list[Any], kind: str) -> None:
    assert teardown.is_complete(event(kind), None) == {"IsComplete": True}


def test_it_goes_on_while_something_is_left_or_aws_is_busy(passes: list[Any]) -> None:
    busy = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "ListModels")
    passes += [["endpoint x"], busy, []]
    assert [teardown.is_complete(event(), None)["IsComplete"] for _ in range(3)] == [False, False, True]


def test_after_its_time_it_names_what_is_left_and_what_to_do(passes: list[Any]) -> None:
    passes.append(["custom model m, used by Provisioned Throughput t (InService)"])
    with pytest.raises(RuntimeError, match=r"used by Provisioned Throughput t \(InService\).*`cdk destroy` again"):
        teardown.is_complete(event(deadline=-1), None)


def test_the_last_word_is_not_more_than_cloudformation_takes(passes: list[Any]) -> None:
    passes.append([f"custom model {number}, used by {'x' * 300}" for number in range(20)])
    with pytest.raises(RuntimeError, match=r"^still there .*\.\.\. \(all of it .* again$") as told:
        teardown.is_complete(event(deadline=-1), None)
    assert len(str(told.value)) < 2500


def test_a_denial_is_told_at_once(passes: list[Any]) -> None:
    passes.append(ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DeleteEndpoint"))
    with pytest.raises(ClientError, match="DeleteEndpoint"):
        teardown.is_complete(event(), None)


def test_what_fills_several_pages_goes_in_one_pass_and_nothing_of_others(aws: RunningAws, bucket: str) -> None:
    prefix, client = f"p-{bucket[-8:]}", aws.client("sagemaker")
    image = "763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"
    role = aws.role(f"{prefix}-model", {"Effect": "Allow", "Action": "*", "Resource": "*"}, service="sagemaker")
    for number in range(32):
        name, owner = f"{prefix}-{number}", prefix if number else "p-another"
        tags = [{"Key": names.STACK_TAG, "Value": owner}]
        client.create_model(ModelName=name, PrimaryContainer={"Image": image}, ExecutionRoleArn=role, Tags=tags)
        variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.g5.xlarge"}
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    properties = {"Prefix": prefix, "Bucket": bucket, "Rule": "r", "StateMachines": ""} | NOT_KEPT
    one_pass = teardown.TeardownPass(properties)
    assert one_pass._endpoint_configs() == one_pass._models() == []
    left = client.list_endpoint_configs(NameContains=prefix)["EndpointConfigs"]
    assert [config["EndpointConfigName"] for config in left] == [f"{prefix}-0"]
    assert [model["ModelName"] for model in client.list_models(NameContains=prefix)["Models"]] == [f"{prefix}-0"]


def test_an_execution_that_ends_after_it_was_listed_fails_nothing(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = start(aws, aws.role(f"ended-{bucket[-8:]}", service="states"), {"Done": {"Type": "Succeed"}})
    ended(aws, execution)
    machine = execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    properties = {"Prefix": f"p-{bucket[-8:]}", "Bucket": bucket, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    one_pass, listed = teardown.TeardownPass(properties), [execution, f"{execution}-gone"]
    with monkeypatch.context() as late:
        late.setattr(client_maker, "all_of", lambda *_, **__: [{"executionArn": arn} for arn in listed])
        assert one_pass._executions() == listed
    assert one_pass._executions() == []


def test_an_upload_that_is_complete_after_it_was_listed_fails_nothing(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, key = aws.client("s3"), {"Bucket": bucket, "Key": "uploads/part"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": []}))
    upload = s3.create_multipart_upload(**key)["UploadId"]
    (page,) = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    assert [listed["UploadId"] for listed in page["Uploads"]] == [upload]
    part = s3.upload_part(**key, UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload=parts)
    pages = {
        "list_multipart_uploads": Mock(paginate=lambda **_: [page]),
        "list_object_versions": s3.get_paginator("list_object_versions"),
    }
    monkeypatch.setattr(client_maker, "client", lambda _: Mock(wraps=s3, get_paginator=pages.__getitem__))
    machine = "arn:aws:states:us-west-2:000000000000:stateMachine:p"
    properties = {"Prefix": "p-late", "Bucket": bucket, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    assert teardown.TeardownPass(properties)._objects() == []
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


@pytest.mark.usefixtures("bucket")
def test_an_object_that_s3_keeps_is_told_as_left_and_goes_with_a_later_pass(aws: RunningAws) -> None:
    s3, name, held = aws.client("s3"), "held-objects", {"Key": "uploads/held"}
    place = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": []}))
    for key in ("uploads/held", "uploads/other"):
        s3.put_object(Bucket=name, Key=key, Body=b"x")
    s3.put_object_legal_hold(Bucket=name, **held, LegalHold={"Status": "ON"})
    machine = "arn:aws:states:us-west-2:000000000000:stateMachine:p"
    properties = {"Prefix": "p-held", "Bucket": name, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    one_pass = teardown.TeardownPass(properties)
    (left,) = one_pass._objects()
    assert left.startswith(f"1 objects in s3://{name} (Access Denied because object protected by object lock")
    assert [entry["Key"] for entry in s3.list_object_versions(Bucket=name)["Versions"]] == ["uploads/held"]
    s3.put_object_legal_hold(Bucket=name, **held, LegalHold={"Status": "OFF"})
    assert one_pass._objects() == []
    assert "Versions" not in s3.list_object_versions(Bucket=name)


def test_more_versions_and_markers_than_a_page_holds_all_go_in_one_call(aws: RunningAws, bucket: str) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": []}))
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    # A page of a thousand ends between two versions of one key, of which the first is then gone.
    for number in range(350):
        for _ in range(2):
            s3.put_object(Bucket=bucket, Key=f"checkpoints/{number:03}", Body=b"x")
        s3.delete_object(Bucket=bucket, Key=f"checkpoints/{number:03}")
    machine = "arn:aws:states:us-west-2:000000000000:stateMachine:p"
    properties = {"Prefix": "p", "Bucket": bucket, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    assert teardown.TeardownPass(properties)._objects() == []
    listed = s3.list_object_versions(Bucket=bucket)
    assert not {"Versions", "DeleteMarkers"} & listed.keys()


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
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{run}/{record.NAME}", Body=body)


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
    assert kept == ([f"models/one/{record.NAME}"] if enabled == "false" else [])
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
    return event() | {"ResourceType": teardown.USERS, "ResourceProperties": PROPERTIES | {"KeepModels": keep}}


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
    assert CustomModels(PROPERTIES["Prefix"]).held() == []
    teardown.is_complete(users_event(), None)


def test_what_is_gone_since_it_was_listed_holds_nothing_and_fails_nothing(
    bucket: str, held_by: Callable[[BedrockDouble], None]
) -> None:
    bedrock = serving("gone-d")
    bedrock._answers["list_provisioned_model_throughputs"] = ("provisionedModelSummaries", [])
    bedrock._answers["list_custom_models"][1].append({"modelArn": "gone-m", "modelName": "p-0a1b2c3d-gone"})
    held_by(bedrock)
    assert CustomModels(PROPERTIES["Prefix"]).held() == []
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
