"""RegisterModel on local AWS makes one version per run, with its scores and lineage, and decides on it once."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from local_aws.core.authorization import service_model
from pipeline import scores, training_code
from pipeline.aws import AwsBusy
from pipeline.steps import register_model
from tests.local_aws.conftest import ACCOUNT, REGION
from tests.unit.pipeline.facts import run_record
from tests.unit.pipeline.steps.test_assess import evaluation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws

IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/vllm:1"
MODEL = "models/0123456789/tuneway-0-0/output/model/"
WHY = "ROUGE-L on 40 held-out rows: tuned 26.4 (95% +5.4 to +7.4): promoted, because it is clearly better"


@pytest.fixture
def event(aws: RunningAws, bucket: str) -> dict[str, Any]:
    """The event of a promoted model, in a group of its own."""
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key=f"{MODEL}config.json", Body=b"{}")
    digests = {f"{split}/{split}.jsonl": {"sha256": split[0] * 64} for split in register_model.SPLITS}
    manifest = {"outputs": {**digests, "rejected.jsonl": {"sha256": "f" * 64}}}
    s3.put_object(Bucket=bucket, Key="data/0123456789/manifest.json", Body=json.dumps(manifest).encode())
    known = {name: value for name, value in evaluation(6.4).items() if name != "samples"}
    return {
        "plan": {
            "group": f"tuneway-{uuid4().hex[:8]}",
            "tags": [{"Key": "tuneway:stack", "Value": "tuneway-0a1b2c3d"}],
            "container": {"Image": IMAGE, "Environment": {"SM_VLLM_MAX_MODEL_LEN": "2048"}},
            "instance_types": ["ml.g5.xlarge"],
            "metadata": {
                "base_model": "uploads/models/mein (1)/@main",
                "base_model_licence": None,
                "dataset": "s3://bucket/Gespräche, alle.csv",
                "dataset_licence": "cc-by-4.0",
                "code_sha256": "0" * 64,
                "promote": "clearly_better",
                "promote_by": "rouge",
            },
        },
        "record": run_record(bucket, execution=f"arn:aws:states:{REGION}:{ACCOUNT}:execution:tuneway:one"),
        "training": {
            "phase": "completed",
            "job": "tuneway-0-0",
            "progress": "completed",
            "wait_seconds": 0,
            "model": f"s3://{bucket}/{MODEL}",
        },
        "manifest": f"s3://{bucket}/data/0123456789/manifest.json",
        "assessment": {"promoted": True, "passes": True, "why": WHY, "warnings": [], "scores": known},
    }


def versions(aws: RunningAws, event: dict[str, Any]) -> list[dict[str, Any]]:
    client, group = aws.client("sagemaker"), event["plan"]["group"]
    listed = client.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    return [client.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in listed]


def test_the_version_has_model_container_scores_and_lineage(
    aws: RunningAws, bucket: str, event: dict[str, Any]
) -> None:
    found = register_model.handler(event, None)
    (version,) = versions(aws, event)
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{event['plan']['group']}/1"
    assert found == {"version": arn, "status": "Approved", "warnings": []}
    assert (version["ModelPackageArn"], version["ModelApprovalStatus"]) == (arn, "Approved")
    assert (version["ApprovalDescription"], version["ModelPackageDescription"]) == (
        WHY,
        f"Tuneway run 0123456789: {WHY}",
    )
    specification = version["InferenceSpecification"]
    source = {"S3Uri": f"s3://{bucket}/{MODEL}", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = event["plan"]["container"]
    assert specification["Containers"] == [{**container, "ModelDataSource": {"S3DataSource": source}}]
    assert specification["SupportedRealtimeInferenceInstanceTypes"] == ["ml.g5.xlarge"]
    assert version["ModelMetrics"]["ModelQuality"]["Statistics"] == {
        "ContentType": "application/json",
        "S3Uri": f"s3://{bucket}/{MODEL}tuneway/evaluation.json",
    }
    lines = "".join(f"{split[0] * 64}  {split}/{split}.jsonl\n" for split in ("test", "train", "validation"))
    assert version["CustomerMetadataProperties"] == {
        "run": "0123456789",
        "execution": event["record"]["execution"],
        "training_job": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/tuneway-0-0",
        "base_model": "uploads/models/mein _1_/@main",  # without the characters that SageMaker refuses
        "dataset": "s3://bucket/Gespräche_ alle.csv",
        "dataset_licence": "cc-by-4.0",
        "code_sha256": "0" * 64,
        "promote": "clearly_better",
        "promote_by": "rouge",
        "dataset_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "test_rows": "40",
        **{"rouge_l_tuned": "26.4", "rouge_l_base": "20.0"},
        **{"rouge_l_difference": "+6.4", "rouge_l_difference_low": "+5.4", "rouge_l_difference_high": "+7.4"},
        **{"chrf_tuned": "29.4", "chrf_base": "23.0"},
        **{"chrf_difference": "+9.4", "chrf_difference_low": "+8.4", "chrf_difference_high": "+10.4"},
    }
    s3, client = aws.client("s3"), aws.client("sagemaker")
    record = json.loads(s3.get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert record["model_package"] == arn
    group = client.describe_model_package_group(ModelPackageGroupName=event["plan"]["group"])
    tags = client.list_tags(ResourceArn=group["ModelPackageGroupArn"])["Tags"]
    assert tags == event["plan"]["tags"]


def test_a_version_with_all_metrics_has_no_more_properties_than_sagemaker_takes(
    aws: RunningAws, event: dict[str, Any]
) -> None:
    interval = {"mean": 1.0, "low": 0.0, "high": 2.0}
    sides = {side: dict.fromkeys(scores.NAMES, interval) for side in ("base", "tuned", "difference")}
    event["assessment"]["scores"] = {"rows": 40, "metrics": list(scores.NAMES), "deciding": "accuracy", **sides}
    event["plan"]["metadata"]["base_model_licence"] = "mit"
    register_model.handler(event, None)
    (version,) = versions(aws, event)
    properties = version["CustomerMetadataProperties"]
    most = service_model("sagemaker").shape_for("CustomerMetadataMap").metadata["max"]
    assert (len(properties), most) == (50, 50)
    assert properties["accuracy_difference_low"] == properties["json_fields_difference_low"] == "+0.0"
    assert (properties["win_rate"], properties["win_rate_high"]) == ("1.0", "2.0")
    # Only the chosen ones have properties.
    event["plan"]["group"] += "-label"
    event["assessment"]["scores"]["metrics"] = ["accuracy", "macro_f1"]
    register_model.handler(event, None)
    (version,) = versions(aws, event)
    assert {name for name in version["CustomerMetadataProperties"] if name.endswith("_tuned")} == {
        "accuracy_tuned",
        "macro_f1_tuned",
    }


@pytest.mark.parametrize(
    ("promoted", "passes", "status", "end"),
    [
        (False, False, "Rejected", "clearly better"),
        (False, True, "Approved", "clearly better; it passes endpoint.promote"),  # endpoint.enabled is false
    ],
)
def test_a_model_is_approved_if_it_passes_whether_it_is_served_or_not(
    aws: RunningAws, event: dict[str, Any], promoted: bool, passes: bool, status: str, end: str
) -> None:
    event["assessment"] |= {"promoted": promoted, "passes": passes}
    assert register_model.handler(event, None)["status"] == status
    (version,) = versions(aws, event)
    assert version["ModelApprovalStatus"] == status
    assert version["ApprovalDescription"].endswith(end)


@pytest.mark.parametrize("action", ["CreateModelPackageGroup", "CreateModelPackage", "UpdateModelPackage"])
def test_a_lost_answer_leads_to_no_second_version(
    aws: RunningAws, event: dict[str, Any], faults: Callable[..., None], action: str
) -> None:
    # As many as a call has attempts, and then the state machine calls the step again. A second attempt to make the group is
    # refused, and so gets its answer.
    faults({"kind": "lost", "action": f"sagemaker:{action}", "times": 3})
    with pytest.raises(AwsBusy) if action != "CreateModelPackageGroup" else nullcontext():
        register_model.handler(event, None)
    faults()
    assert register_model.handler(event, None)["status"] == "Approved"
    (version,) = versions(aws, event)
    assert (version["ModelApprovalStatus"], version["ApprovalDescription"]) == ("Approved", WHY)


def test_a_persons_decision_stays(aws: RunningAws, event: dict[str, Any]) -> None:
    arn, client = register_model.handler(event, None)["version"], aws.client("sagemaker")
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected", ApprovalDescription="a complaint")
    assert register_model.handler(event, None) == {"version": arn, "status": "Rejected", "warnings": []}
    (version,) = versions(aws, event)
    assert version["ApprovalDescription"] == "a complaint"


def test_another_run_gets_the_next_version(aws: RunningAws, event: dict[str, Any]) -> None:
    register_model.handler(event, None)
    event["record"] |= {"run": "9876543210"}
    assert register_model.handler(event, None)["version"].endswith("/2")


def test_the_code_has_the_digest_of_sha256sums_lines() -> None:
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(training_code.files().items())
    ]
    assert training_code.digest() == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert {"start.py", "requirements.txt"} <= set(training_code.files())
