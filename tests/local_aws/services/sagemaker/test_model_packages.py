"""The Model Registry on local AWS: groups, their versions, what is refused, and who may do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION, eventually, refusal

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

ROOT = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
REPOSITORY = f"arn:aws:ecr:{REGION}:763104351884:repository/vllm"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/vllm:1"
BUCKET = "registry-test"


@pytest.fixture(scope="module")
def model(aws: RunningAws) -> str:
    """The S3 prefix of a model."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key="model/config.json", Body=b"{}")
    return f"s3://{BUCKET}/model/"


@pytest.fixture
def group(aws: RunningAws) -> str:
    name = f"group-{uuid4().hex[:8]}"
    tags = [{"Key": "tuneway:stack", "Value": name}]
    aws.client("sagemaker").create_model_package_group(ModelPackageGroupName=name, Tags=tags)
    return name


def specification(uri: str, **container: Any) -> dict[str, Any]:
    source = {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}
    return {"Containers": [{"Image": IMAGE, "ModelDataSource": source, **container}]}


def create(aws: RunningAws, group: str, model: str, **more: Any) -> str:
    request = {"ModelPackageGroupName": group, "InferenceSpecification": specification(model), **more}
    return str(aws.client("sagemaker").create_model_package(**request)["ModelPackageArn"])


def test_versions_are_numbered_listed_and_found_by_arn_or_name(aws: RunningAws, group: str, model: str) -> None:
    client = aws.client("sagemaker")
    arns = [create(aws, group, model, ModelPackageDescription=f"number {number}") for number in (1, 2, 3)]
    assert arns == [f"{ROOT}:model-package/{group}/{number}" for number in (1, 2, 3)]
    listed = client.list_model_packages(ModelPackageGroupName=group, MaxResults=2)
    first, second = listed["ModelPackageSummaryList"]  # the oldest first
    assert (first["ModelPackageVersion"], first["ModelPackageDescription"]) == (1, "number 1")
    assert "ModelPackageName" not in first
    rest = client.list_model_packages(ModelPackageGroupName=group, MaxResults=2, NextToken=listed["NextToken"])
    assert [one["ModelPackageArn"] for one in rest["ModelPackageSummaryList"]] == arns[2:]
    assert "NextToken" not in rest
    client.update_model_package(ModelPackageArn=second["ModelPackageArn"], ModelApprovalStatus="Approved")
    approved = client.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert [one["ModelPackageArn"] for one in approved["ModelPackageSummaryList"]] == arns[1:2]
    by_arn, by_name = (client.describe_model_package(ModelPackageName=name) for name in (arns[0], f"{group}/1"))
    assert by_arn["ModelPackageArn"] == by_name["ModelPackageArn"] == arns[0]
    assert (by_arn["ModelPackageGroupName"], by_arn["ModelApprovalStatus"]) == (group, "PendingManualApproval")
    assert by_arn["ModelPackageStatus"] == "Completed"
    # A number is never used again.
    client.delete_model_package(ModelPackageName=arns[2])
    assert create(aws, group, model).endswith("/4")
    assert client.list_model_packages()["ModelPackageSummaryList"] == []  # those without a group
    everywhere = client.list_model_packages(ModelPackageType="Versioned", NameContains=group)["ModelPackageSummaryList"]
    assert len(everywhere) == 3


def test_an_update_changes_approval_and_metadata(aws: RunningAws, group: str, model: str) -> None:
    client = aws.client("sagemaker")
    arn = create(aws, group, model, CustomerMetadataProperties={"run": "1", "gone": "x"})
    client.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Rejected",
        ApprovalDescription="worse",
        CustomerMetadataProperties={"run": "2"},
        CustomerMetadataPropertiesToRemove=["gone"],
    )
    found = client.describe_model_package(ModelPackageName=arn)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Rejected", "worse")
    assert found["CustomerMetadataProperties"] == {"run": "2"}
    assert found["LastModifiedTime"] >= found["CreationTime"]
    refused = refusal(client.update_model_package, ModelPackageArn=arn, SourceUri="s3://bucket/")
    assert refused == ("ValidationException", "local AWS does not update SourceUri of a version")


def test_a_client_token_makes_one_version(aws: RunningAws, group: str, model: str) -> None:
    arn = create(aws, group, model, ClientToken="once")
    assert create(aws, group, model, ClientToken="once") == arn
    with pytest.raises(ClientError, match="ConflictException"):
        create(aws, group, model, ClientToken="once", Domain="OTHER")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ModelPackageGroupName": None}, "Missing ARN."),
        ({"ModelPackageName": "one"}, "Both ModelPackageName and ModelPackageGroupName are provided"),
        ({"ModelPackageGroupName": None, "ModelPackageName": "one"}, "local AWS has only versions in a group"),
        ({"ModelPackageGroupName": "absent"}, f"ModelPackageGroup {ROOT}:model-package-group/absent does not exist."),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "Tags are not supported in Model Package versions."),
        ({"InferenceSpecification": specification("s3://registry-test/model")}, "must end with a forward slash"),
        ({"InferenceSpecification": specification("s3://registry-test/none/")}, "Could not find model data at"),
        ({"InferenceSpecification": None}, "InferenceSpecification with at least one container is required."),
        ({"CustomerMetadataProperties": {"why": "better (yes)"}}, "Value 'better (yes)' at 'customerMetadata"),
        ({"CustomerMetadataProperties": {"a,b": "c"}}, "Value 'a,b' at 'customerMetadata"),
        ({"ModelCard": {"ModelCardContent": "{}", "ModelCardStatus": "Draft"}}, "no versions with ModelCard"),
        ({"ModelPackageDescription": "x" * 1025}, "Member must have length less than or equal to 1024"),
    ],
)
def test_a_wrong_version_is_refused(
    aws: RunningAws, group: str, model: str, changes: dict[str, Any], message: str
) -> None:
    request = {"ModelPackageGroupName": group, "InferenceSpecification": specification(model), **changes}
    request = {name: value for name, value in request.items() if value is not None}
    client = aws.client("sagemaker")
    code, found = refusal(client.create_model_package, **request)
    assert code == "ValidationException"
    assert message in found
    assert client.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"] == []


def test_a_group_is_made_once_and_deleted_when_its_versions_are_gone(aws: RunningAws, group: str, model: str) -> None:
    client, arn = aws.client("sagemaker"), f"{ROOT}:model-package-group/{group}"
    assert refusal(client.create_model_package_group, ModelPackageGroupName=group) == (
        "ValidationException",
        f"Model Package Group already exists: {arn}",
    )
    described = client.describe_model_package_group(ModelPackageGroupName=group)
    assert (described["ModelPackageGroupArn"], described["ModelPackageGroupStatus"]) == (arn, "Completed")
    listed = client.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    assert [one["ModelPackageGroupArn"] for one in listed] == [arn]
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "tuneway:stack", "Value": group}]
    version = create(aws, group, model)
    tag = [{"Key": "a", "Value": "b"}]
    code, message = refusal(client.add_tags, ResourceArn=version, Tags=tag)
    assert (code, message[:20]) == ("ValidationException", "Tags are not support")
    full = (
        "ConflictException",
        f"Model Package Group {arn} cannot be deleted because it still contains Model Packages.",
    )
    assert refusal(client.delete_model_package_group, ModelPackageGroupName=group) == full
    client.delete_model_package(ModelPackageName=version)
    # The version is not gone at once.
    assert refusal(client.delete_model_package_group, ModelPackageGroupName=group) == full

    def deleted() -> bool:
        try:
            client.delete_model_package_group(ModelPackageGroupName=group)
        except client.exceptions.ConflictException:
            return False
        return True

    assert eventually(deleted)
    for call, arguments in (
        (client.describe_model_package_group, {"ModelPackageGroupName": group}),
        (client.delete_model_package_group, {"ModelPackageGroupName": group}),
        (client.list_model_packages, {"ModelPackageGroupName": group}),
        (client.describe_model_package, {"ModelPackageName": version}),
        (client.delete_model_package, {"ModelPackageName": version}),
        (client.update_model_package, {"ModelPackageArn": version, "ModelApprovalStatus": "Approved"}),
    ):
        code, message = refusal(call, **arguments)
        assert code == "ValidationException"
        assert message.endswith("does not exist.")


GRANTS: dict[str, dict[str, Any]] = {
    "group": {"Action": "sagemaker:CreateModelPackage", "Resource": f"{ROOT}:model-package-group/GROUP"},
    "versions": {"Action": "sagemaker:CreateModelPackage", "Resource": f"{ROOT}:model-package/GROUP/*"},
    "image": {"Action": ["ecr:BatchGetImage", "ecr:DescribeImages"], "Resource": REPOSITORY},
    "list": {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
    "get": {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/model/*"},
}


@pytest.mark.parametrize("missing", [*GRANTS, ""])
def test_the_caller_needs_group_versions_image_and_model(aws: RunningAws, group: str, model: str, missing: str) -> None:
    statements = [
        {"Effect": "Allow", **grant, "Resource": grant["Resource"].replace("GROUP", group)}
        for name, grant in GRANTS.items()
        if name != missing
    ]
    role = aws.role(f"registrar-{uuid4().hex[:8]}", *statements, service="lambda")
    client = aws.client("sagemaker", aws.session(role))
    request = {"ModelPackageGroupName": group, "InferenceSpecification": specification(model)}
    if not missing:
        assert client.create_model_package(**request)["ModelPackageArn"].endswith("/1")
        return
    code, message = refusal(client.create_model_package, **request)
    assert code == "AccessDeniedException"
    assert "is not authorized to perform" in message


def test_a_role_for_one_group_reaches_no_other(aws: RunningAws, group: str, model: str) -> None:
    version = create(aws, group, model)
    actions = [f"sagemaker:{verb}ModelPackage" for verb in ("Describe", "Update", "Delete")]
    own = {
        "Effect": "Allow",
        "Action": [*actions, "sagemaker:ListModelPackages", "sagemaker:DeleteModelPackageGroup"],
        "Resource": [f"{ROOT}:model-package-group/other", f"{ROOT}:model-package/other/*"],
    }
    role = aws.role(f"other-{uuid4().hex[:8]}", own, service="lambda")
    client = aws.client("sagemaker", aws.session(role))
    for call, arguments in (
        (client.describe_model_package, {"ModelPackageName": version}),
        (client.describe_model_package, {"ModelPackageName": f"{group}/1"}),
        (client.update_model_package, {"ModelPackageArn": version, "ModelApprovalStatus": "Approved"}),
        (client.delete_model_package, {"ModelPackageName": version}),
        (client.list_model_packages, {"ModelPackageGroupName": group}),
        (client.delete_model_package_group, {"ModelPackageGroupName": group}),
    ):
        assert refusal(call, **arguments)[0] == "AccessDeniedException"
