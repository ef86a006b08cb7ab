"""run.json has the served endpoint, Bedrock's model and the cost at the end of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.steps.record import handler

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def test_the_record_has_the_endpoint_the_custom_model_and_the_cost(aws: RunningAws, bucket: str) -> None:
    record: dict[str, Any] = {
        "folder": f"s3://{bucket}/models/0123456789/",
        "run": "0123456789",
        "model_run": "9f8e7d6c5b",
        "execution": "arn:e",
        "settings": {},
        "instruction": "Sum up:",
        "max_tokens": 77,
        "base_model": "a/b@main",
        "licences": {"base_model": "mit", "dataset": None},
        "bedrock_mode": "customize",
        "bedrock_base_model": "arn:b",
        "bedrock_usd_at_most": 7.02,
        "region": "us-west-2",
    }
    event = {
        "record": record,
        "training": {
            "phase": "completed",
            "job": "j",
            "progress": "completed",
            "wait_seconds": 0,
            "model": "s3://m/",
            "billed_seconds": {"ml.g5.xlarge": 60, "ml.unknown.xlarge": 60},
        },
        "assessment": {"scores": {}, "promoted": True, "passes": True, "why": "w", "warnings": []},
        "deployed": {"phase": "passed", "endpoint": "e", "config": "c", "until": None},
        "bedrock": {
            "phase": "completed",
            "progress": "completed",
            "job": "j",
            "jobs": 2,
            "model": "arn:c",
        },
        "answer": None,
        "manifest": "s3://d/",
    }
    spent = handler(event, None)["spent"]
    assert (spent["training_usd"], spent["bedrock_usd_at_most"]) == (None, 14.04)
    priced = {**event, "training": {**event["training"], "billed_seconds": {"ml.g5.xlarge": 3600}}}
    assert handler(priced, None)["spent"]["training_usd"] == 1.41
    without_price = {**priced, "record": {**record, "region": "eu-west-1", "bedrock_usd_at_most": None}}
    spent = handler(without_price, None)["spent"]
    assert (spent["training_usd"], spent["bedrock_usd_at_most"]) == (None, None)
    written = json.loads(aws.client("s3").get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert (written["run"], written["model_run"]) == ("0123456789", "9f8e7d6c5b")
    assert written["serving"] == {"endpoint": "e", "config": "c", "until": None}
    assert (written["instruction"], written["max_tokens"]) == ("Sum up:", 77)
    assert written["bedrock_mode"] == "customize"
    unasked: dict[str, Any] = {"model_id": None, "api": None, "call": None, "samples": []}
    assert written["bedrock"] == {"job": "j", "jobs": 2, "custom_model": "arn:c", "imported_model": None, **unasked}
    answer = {
        "phase": "passed",
        "progress": "answers by InvokeModel",
        "wait_seconds": 0,
        "model_id": "arn:c",
        "api": "InvokeModel",
        "call": "aws",
        "samples": ["s3://s"],
        "units": 1,
    }
    imported = {**priced, "record": {**record, "bedrock_mode": "import", "bedrock_usd_at_most": 5.47}}
    assert handler(imported, None)["spent"]["bedrock_usd_at_most"] == 5.47
    # When Bedrock has told the units, they count in the place of the bound. An import job itself is free.
    assert handler({**imported, "answer": answer}, None)["spent"]["bedrock_usd_at_most"] == 2.73
    written = json.loads(aws.client("s3").get_object(Bucket=bucket, Key="models/0123456789/run.json")["Body"].read())
    assert written["bedrock"] == {
        "job": "j",
        "jobs": 2,
        "custom_model": None,
        "imported_model": "arn:c",
        "model_id": "arn:c",
        "api": "InvokeModel",
        "call": "aws",
        "samples": ["s3://s"],
    }
