"""run.json has the served endpoint, Bedrock's model and the cost at the end of a run."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.steps.record import handler
from tests.unit.pipeline.facts import run_record

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def amounts(event: dict[str, Any]) -> dict[str, float | None]:
    """Return what Record says was spent, by part, and the total."""
    spent = handler(event, None)["spent"]
    return {part["part"]: part["usd"] for part in spent["parts"]} | {"total": spent["total"]}


def test_the_record_has_the_endpoint_the_custom_model_and_the_cost(aws: RunningAws, bucket: str) -> None:
    record = run_record(bucket, 7.02, model_run="9f8e7d6c5b", bedrock_mode="customize", bedrock_base_model="arn:b")
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
    assert amounts(event) == {"training": None, "bedrock": 14.04, "total": None}
    priced = {**event, "training": {**event["training"], "billed_seconds": {"ml.g5.xlarge": 3600}}}
    assert amounts(priced) == {"training": 1.41, "bedrock": 14.04, "total": 15.45}
    unpriced = {**record["estimate"], "bedrock": None}
    none = {"training": {}, "endpoint": {}, "as_of": ""}
    without_price = {**priced, "record": {**record, "region": "eu-west-1", "estimate": unpriced, "prices": none}}
    assert amounts(without_price) == {"training": None, "bedrock": None, "total": None}
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
    imported = {**priced, "record": {**record, "bedrock_mode": "import"}}
    imported["record"]["estimate"] = {**record["estimate"], "bedrock": 5.47}
    assert amounts(imported)["bedrock"] == 5.47
    # When Bedrock has told the units, they count in the place of the bound. An import job itself is free.
    assert amounts({**imported, "answer": answer})["bedrock"] == 2.73
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


def test_the_endpoint_is_counted_from_the_start_of_its_deployment_and_goes_on(aws: RunningAws, bucket: str) -> None:
    now = int(time.time())
    until = datetime.fromtimestamp(now + 7200, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "record": run_record(bucket, fleet={"instance_types": ["ml.g5.xlarge"], "instance_count": 2}),
        "training": {"phase": "completed", "job": "j", "progress": "p", "wait_seconds": 0, "model": "s3://m/"},
        "assessment": {"scores": {}, "promoted": True, "passes": True, "why": "w", "warnings": []},
        "deployed": {"phase": "passed", "endpoint": "e", "config": "c", "until": until, "since": now - 1800},
        "bedrock": {"phase": "not wanted", "progress": "not wanted", "job": None, "jobs": 0},
        "answer": None,
        "manifest": "s3://d/",
    }
    spent = handler(event, None)["spent"]
    training, endpoint = spent["parts"]
    assert (training["usd"], training["how"]) == (0.0, "no training instance was billed")
    assert (endpoint["part"], endpoint["usd"], endpoint["basis"]) == ("endpoint", 1.41, "estimated")
    assert endpoint["how"].startswith("30 min of 2 x ml.g5.xlarge at 2.816 dollars per hour")
    assert spent["ongoing"] == [{"what": "endpoint e", "usd_per_hour": 2.816, "until": until}]
