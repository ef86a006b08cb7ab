"""The function that writes the page and the card: it reads the execution, the run's files and the job on local AWS."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pipeline import names
from report import gather
from report.handler import handler
from report.timeline import Told
from tests.unit.report.stories import EVALUATION, GOOD, PLAN, RECORD, span

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


@pytest.fixture
def execution(aws: RunningAws) -> str:
    """The ARN of an execution that was refused."""
    client = aws.client("stepfunctions")
    refused = {"Type": "Fail", "Error": "Tuneway.Refused", "Cause": "training.epochs: must be 1 or more"}
    body = {"QueryLanguage": "JSONata", "StartAt": "Refused", "States": {"Refused": refused}}
    machine = client.create_state_machine(
        name=f"report-{time.time_ns()}",
        definition=json.dumps(body),
        roleArn=aws.role(f"States{time.time_ns()}", service="states"),
    )["stateMachineArn"]
    arn: str = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    while client.describe_execution(executionArn=arn)["status"] == "RUNNING":
        time.sleep(0.1)
    return arn


def call(execution: str, bucket: str, moment: str) -> Any:
    return handler({"execution": execution, "moment": moment, "bucket": bucket, "region": "us-west-2"}, None)


def read(aws: RunningAws, bucket: str, key: str) -> str:
    return str(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def test_a_refused_execution_has_its_page_and_no_card(aws: RunningAws, bucket: str, execution: str) -> None:
    key = f"models/{names.run_id(execution)}/report.html"
    assert call(execution, bucket, "ended") == {"page": f"s3://{bucket}/{key}", "warnings": []}
    page = read(aws, bucket, key)
    assert "The run was refused before anything was spent." in page
    assert "training.epochs: must be 1 or more" in page


def test_the_page_of_a_bad_end_has_the_cost_that_the_cleanup_has_counted(
    aws: RunningAws, bucket: str, execution: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = names.run_id(execution)
    answers = {"Plan": {**PLAN, "run": run, "name": "tuneway-0a1b2c3d-1"}, "Assess": {"warnings": []}}
    monkeypatch.setattr(gather.timeline, "read", lambda _: Told([span("Plan", 0, 1)], answers))
    # The record is as Assess has written it, before the endpoint that then failed.
    aws.client("s3").put_object(Bucket=bucket, Key=f"models/{run}/run.json", Body=json.dumps(RECORD).encode())
    endpoint = {"part": "endpoint", "usd": 0.7, "basis": "estimated", "how": "30 minutes"}
    spent = {**RECORD["spent"], "parts": [*RECORD["spent"]["parts"][:2], endpoint], "total": 8.59, "ongoing": []}
    event = {"execution": execution, "moment": "ended", "bucket": bucket, "region": "us-west-2", "spent": spent}
    handler(event, None)
    page = read(aws, bucket, f"models/{run}/report.html")
    assert "$8.59" in page
    assert "30 minutes" in page
    # Only the end is measured, because a page of the same run was written before.
    assert '"StepTime": 60.0' in capsys.readouterr().out
    call(execution, bucket, "done")
    assert "StepTime" not in capsys.readouterr().out


def test_a_good_run_has_its_page_and_its_card_and_a_missing_file_is_a_warning(
    aws: RunningAws, bucket: str, execution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = names.run_id(execution)
    model = f"s3://{bucket}/models/{run}/j/output/model/"
    # Plan of earlier versions says how the endpoint is called.
    call_of_plan = {"base_url": "https://api.example/openai/v1", "python": ["print(1)"]}
    plan = {**PLAN, "run": run, "name": "tuneway-0a1b2c3d-1", "serve": None, "call": call_of_plan}
    answers = {
        "Plan": plan,
        "PrepareData": {"manifest": f"s3://{bucket}/data/{run}/manifest.json"},
        "Train": {"model": model},
        "Assess": {"warnings": ["b"]},
        "SmokeTest": {"phase": "passed"},
    }
    monkeypatch.setattr(gather.timeline, "read", lambda _: Told(GOOD.phases, answers))
    s3 = aws.client("s3")
    folder = f"models/{run}"
    files = {
        f"{folder}/run.json": {**RECORD, "model": model},
        f"{folder}/smoke_test.json": GOOD.smoke_test,
        f"{folder}/j/output/model/tuneway/evaluation.json": EVALUATION,
        f"{folder}/j/output/model/tuneway/metrics.json": {**(GOOD.metrics or {}), "history": GOOD.history},
        f"{folder}/j/output/model/tuneway/recipe.json": GOOD.recipe,
    }
    for key, content in files.items():
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(content).encode())
    made = call(execution, bucket, "done")
    assert made["warnings"] == [f"s3://{bucket}/data/{run}/manifest.json is not there any more, or may not be read"]
    page = read(aws, bucket, f"{folder}/report.html")
    assert "The tuned model serves at the endpoint" in page
    assert "api.example/openai/v1" in page
    assert '"eval_loss":[[0.0' in page
    assert 'base_model: "meta-llama' in read(aws, bucket, f"{folder}/j/output/model/README.md")
    serving = {
        **answers,
        "Plan": {**plan, "serve": {"run": "0123456789", "model": model, "manifest": f"s3://{bucket}/x"}},
    }
    monkeypatch.setattr(gather.timeline, "read", lambda _: Told(GOOD.phases, serving))
    s3.delete_object(Bucket=bucket, Key=f"{folder}/j/output/model/README.md")
    call(execution, bucket, "serving")
    assert "Bedrock is still at work" in read(aws, bucket, f"{folder}/report.html")
    with pytest.raises(ClientError, match="NoSuchKey"):
        read(aws, bucket, f"{folder}/j/output/model/README.md")
