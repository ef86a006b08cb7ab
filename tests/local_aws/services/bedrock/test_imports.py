"""Model import jobs and imported models on local Bedrock, under the job's role."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.local_aws import importable
from tests.local_aws.conftest import ACCOUNT, REGION, control, failure
from tests.local_aws.faults.conftest import set_faults
from tests.local_aws.services.bedrock.conftest import TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.local_aws.conftest import RunningAws

BUCKET = "bedrock-imports"
JOBS = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-import-job"
TRUST = {
    "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnEquals": {"aws:SourceArn": f"{JOBS}/*"}},
    "Principal": {"Service": "bedrock.amazonaws.com"},
}
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": f"arn:aws:s3:::{BUCKET}",
    "Condition": {"StringLike": {"s3:prefix": ["models/*"]}},
}
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/models/*"}
QUOTA = "Imported models per account"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> Iterator[str]:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    importable.put(s3, BUCKET, "models/small", importable.smallest())
    importable.put(s3, BUCKET, "models/small/folder", {"ignored.safetensors": b"no weights"})
    importable.put(s3, BUCKET, "models/gemma", importable.smallest(architectures=["GemmaForCausalLM"]))
    control(aws, "quotas", **{QUOTA: 50})
    control(aws, "bedrock", import_seconds=0.2)
    yield aws.role("importer-of-models", LIST, READ, service="bedrock", **TRUST)
    control(aws, "quotas", **{QUOTA: 3})


@pytest.fixture
def imported(aws: RunningAws, role: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that starts an import job and returns it when it has ended. All models are deleted afterwards."""
    bedrock = aws.client("bedrock")

    def start(**changes: Any) -> dict[str, Any]:
        return importable.ended(bedrock, bedrock.create_model_import_job(**request(role, **changes))["jobArn"])

    yield start
    for model in bedrock.list_imported_models()["modelSummaries"]:
        bedrock.delete_imported_model(modelIdentifier=model["modelArn"])


def request(role: str, prefix: str = "models/small/", **changes: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "jobName": f"job-{number}",
        "importedModelName": f"model-{number}",
        "roleArn": role,
        "modelDataSource": {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/{prefix}"}},
        **changes,
    }


def test_a_job_imports_a_model_with_its_tags(aws: RunningAws, role: str) -> None:
    bedrock = aws.client("bedrock")
    params = request(role, jobTags=[{"key": "k", "value": "job"}], importedModelTags=TAGS)
    answer = bedrock.create_model_import_job(**params)
    job = answer["jobArn"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    started = bedrock.get_model_import_job(jobIdentifier=params["jobName"])
    assert (started["status"], started["importedModelName"]) == ("InProgress", params["importedModelName"])
    assert not {"importedModelArn", "endTime", "failureMessage"} & started.keys()
    done = importable.ended(bedrock, job)
    assert (done["status"], done["roleArn"], done["modelDataSource"]) == (
        "Completed", role, params["modelDataSource"]
    )  # fmt: skip
    assert done["creationTime"] <= done["lastModifiedTime"] <= done["endTime"] <= datetime.now(UTC)
    [row] = bedrock.list_model_import_jobs(nameContains=params["jobName"], statusEquals="Completed")[
        "modelImportJobSummaries"
    ]
    assert (row["jobArn"], row["importedModelArn"], row["endTime"]) == (job, done["importedModelArn"], done["endTime"])

    arn = done["importedModelArn"]
    model = bedrock.get_imported_model(modelIdentifier=params["importedModelName"])
    assert (model["modelArn"], model["jobArn"], model["jobName"]) == (arn, job, params["jobName"])
    assert (model["modelArchitecture"], model["instructSupported"]) == ("llama", True)
    assert model["customModelUnits"] == {"customModelUnitsPerModelCopy": 1, "customModelUnitsVersion": "v1.0"}
    listed = bedrock.list_imported_models(nameContains=params["importedModelName"])["modelSummaries"]
    assert [(row["modelArn"], row["instructSupported"]) for row in listed] == [(arn, True)]
    assert bedrock.list_imported_models(creationTimeAfter=datetime.now(UTC) + timedelta(1))["modelSummaries"] == []

    tags = [bedrock.list_tags_for_resource(resourceARN=each)["tags"] for each in (job, arn)]
    assert tags == [[{"key": "k", "value": "job"}], TAGS]
    bedrock.tag_resource(resourceARN=arn, tags=[{"key": "more", "value": "m"}])
    assert bedrock.list_tags_for_resource(resourceARN=arn)["tags"] == [*TAGS, {"key": "more", "value": "m"}]
    assert aws.decisions(action="sts:AssumeRole", resource=role, allowed=True)

    bedrock.delete_imported_model(modelIdentifier=arn)
    for gone in (bedrock.get_imported_model, bedrock.delete_imported_model):
        assert failure(gone, modelIdentifier=arn)[::2] == ("ResourceNotFoundException", 404)
    assert failure(bedrock.list_tags_for_resource, resourceARN=arn)[0] == "ResourceNotFoundException"
    assert bedrock.get_model_import_job(jobIdentifier=job)["status"] == "Completed", "the job stays"


def test_a_token_starts_one_job_and_names_are_used_once(
    aws: RunningAws, role: str, imported: Callable[..., dict[str, Any]]
) -> None:
    create = aws.client("bedrock").create_model_import_job
    params = request(role, clientRequestToken="import-once")
    job = create(**params)["jobArn"]
    assert create(**params)["jobArn"] == job
    taken = "The provided {} name is currently in use."
    del params["clientRequestToken"]
    assert failure(create, **params)[:2] == ("ValidationException", taken.format("job"))
    other = request(role, importedModelName=params["importedModelName"])
    assert failure(create, **other)[:2] == ("ValidationException", taken.format("imported model"))
    assert importable.ended(aws.client("bedrock"), job)["status"] == "Completed"
    assert failure(create, **other)[:2] == ("ValidationException", taken.format("imported model"))


def test_files_of_no_model_fail_the_job(aws: RunningAws, role: str, imported: Callable[..., dict[str, Any]]) -> None:
    gemma = {"modelDataSource": {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/models/gemma"}}}
    failed = imported(**gemma)
    assert failed["status"] == "Failed"
    assert failed["failureMessage"] == "The model architecture GemmaForCausalLM of config.json is not supported."
    assert "importedModelArn" not in failed
    nothing = imported(modelDataSource={"s3DataSource": {"s3Uri": f"s3://{BUCKET}/models/nothing/"}})
    assert nothing["failureMessage"].startswith("The model source lacks the files config.json, ")
    assert aws.client("bedrock").list_imported_models()["modelSummaries"] == []
    assert not list((aws.state_dir / "bedrock" / "imported").glob("*")), "no copy of the files is left"


@pytest.mark.parametrize("lacking", ["s3:ListBucket", "s3:GetObject"])
def test_a_role_that_cannot_read_the_files_fails_the_job(
    aws: RunningAws, imported: Callable[..., dict[str, Any]], lacking: str
) -> None:
    grants = [grant for grant in (LIST, READ) if grant["Action"] != lacking]
    poor = aws.role(f"importer-without-{lacking[3:]}", *grants, service="bedrock", **TRUST)
    failed = imported(roleArn=poor)
    assert failed["status"] == "Failed"
    assert "Amazon S3 perms missing" in failed["failureMessage"]
    assert "models/small/" in failed["failureMessage"]


@pytest.mark.parametrize("source", ["model-customization-job/*", "*-job/x"])
def test_a_role_that_does_not_trust_import_jobs_is_refused(aws: RunningAws, source: str) -> None:
    arn = {"ArnLike": {"aws:SourceArn": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:{source}"}}
    name = f"trusts-{source.replace('*', 'any').replace('/', '-')}"
    stranger = aws.role(name, service="bedrock", **TRUST | {"Condition": arn})
    assert failure(aws.client("bedrock").create_model_import_job, **request(stranger)) == (
        "ValidationException",
        "Could not assume provided IAM role.",
        400,
    )


def test_the_quota_counts_models_and_running_jobs(
    aws: RunningAws, role: str, imported: Callable[..., dict[str, Any]]
) -> None:
    create = aws.client("bedrock").create_model_import_job
    control(aws, "quotas", **{QUOTA: 2})
    try:
        assert imported()["status"] == "Completed"
        running = create(**request(role))["jobArn"]
        code, message, status = failure(create, **request(role))
        assert (code, status, QUOTA in message) == ("ServiceQuotaExceededException", 400, True)
        assert importable.ended(aws.client("bedrock"), running)["status"] == "Completed"
    finally:
        control(aws, "quotas", **{QUOTA: 50})
    assert imported()["status"] == "Completed"


def test_a_region_without_import_refuses(aws: RunningAws, role: str) -> None:
    ireland = boto3.client(
        "bedrock",
        endpoint_url=aws.endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    code, message, _ = failure(ireland.create_model_import_job, **request(role))
    assert (code, message) == ("ValidationException", "Custom Model Import is not supported in eu-west-1.")


def test_a_fault_fails_a_job_and_another_holds_it(
    aws: RunningAws, role: str, imported: Callable[..., dict[str, Any]]
) -> None:
    bedrock = aws.client("bedrock")
    set_faults(aws, {"kind": "import", "how": "fail", "times": 1}, {"kind": "import", "how": "stuck", "times": 1})
    try:
        failed = imported()
        assert failed["status"] == "Failed"
        assert failed["failureMessage"].startswith("Encountered an unexpected error")
        held = bedrock.create_model_import_job(**request(role))["jobArn"]
        with pytest.raises(AssertionError, match="did not end"):
            importable.ended(bedrock, held, seconds=1)
    finally:
        set_faults(aws)
    assert importable.ended(bedrock, held)["status"] == "Completed"
    assert "JobFaultError" not in (aws.state_dir / "server.log").read_text()


def test_the_caller_needs_its_own_grants(aws: RunningAws, role: str, imported: Callable[..., dict[str, Any]]) -> None:
    own = {"StringEquals": {"aws:RequestTag/stack": "tune"}}
    grants = [
        {"Effect": "Allow", "Action": "bedrock:CreateModelImportJob", "Resource": "*", "Condition": own},
        {"Effect": "Allow", "Action": "bedrock:TagResource", "Resource": "arn:aws:bedrock:*:*:imported-model/*"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role},
        {"Effect": "Allow", "Action": "bedrock:GetModelImportJob", "Resource": f"{JOBS}/*"},
    ]
    client = aws.client("bedrock", aws.session(aws.role("starts-imports", *grants)))
    job = client.create_model_import_job(**request(role, importedModelTags=TAGS))["jobArn"]
    assert importable.ended(client, job)["status"] == "Completed"
    for params in (request(role), request(role, jobTags=TAGS, importedModelTags=TAGS)):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.create_model_import_job(**params)
    other = aws.role("another-role", service="bedrock", **TRUST)
    assert failure(client.create_model_import_job, **request(other, importedModelTags=TAGS))[::2] == (
        "AccessDeniedException", 403
    )  # fmt: skip
