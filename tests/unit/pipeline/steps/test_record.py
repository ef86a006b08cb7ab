"""run.json has the served endpoint, Bedrock's model and the cost at the end of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.steps.record import handler

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def test_the_record_has_the_endpoint_the_custom_model_and_the_cost(aws: RunningAws, bucket: str) -> None:
    record = {
        "folder": f"s3://{bucket}/models/0123456789/",
        "run": "0123456789",
        "execution": "arn:e",
        "settings": {},
        "base_model": "a/b@main",
        "licences": {"base_model": "mit", "dataset": None},
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
        "assessment": {"scores": {}, "promoted": True, "why": "w", "warnings": []},
        "deployed": {"phase": "passed", "endpoint": "e", "config": "c", "until": None},
        "customization": {
            "phase": "completed",
            "progress": "completed",
            "job": "j",
            "jobs": 2,
            "custom_model": "arn:c",
        },
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
    assert written["serving"] == {"endpoint": "e", "config": "c", "until": None}
    assert written["bedrock"] == {"job": "j", "jobs": 2, "custom_model": "arn:c"}
