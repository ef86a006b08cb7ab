"""When the teardown goes on, gives up, and does nothing; what a stack's life leaves for it is deleted in tests/local."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from pipeline import aws as client_maker
from pipeline import names
from pipeline.steps import teardown
from tests.local_aws.services.stepfunctions.test_stepfunctions import ended, start

if TYPE_CHECKING:
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
    with pytest.raises(RuntimeError, match=r"^not deleted .*\.\.\. \(the whole list .* again$") as told:
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


def test_a_function_whose_execution_was_stopped_is_waited_for(
    aws: RunningAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = aws.role(f"late-{bucket[-8:]}", service="states")
    execution = start(aws, role, {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}})
    machine = execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    properties = {"Prefix": f"p-{bucket[-8:]}", "Bucket": bucket, "Rule": "r", "StateMachines": machine} | NOT_KEPT
    one_pass = teardown.TeardownPass(properties)
    assert one_pass._executions() == [execution]
    ended(aws, execution)
    assert one_pass._executions() == []
    assert one_pass._calls_under_way() == [f"a function that {execution} has called may still run"]
    monkeypatch.setattr(teardown, "MAKING", timedelta(0))
    assert one_pass._calls_under_way() == []


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
