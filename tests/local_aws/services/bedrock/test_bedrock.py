"""Customization jobs of local Bedrock complete, fail, stop and are refused as on AWS, under their service role."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION, control, eventually, refusal

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

BUCKET = "bedrock-tests"
LLAMA = "meta.llama3-3-70b-instruct-v1:0:128k"
JOBS = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/*"
TRUST = {
    "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnEquals": {"aws:SourceArn": JOBS}},
    "Principal": {"Service": "bedrock.amazonaws.com"},
}
READ = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/data/*"]}  # fmt: skip
WRITE = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/out/*"}
_numbers = itertools.count()


def record(text: str = "Amanda: I baked cookies") -> str:
    turns = [{"role": "user", "content": [{"text": text}]}, {"role": "assistant", "content": [{"text": "Cookies."}]}]
    return json.dumps({"schemaVersion": "bedrock-conversation-2024", "messages": turns})


@pytest.fixture(scope="module")
def role(aws: RunningAws) -> str:
    """A service role for the jobs, whose data files are in S3."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    files = {
        "train": [record()] * 90,
        "validation": [record()] * 10,
        "few": [record()] * 99,
        "broken": [record()] * 100 + ["not json"],
    }
    for name, rows in files.items():
        s3.put_object(Bucket=BUCKET, Key=f"data/{name}.jsonl", Body="\n".join(rows).encode())
    return aws.role("bedrock-job", READ, WRITE, service="bedrock", **TRUST)


def request(role: str, **changes: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "jobName": f"job-{number}",
        "customModelName": f"model-{number}",
        "roleArn": role,
        "baseModelIdentifier": LLAMA,
        "trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/data/train.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": f"s3://{BUCKET}/data/validation.jsonl"}]},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/out/"},
        "hyperParameters": {"epochCount": "1"},
        **changes,
    }


def ended(aws: RunningAws, arn: str) -> dict[str, Any]:
    """Wait for the end of a job. Return its description."""
    bedrock = aws.client("bedrock")

    def job() -> dict[str, Any] | None:
        details: dict[str, Any] = bedrock.get_model_customization_job(jobIdentifier=arn)
        return details if details["status"] in ("Completed", "Failed", "Stopped") else None

    found = eventually(job)
    assert found, "the job did not end"
    return dict(found)


def create_refusal(aws: RunningAws, **params: Any) -> tuple[str, str]:
    """Ask for a job that must be refused. Return the error's code and message."""
    return refusal(aws.client("bedrock").create_model_customization_job, **params)


def test_a_job_completes_with_a_tagged_model_and_no_invented_loss(aws: RunningAws, role: str) -> None:
    bedrock = aws.client("bedrock")
    params = request(role, jobTags=[{"key": "k", "value": "job"}], customModelTags=[{"key": "k", "value": "model"}])
    arn = bedrock.create_model_customization_job(**params)["jobArn"]
    assert bedrock.get_model_customization_job(jobIdentifier=params["jobName"])["status"] == "InProgress"
    job = ended(aws, arn)
    assert job["status"] == "Completed"
    assert {stage["status"] for stage in job["statusDetails"].values()} == {"Completed"}
    assert "trainingMetrics" not in job
    model = bedrock.get_custom_model(modelIdentifier=job["outputModelArn"])
    assert (model["modelName"], model["jobArn"]) == (params["customModelName"], arn)
    tags = [bedrock.list_tags_for_resource(resourceARN=r)["tags"] for r in (arn, job["outputModelArn"])]
    assert tags == [[{"key": "k", "value": "job"}], [{"key": "k", "value": "model"}]]
    folder = f"out/model-customization-job-{arn[-12:]}"
    metrics = aws.client("s3").get_object(
        Bucket=BUCKET, Key=f"{folder}/training_artifacts/step_wise_training_metrics.csv"
    )
    assert metrics["Body"].read() == b"step_number,epoch_number,training_loss,perplexity\n"
    listed = bedrock.list_custom_models(nameContains=params["customModelName"])["modelSummaries"]
    assert [row["modelArn"] for row in listed] == [job["outputModelArn"]]
    bedrock.delete_custom_model(modelIdentifier=job["outputModelArn"])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        bedrock.get_custom_model(modelIdentifier=job["outputModelArn"])
    assert create_refusal(aws, **request(role, customModelName=params["customModelName"]))[0] == "ValidationException"
    assert aws.decisions(action="s3:GetObject", allowed=True)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("few", "The sum of training and validation records is 99. It must be between 100 and 10000"),
        ("broken", "Unable to parse Amazon S3 file: broken.jsonl. Data files must conform to JSONL format."),
    ],
)
def test_wrong_data_fails_the_job_with_the_reason(aws: RunningAws, role: str, file: str, message: str) -> None:
    params = request(role, trainingDataConfig={"s3Uri": f"s3://{BUCKET}/data/{file}.jsonl"})
    del params["validationDataConfig"]
    job = ended(aws, aws.client("bedrock").create_model_customization_job(**params)["jobArn"])
    assert (job["status"], job["failureMessage"]) == ("Failed", message)
    assert "outputModelArn" not in job


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (
            {"baseModelIdentifier": "meta.llama3-2-1b-instruct-v1:0:128k"},
            "ResourceNotFoundException",
            "This model version has reached the end of its life",
        ),
        (
            {"baseModelIdentifier": "meta.llama3-3-70b-instruct-v1:0"},
            "ValidationException",
            "model identifier is invalid",
        ),
        ({"baseModelIdentifier": "amazon.nova-micro-v1:0:128k"}, "ValidationException", "model identifier is invalid"),
        ({"hyperParameters": {"epochCount": "11"}}, "ValidationException", "epochCount"),
        ({"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/data/"}}, "ValidationException", "Uri should be a file"),
        ({"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/a b.jsonl"}}, "ValidationException", "regular expression"),
        (
            {"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/data/none.jsonl"}},
            "ValidationException",
            f"Could not validate GetObject permissions to access Amazon S3 bucket: {BUCKET} at key data/none.jsonl",
        ),
        (
            {"outputDataConfig": {"s3Uri": f"s3://{BUCKET}/elsewhere/"}},
            "ValidationException",
            f"S3 bucket: {BUCKET} at key elsewhere/.write_access_check_file.tmp",
        ),
        ({"customizationType": "CONTINUED_PRE_TRAINING"}, "ValidationException", "CONTINUED_PRE_TRAINING"),
        (
            {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/nobody"},
            "ValidationException",
            "Could not assume provided IAM role.",
        ),
    ],
)
def test_a_wrong_request_is_refused_at_once(
    aws: RunningAws, role: str, changes: dict[str, Any], code: str, message: str
) -> None:
    error, text = create_refusal(aws, **request(role, **changes))
    assert error == code
    assert message in text


def test_bedrock_needs_a_role_that_trusts_its_jobs_and_reads_their_data(aws: RunningAws, role: str) -> None:
    elsewhere = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/*"
    trust = {**TRUST, "Condition": {"ArnEquals": {"aws:SourceArn": elsewhere}}}
    other = aws.role("bedrock-elsewhere", READ, WRITE, service="bedrock", **trust)
    assert create_refusal(aws, **request(other)) == ("ValidationException", "Could not assume provided IAM role.")
    without_read = aws.role("bedrock-without-read", WRITE, service="bedrock", **TRUST)
    assert "Could not validate GetObject permissions" in create_refusal(aws, **request(without_read))[1]


def test_a_job_name_stays_in_use_and_a_repeated_token_is_the_same_job(aws: RunningAws, role: str) -> None:
    bedrock = aws.client("bedrock")
    params = request(role, clientRequestToken="token-1")
    arn = bedrock.create_model_customization_job(**params)["jobArn"]
    assert bedrock.create_model_customization_job(**params)["jobArn"] == arn
    again = {**params, "clientRequestToken": "token-2"}
    assert create_refusal(aws, **again) == ("ValidationException", "The provided job name is currently in use.")


def test_a_stopped_job_goes_through_stopping(aws: RunningAws, role: str) -> None:
    bedrock = aws.client("bedrock")
    arn = bedrock.create_model_customization_job(**request(role))["jobArn"]
    bedrock.stop_model_customization_job(jobIdentifier=arn)
    assert ended(aws, arn)["status"] == "Stopped"
    with pytest.raises(ClientError, match="ConflictException"):
        bedrock.stop_model_customization_job(jobIdentifier=arn)
    stopped = bedrock.list_model_customization_jobs(statusEquals="Stopped")["modelCustomizationJobSummaries"]
    assert arn in [row["jobArn"] for row in stopped]


def test_a_model_shows_its_life_cycle_in_the_region(aws: RunningAws) -> None:
    bedrock = aws.client("bedrock")
    legacy = bedrock.get_foundation_model(modelIdentifier="meta.llama3-2-1b-instruct-v1:0")["modelDetails"]
    assert legacy["modelLifecycle"]["status"] == "LEGACY"
    assert legacy["modelLifecycle"]["endOfLifeTime"].date().isoformat() == "2026-07-07"
    for model in (LLAMA, "meta.llama3-1-8b-instruct-v1:0:128k"):
        details = bedrock.get_foundation_model(modelIdentifier=model)["modelDetails"]
        assert (details["customizationsSupported"], details["modelLifecycle"]["status"]) == (["FINE_TUNING"], "ACTIVE")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        bedrock.get_foundation_model(modelIdentifier="amazon.nova-micro-v1:0:128k")


def test_a_model_can_be_legacy_at_once(aws: RunningAws) -> None:
    bedrock, model = aws.client("bedrock"), "meta.llama3-1-8b-instruct-v1:0:128k"
    control(aws, "bedrock", legacy_model=model)
    try:
        details = bedrock.get_foundation_model(modelIdentifier=model)["modelDetails"]
        assert details["modelLifecycle"]["status"] == "LEGACY"
        other = bedrock.get_foundation_model(modelIdentifier=LLAMA)["modelDetails"]
        assert other["modelLifecycle"]["status"] == "ACTIVE"
    finally:
        control(aws, "bedrock", legacy_model="")


def test_creating_a_job_needs_grants_on_the_model_the_new_resources_their_tags_and_the_role(
    aws: RunningAws, role: str
) -> None:
    root, tags = f"arn:aws:bedrock:{REGION}", [{"key": "k", "value": "v"}]
    statements = [
        {"Effect": "Allow", "Action": "bedrock:CreateModelCustomizationJob", "Resource": resource}
        for resource in (f"{root}::foundation-model/{LLAMA}", f"{root}:{ACCOUNT}:custom-model/*", JOBS)
    ]
    tagged = [JOBS, f"{root}:{ACCOUNT}:custom-model/*"]
    statements.append({"Effect": "Allow", "Action": "bedrock:TagResource", "Resource": tagged})
    to_bedrock = {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
    statements.append({"Effect": "Allow", "Action": "iam:PassRole", "Resource": role, "Condition": to_bedrock})
    missing = [
        ("CreateModelCustomizationJob on resource: " + statements[index]["Resource"], index) for index in range(3)
    ]
    missing += [("bedrock:TagResource", 3), ("iam:PassRole", 4)]
    for message, index in missing:
        grants = [statement for position, statement in enumerate(statements) if position != index]
        caller = aws.role(f"creator-{index}", *grants, service="states")
        with pytest.raises(ClientError) as refused:
            aws.client("bedrock", aws.session(caller)).create_model_customization_job(
                **request(role, jobTags=tags, customModelTags=tags)
            )
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
        assert message in refused.value.response["Error"]["Message"]
    caller = aws.role("creator", *statements, service="states")
    arn = aws.client("bedrock", aws.session(caller)).create_model_customization_job(
        **request(role, jobTags=tags, customModelTags=tags)
    )["jobArn"]
    assert ended(aws, arn)["status"] == "Completed"
