"""The main job: an execution from `{}` to a served model, a second one, and two at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.local.conftest import Deployed


@pytest.fixture(scope="module")
def first(stack: Deployed) -> dict[str, Any]:
    ended = stack.run({})
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return ended


def test_an_execution_with_empty_input_runs_the_steps_in_order(stack: Deployed, first: dict[str, Any]) -> None:
    states = stack.states(first["executionArn"])
    steps = ("Plan", "PrepareData", "Train", "Assess", "Customize", "CreateModel", "Deploy", "SmokeTest", "Done")
    assert [states.index(step) for step in steps] == sorted(states.index(step) for step in steps)


def test_its_output_says_where_the_model_is_and_how_good(first: dict[str, Any]) -> None:
    output = first["output"]
    assert output["promoted"] is True
    assert output["deployment"] == "passed"
    assert output["why"].startswith("ROUGE-L on 8 held-out rows: tuned ")
    assert output["data"] == {
        "train": 100,
        "validation": 8,
        "test": 8,
        "rejected": 0,
        "bedrock_train": 100,
        "bedrock_validation": 8,
    }
    assert output["custom_model"].startswith("arn:aws:bedrock:us-west-2:000000000000:custom-model/")
    assert 0 < output["estimate"]["total"] < 25
    assert len(output["samples"]) == 3


def test_the_endpoint_serves_the_weights_that_were_trained(stack: Deployed, first: dict[str, Any]) -> None:
    endpoint = stack.endpoint()
    assert endpoint is not None
    assert endpoint["EndpointStatus"] == "InService"
    sagemaker = stack.aws.client("sagemaker")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"] == first["output"]["model"]
    answer = stack.aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint["EndpointName"],
        ContentType="application/json",
        Body=json.dumps({"messages": [{"role": "user", "content": "Ann: hi"}], "max_tokens": 5, "temperature": 0}),
    )
    assert json.loads(answer["Body"].read())["choices"][0]["message"]["content"]


def test_the_endpoint_has_an_end(stack: Deployed, first: dict[str, Any]) -> None:
    schedule = stack.aws.client("scheduler").get_schedule(Name=stack.outputs["EndpointName"])
    assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
    assert json.loads(schedule["Target"]["Input"]) == {"EndpointName": stack.outputs["EndpointName"]}


def test_everything_that_was_made_carries_the_stacks_tag(stack: Deployed, first: dict[str, Any]) -> None:
    prefix = stack.outputs["EndpointName"]
    sagemaker, bedrock = stack.aws.client("sagemaker"), stack.aws.client("bedrock")
    arns = [e["EndpointArn"] for e in sagemaker.list_endpoints()["Endpoints"]]
    arns += [c["EndpointConfigArn"] for c in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    arns += [m["ModelArn"] for m in sagemaker.list_models()["Models"]]
    arns += [j["TrainingJobArn"] for j in sagemaker.list_training_jobs()["TrainingJobSummaries"]]
    assert len(arns) >= 4
    for arn in arns:
        assert {"Key": "tuneway:stack", "Value": prefix} in sagemaker.list_tags(ResourceArn=arn)["Tags"], arn
    custom_model = first["output"]["custom_model"]
    assert {"key": "tuneway:stack", "value": prefix} in bedrock.list_tags_for_resource(resourceARN=custom_model)["tags"]


def test_two_executions_at_once_after_a_first_end_with_the_later_model(stack: Deployed, first: dict[str, Any]) -> None:
    # Names as long and as odd as Step Functions allows: 80 characters, dots and underscores.
    arns = [stack.start({"training": {"seed": seed}}, f"run.{seed}_{'x' * 74}"[:80]) for seed in (1, 2)]
    ended = [stack.end(arn) for arn in arns]
    assert [e["status"] for e in ended] == ["SUCCEEDED", "SUCCEEDED"], [e.get("cause") for e in ended]
    endpoints = stack.aws.client("sagemaker").list_endpoints()["Endpoints"]
    assert [e["EndpointStatus"] for e in endpoints] == ["InService"]
    endpoint = stack.endpoint()
    assert endpoint is not None
    model = stack.aws.client("sagemaker").describe_model(ModelName=endpoint["EndpointConfigName"])
    served = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    models = {e["output"]["model"] for e in ended}
    assert served in models
    assert first["output"]["model"] not in models
    # Whoever came second either serves, or says that the other one has taken over.
    assert sorted({e["output"]["deployment"] for e in ended}) in (["passed"], ["passed", "superseded"])


def test_no_call_was_denied(stack: Deployed, first: dict[str, Any]) -> None:
    assert stack.aws.denied() == []
