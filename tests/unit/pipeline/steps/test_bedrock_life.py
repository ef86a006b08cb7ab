"""The steps of Bedrock on local AWS: a customization to its deployment, an import to its model, asked and retired."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

from local import tiny_model
from pipeline import requests
from pipeline.bedrock import choose
from pipeline.steps import ask_bedrock, customize, deploy_custom_model, import_model, retire_models
from tests.unit.pipeline.facts import facts
from tests.unit.pipeline.steps.test_looks import EVERYTHING
from tests.unit.pipeline.steps.test_plan_parts import settings
from training.export import as_4x_config, as_4x_tokenizer_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws


def until(look: Callable[[Any], dict[str, Any]], phase: str) -> dict[str, Any]:
    """Call a step with its last answer until it is in the phase."""
    deadline, progress = time.time() + 60, None
    while (progress := look(progress))["phase"] != phase:
        assert time.time() < deadline, progress
        time.sleep(0.1)
    return progress


@pytest.fixture
def planned(aws: RunningAws, bucket: str) -> Callable[[str], Any]:
    """Makes the plan of a customization by a run of the stack."""
    line = {"system": [{"text": "Sum up."}], "messages": []} | {"schemaVersion": "bedrock-conversation-2024"}
    turns = [("user", "Amanda: I baked cookies"), ("assistant", "Cookies.")]
    line["messages"] = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    role = aws.role(f"tune-{bucket[5:13]}", EVERYTHING, service="bedrock")
    stack = facts(prefix=f"tuneway-{bucket[5:13]}", bucket=bucket, region="us-west-2", bedrock_role=role)

    def plan(run: str) -> Any:
        for name in ("train", "validation"):
            body = (json.dumps(line) + "\n").encode() * 60
            aws.client("s3").put_object(Bucket=bucket, Key=f"data/{run}/bedrock/{name}.jsonl", Body=body)
        return requests.customize(settings(), run, choose(settings(), "us-west-2"), stack)

    return plan


def test_the_second_runs_model_takes_the_deployment_and_the_first_goes(
    aws: RunningAws, planned: Callable[[str], Any]
) -> None:
    bedrock, arns, models = aws.client("bedrock"), [], []
    for run in ("0123456789", "9876543210"):
        plan = planned(run)
        prefix = plan.deployment["modelDeploymentName"]
        job = {"name": f"{prefix}-{run}", "redrive": 0, "request": plan.request, "timeout_hours": 1, "follow": True}
        made = until(lambda _, job=job: customize.handler(job, None), "completed")
        event = {"redrive": 0, "model": made["model"], "request": plan.deployment}
        done = until(
            lambda last, event=event: deploy_custom_model.handler({**event, "progress": last}, None), "serving"
        )
        arns.append(done["arn"])
        models.append(made["model"])
    assert arns[0] == arns[1]
    (deployment,) = bedrock.list_custom_model_deployments(nameContains=prefix)["modelDeploymentSummaries"]
    assert deployment["customModelDeploymentName"] == prefix
    machine = aws.client("stepfunctions").create_state_machine(
        name=prefix,
        definition=json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
        roleArn=aws.role(f"machine-{prefix[-8:]}", EVERYTHING, service="states"),
    )["stateMachineArn"]
    event = {"prefix": prefix, "state_machine": machine, "model": models[1], "keep": 1}
    assert retire_models.handler(event, None) == {"deleted": [f"{prefix}-0123456789-0"], "warnings": []}
    left = bedrock.list_custom_models(nameContains=prefix)["modelSummaries"]
    assert [model["modelArn"] for model in left] == [models[1]]


def put_model(aws: RunningAws, bucket: str, cache: Path, prefix: str) -> None:
    """Upload the tiny model as the training job leaves a model."""
    snapshot = tiny_model.ensure(cache)
    files = {path.name: path.read_bytes() for path in snapshot.iterdir()}
    config = json.loads(files["config.json"])
    tokenizer = json.loads(files["tokenizer_config.json"])
    files["config.json"] = json.dumps(as_4x_config(config, config)).encode()
    loaded = AutoTokenizer.from_pretrained(snapshot)
    files["tokenizer_config.json"] = json.dumps(as_4x_tokenizer_config(tokenizer, loaded)).encode()
    prompt = [{"role": "system", "content": "Sum up."}, {"role": "user", "content": "Ann: hi"}]
    evaluation = json.dumps({"samples": [{"prompt": prompt, "reference": "Ann greets."}]}).encode()
    for name, body in {**files, "tuneway/evaluation.json": evaluation}.items():
        aws.client("s3").put_object(Bucket=bucket, Key=f"{prefix}{name}", Body=body)


def test_the_tuned_model_is_imported_wakes_and_answers(aws: RunningAws, bucket: str, cache: Path) -> None:
    put_model(aws, bucket, cache, "models/r/j/output/model/")
    role = aws.role(f"import-{bucket[5:13]}", EVERYTHING, service="bedrock")
    stack = facts(prefix=f"tuneway-{bucket[5:13]}", bucket=bucket, region="us-west-2", import_role=role)
    plan = requests.import_model(settings(bedrock={"mode": "import"}), "r", stack)
    job = {
        "name": f"{stack.prefix}-r",
        "redrive": 0,
        "model": f"s3://{bucket}/models/r/j/output/model/",
        "request": plan.request,
        "timeout_hours": 1,
    }
    assert import_model.handler({**job, "follow": False}, None)["phase"] == "working"
    imported = until(lambda _: import_model.handler({**job, "follow": True}, None), "completed")["model"]
    assert ":imported-model/" in imported
    # The exported tokenizer_config.json has the chat template that Converse needs.
    assert aws.client("bedrock").get_imported_model(modelIdentifier=imported)["instructSupported"] is True
    event = {
        "model_id": imported,
        "instruction": "Sum up.",
        "max_tokens": 96,
        "evaluation": f"s3://{bucket}/models/r/j/output/model/tuneway/evaluation.json",
        "samples": f"s3://{bucket}/models/r/bedrock_smoke_test.json",
        "redrive": 0,
    }
    passed = until(lambda last: ask_bedrock.handler({**event, "progress": last}, None), "passed")
    assert (passed["api"], passed["units"]) == ("Converse", 1)
    body = aws.client("s3").get_object(Bucket=bucket, Key="models/r/bedrock_smoke_test.json")["Body"].read()
    (sample,) = json.loads(body)
    assert (sample["reference"], bool(sample["answer"])) == ("Ann greets.", True)
