"""The RegisterModel step: makes the run's version in SageMaker's Model Registry, and decides whether it is approved.

The version is made as PendingManualApproval, and then approved or rejected with the reason, because CreateModelPackage
takes no ApprovalDescription. So a team's rule on the approval hears of each version once, with its reason. An earlier
attempt of the same run may have made the version. It is found by its description, which begins with the run and cannot be
changed. Only a version that is still pending is decided: a person may have decided another way meanwhile.

Nothing depends on the version. If this step fails, the run goes on with a warning (`infra.registry_states`).
"""

from __future__ import annotations

import json
import logging
import unicodedata
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pipeline import aws, digests, record, registry, scores
from pipeline.contracts.events import RegisteredModel, RegisterEvent

if TYPE_CHECKING:
    from pipeline.contracts.events import Assessment
    from pipeline.contracts.values import AwsRequest, JsonObject

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

LONGEST_TEXT = 1024
"""The most characters of ModelPackageDescription and ApprovalDescription (service model)."""

LONGEST_VALUE = 256
"""The most characters of a value in CustomerMetadataProperties (service model)."""

SPLITS = ("train", "validation", "test")
"""The splits whose files are the dataset (`data_prep.outputs`)."""

_PROPERTIES = {"rougeL": "rouge_l", "chrF": "chrf"}
"""The scores that have another name in CustomerMetadataProperties. With all metrics, a version has 47 of the 50 properties that
SageMaker takes (service model)."""

PENDING = "PendingManualApproval"


@aws.handler(RegisterEvent)
def handler(event: RegisterEvent) -> RegisteredModel:
    """Make the run's version unless there is one, decide on it, and name it in the run's record."""
    client, plan, run = aws.client("sagemaker"), event.plan, event.record.run
    _make_group(client, plan.group, plan.tags)
    known = next((one for one in registry.versions(client, plan.group) if _is_of(one, run)), None)
    arn = known["ModelPackageArn"] if known else client.create_model_package(**_request(event))["ModelPackageArn"]
    status = known.get("ModelApprovalStatus", PENDING) if known else PENDING
    if status == PENDING:
        status = "Approved" if event.assessment.passes else "Rejected"
        why = _why(event.assessment)[:LONGEST_TEXT]
        client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, ApprovalDescription=why)
    logger.info("%s is %s", arn, status)
    registered = RegisteredModel(arn, status, [])
    record.write(event.record, event.training, event.manifest, event.assessment, registered=registered)
    return registered


def _make_group(client: Any, name: str, tags: list[AwsRequest]) -> None:
    try:
        client.create_model_package_group(
            ModelPackageGroupName=name, ModelPackageGroupDescription="Models that Tuneway has tuned", Tags=tags
        )
    except ClientError as error:
        if not registry.is_existing(error):
            raise


def _why(assessment: Assessment) -> str:
    """Return why the version is approved or rejected. A model that is not served only because of a setting is approved."""
    unserved = assessment.passes and not assessment.promoted
    return f"{assessment.why}; it passes endpoint.promote" if unserved else assessment.why


def _description(run: str) -> str:
    return f"Tuneway run {run}: "


def _is_of(version: dict[str, Any], run: str) -> bool:
    return str(version.get("ModelPackageDescription")).startswith(_description(run))


def _request(event: RegisterEvent) -> AwsRequest:
    """Return the request of CreateModelPackage."""
    plan, training = event.plan, event.training
    source = {"S3Uri": training.model, "S3DataType": "S3Prefix", "CompressionType": "None"}
    scores = {"ContentType": "application/json", "S3Uri": f"{training.model}tuneway/evaluation.json"}
    return {
        "ModelPackageGroupName": plan.group,
        "ModelPackageDescription": (_description(event.record.run) + _why(event.assessment))[:LONGEST_TEXT],
        # If the list does not have the version yet that a call with a lost answer has made, SageMaker answers with it.
        "ClientToken": event.record.run,
        "ModelApprovalStatus": PENDING,
        "InferenceSpecification": {
            "Containers": [{**plan.container, "ModelDataSource": {"S3DataSource": source}}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
            "SupportedRealtimeInferenceInstanceTypes": plan.instance_types,
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": scores}},
        "CustomerMetadataProperties": _metadata(event),
    }


def _metadata(event: RegisterEvent) -> dict[str, str]:
    """Return what a reader of the registry wants to know of the model. A value that is not known is left out."""
    execution = event.record.execution
    _, partition, _, region, account, *_ = execution.split(":")
    job = f"arn:{partition}:sagemaker:{region}:{account}:training-job/{event.training.job}"
    known: dict[str, str | None] = {
        "run": event.record.run,
        "execution": execution,
        "training_job": job,
        **event.plan.metadata,
        "dataset_sha256": _dataset_digest(event.manifest),
        **_scores(event.assessment.scores),
    }
    return {name: _value(text) for name, text in known.items() if text}


def _dataset_digest(manifest: str) -> str:
    """Return one digest of the files of all splits, which the manifest lists with theirs."""
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    outputs = json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())["outputs"]
    files = (f"{split}/{split}.jsonl" for split in SPLITS)
    return digests.of_files({name: outputs[name]["sha256"] for name in files})


def _scores(known: JsonObject) -> dict[str, str]:
    found = {"test_rows": str(known["rows"])}
    # The base's share of wins and the difference follow from the win rate, and 50 properties are the most.
    if scores.WIN_RATE in scores.present(known):
        rate = known["tuned"][scores.WIN_RATE]
        ends = (("", "mean"), ("_low", "low"), ("_high", "high"))
        found |= {f"{scores.WIN_RATE}{ending}": f"{rate[end]:.1f}" for ending, end in ends}
    for key in (key for key in scores.important(known) if key != scores.WIN_RATE):
        name = _PROPERTIES.get(key, key)
        found |= {f"{name}_{model}": f"{known[model][key]['mean']:.1f}" for model in ("tuned", "base")}
        difference = known["difference"][key]
        found |= {f"{name}_difference": f"{difference['mean']:+.1f}"}
        found |= {f"{name}_difference_{end}": f"{difference[end]:+.1f}" for end in ("low", "high")}
    return found


def _value(text: str) -> str:
    """Return a text in the characters that CustomerMetadataProperties takes. Each other character becomes an underscore.

    The service model has the pattern: letters, numbers and separators of Unicode, and _ . : / = + - @.
    """
    normal = unicodedata.normalize("NFC", text)[:LONGEST_VALUE]
    return "".join(one if unicodedata.category(one)[0] in "LNZ" or one in "_.:/=+-@" else "_" for one in normal)
