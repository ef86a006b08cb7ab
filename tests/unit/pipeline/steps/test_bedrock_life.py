"""The steps of Bedrock on local AWS: a customization to its deployment, an import to its model, asked and retired."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import requests
from pipeline.steps import customize, deploy_custom_model, retire_models
from tests.unit.pipeline.facts import facts
from tests.unit.pipeline.steps.test_looks import EVERYTHING
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws

from pipeline.bedrock import choose


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
