"""The teardown continues, gives up, or does nothing. The tests in tests/local show that it deletes what a stack leaves."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from pipeline import aws as client_maker
from pipeline import names, registry
from pipeline.steps import teardown
from tests.local_aws.conftest import eventually
from tests.local_aws.services.stepfunctions.test_stepfunctions import ended, start

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

PROPERTIES = {"Prefix": "p-0a1b2c3d"}
MACHINE = "arn:aws:states:us-west-2:000000000000:stateMachine:p"
EMPTY_POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


def event(kind: str = "Delete", deadline: float = 60) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResourceType": "Custom::TunewayTeardown",
        "ResourceProperties": PROPERTIES,
        "Deadline": int(time.time() + deadline),
    }


def make_pass(
    bucket: str, prefix: str = PROPERTIES["Prefix"], machine: str = MACHINE, enabled: str = "false"
) -> teardown.TeardownPass:
    """Return a pass of a stack that does not keep its models. `enabled` is BedrockEnabled."""
    properties = {"Prefix": prefix, "Bucket": bucket, "Rule": "r", "StateMachines": machine}
    return teardown.TeardownPass(properties | {"KeepModels": "false", "BedrockEnabled": enabled})


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results of the next passes: the names of what remains, or an exception that is raised."""
    results: list[Any] = []

    class Pass:
        def __init__(self, properties: dict[str, str]) -> None:
            assert properties == PROPERTIES

        def step(self) -> list[str]:
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return list(result)

    monkeypatch.setattr(teardown, "TeardownPass", Pass)
    return results


def test_the_physical_id_is_constant_and_the_deadline_is_before_the_frameworks() -> None:
    for kind in ("Create", "Update", "Delete"):
        answer = teardown.on_event(event(kind), None)
        assert answer["PhysicalResourceId"] == "p-0a1b2c3d"
        assert 49 * 60 < answer["Deadline"] - time.time() < 55 * 60


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_the_teardown_acts_only_when_the_stack_is_deleted(passes: list[Any], kind: str) -> None:
    assert teardown.is_complete(event(kind), None) == {"IsComplete": True}


def test_the_teardown_continues_while_something_remains_or_aws_is_busy(passes: list[Any]) -> None:
    busy = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "ListModels")
    passes += [["endpoint x"], busy, []]
    assert [teardown.is_complete(event(), None)["IsComplete"] for _ in range(3)] == [False, False, True]


def test_after_the_deadline_the_error_names_what_remains_and_the_remedy(passes: list[Any]) -> None:
    passes.append(["custom model m, used by Provisioned Throughput t (InService)"])
    with pytest.raises(RuntimeError, match=r"used by Provisioned Throughput t \(InService\).*`cdk destroy` again"):
        teardown.is_complete(event(deadline=-1), None)


def test_the_error_is_short_enough_for_cloudformation(passes: list[Any]) -> None:
    passes.append([f"custom model {number}, used by {'x' * 300}" for number in range(20)])
    with pytest.raises(RuntimeError, match=r"^not deleted .*\.\.\. \(the whole list .* again$") as error:
        teardown.is_complete(event(deadline=-1), None)
    assert len(str(error.value)) < 2500


def test_a_denial_is_raised_at_once(passes: list[Any]) -> None:
    passes.append(ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DeleteEndpoint"))
    with pytest.raises(ClientError, match="DeleteEndpoint"):
        teardown.is_complete(event(), None)


@pytest.mark.usefixtures("aws")
def test_the_endpoint_and_bedrocks_deployment_go_at_the_same_time(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_pass = make_pass(bucket)
    monkeypatch.setattr(one_pass, "endpoint", lambda: ["the endpoint"])
    monkeypatch.setattr(one_pass.bedrock, "deployment", lambda: ["the deployment"])
    assert one_pass.step() == ["the endpoint", "the deployment"]


def test_several_pages_are_deleted_in_one_pass_and_nothing_of_another_stack(aws: RunningAws, bucket: str) -> None:
    prefix, client = f"p-{bucket[-8:]}", aws.client("sagemaker")
    image = "763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"
    role = aws.role(f"{prefix}-model", {"Effect": "Allow", "Action": "*", "Resource": "*"}, service="sagemaker")
    for number in range(32):
        name, owner = f"{prefix}-{number}", prefix if number else "p-another"
        tags = [{"Key": names.STACK_TAG, "Value": owner}]
        client.create_model(ModelName=name, PrimaryContainer={"Image": image}, ExecutionRoleArn=role, Tags=tags)
        variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.g5.xlarge"}
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    one_pass = make_pass(bucket, prefix)
    assert one_pass._endpoint_configs() == one_pass._models() == []
    configs = client.list_endpoint_configs(NameContains=prefix)["EndpointConfigs"]
    assert [config["EndpointConfigName"] for config in configs] == [f"{prefix}-0"]
    assert [model["ModelName"] for model in client.list_models(NameContains=prefix)["Models"]] == [f"{prefix}-0"]


def test_versions_in_the_model_registry_go_before_their_group_and_other_groups_stay(
    aws: RunningAws, bucket: str
) -> None:
    prefix, client = f"p-{bucket[-8:]}", aws.client("sagemaker")
    aws.client("s3").put_object(Bucket=bucket, Key="models/config.json", Body=b"{}")
    source = {"S3Uri": f"s3://{bucket}/models/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {
        "Image": "763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:1",
        "ModelDataSource": {"S3DataSource": source},
    }
    others = [f"{prefix}-other", f"x{prefix}"]
    for group in (prefix, *others):
        tags = [{"Key": names.STACK_TAG, "Value": prefix if group == prefix else "p-another"}]
        client.create_model_package_group(ModelPackageGroupName=group, Tags=tags)
        for _ in range(12):
            client.create_model_package(ModelPackageGroupName=group, InferenceSpecification={"Containers": [container]})
    kept = {"Prefix": prefix, "Bucket": bucket, "Rule": "r", "StateMachines": MACHINE}
    with_models = teardown.TeardownPass(kept | {"KeepModels": "true", "BedrockEnabled": "false"})
    assert with_models._registered_models() == []
    assert len(registry.versions(client, prefix)) == 12
    one_pass = make_pass(bucket, prefix)
    # The versions are not gone at once, so the first pass cannot delete the group.
    assert one_pass._registered_models() == [f"group {prefix} in the Model Registry"]
    assert eventually(lambda: not one_pass._registered_models())
    groups = client.list_model_package_groups(NameContains=prefix)["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == others
    assert registry.versions(client, prefix) == []  # of a group that is gone
    assert all(len(registry.versions(client, group)) == 12 for group in others)


def test_a_group_of_the_stacks_name_with_another_tag_stays(aws: RunningAws, bucket: str) -> None:
    prefix, client = f"p-{bucket[-8:]}", aws.client("sagemaker")
    client.create_model_package_group(
        ModelPackageGroupName=prefix, Tags=[{"Key": names.STACK_TAG, "Value": "p-another"}]
    )
    assert make_pass(bucket, prefix)._registered_models() == []
    assert client.describe_model_package_group(ModelPackageGroupName=prefix)["ModelPackageGroupName"] == prefix


def test_an_execution_that_ends_after_it_was_listed_is_no_error(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = start(aws, aws.role(f"ended-{bucket[-8:]}", service="states"), {"Done": {"Type": "Succeed"}})
    ended(aws, execution)
    machine = execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    one_pass, listed = make_pass(bucket, machine=machine), [execution, f"{execution}-gone"]
    with monkeypatch.context() as patch:
        patch.setattr(client_maker, "all_of", lambda *_, **__: [{"executionArn": arn} for arn in listed])
        assert one_pass._executions() == listed
    assert one_pass._executions() == []


def test_a_function_whose_execution_was_stopped_is_waited_for(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = aws.role(f"late-{bucket[-8:]}", service="states")
    execution = start(aws, role, {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}})
    machine = execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    one_pass = make_pass(bucket, machine=machine)
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=EMPTY_POLICY)
    assert one_pass.step() == [execution]
    ended(aws, execution)
    assert one_pass.step() == [f"a function that {execution} has called may still run"]
    monkeypatch.setattr(teardown, "MAKING", timedelta(0))
    assert one_pass.step() == []


def test_an_upload_that_is_completed_after_it_was_listed_is_no_error(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, key = aws.client("s3"), {"Bucket": bucket, "Key": "uploads/part"}
    s3.put_bucket_policy(Bucket=bucket, Policy=EMPTY_POLICY)
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
    assert make_pass(bucket)._objects() == []
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


@pytest.mark.usefixtures("bucket")
def test_an_object_under_legal_hold_remains_and_is_deleted_by_a_later_pass(aws: RunningAws) -> None:
    s3, name, protected = aws.client("s3"), "objects-under-legal-hold", "uploads/protected"
    place = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
    s3.put_bucket_policy(Bucket=name, Policy=EMPTY_POLICY)
    for key in (protected, "uploads/other"):
        s3.put_object(Bucket=name, Key=key, Body=b"x")
    s3.put_object_legal_hold(Bucket=name, Key=protected, LegalHold={"Status": "ON"})
    one_pass = make_pass(name)
    (remaining,) = one_pass._objects()
    assert remaining.startswith(f"1 objects in s3://{name} (Access Denied because object protected by object lock")
    assert [entry["Key"] for entry in s3.list_object_versions(Bucket=name)["Versions"]] == [protected]
    s3.put_object_legal_hold(Bucket=name, Key=protected, LegalHold={"Status": "OFF"})
    assert one_pass._objects() == []
    assert "Versions" not in s3.list_object_versions(Bucket=name)


def test_more_versions_and_markers_than_fit_on_a_page_are_deleted_in_one_call(aws: RunningAws, bucket: str) -> None:
    s3 = aws.client("s3")
    s3.put_bucket_policy(Bucket=bucket, Policy=EMPTY_POLICY)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    # A page of a thousand ends between two versions of one key. The first version is already deleted then.
    for number in range(350):
        for _ in range(2):
            s3.put_object(Bucket=bucket, Key=f"checkpoints/{number:03}", Body=b"x")
        s3.delete_object(Bucket=bucket, Key=f"checkpoints/{number:03}")
    assert make_pass(bucket)._objects() == []
    listed = s3.list_object_versions(Bucket=bucket)
    assert not {"Versions", "DeleteMarkers"} & listed.keys()
