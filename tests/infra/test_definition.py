"""The state machine's real definition: known resources, and arguments that fit the operations' own input shapes."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonata
import pytest

from local.authorization import service_model
from local.shapes import validate
from pipeline import plan, requests
from pipeline import settings as schema
from pipeline.bedrock import choose
from pipeline.dataset import Source
from pipeline.deploy import expiry
from pipeline.splits import File
from tests.infra.conftest import ROOT, Synthesised

RESULTS = {
    # What the states before have assigned, as the services answer.
    "model": "s3://bucket/models/0123456789/job/output/model/",
    "modelName": "tuneway-0a1b2c3d-0123456789-0-0",
    "config": "tuneway-0a1b2c3d-0123456789-0-0",
    "progress": None,
}
CONTEXT = {"Execution": {"Id": "arn:x", "RedriveCount": 3}, "State": {"RetryCount": 2}}


def evaluate(value: Any, variables: dict[str, Any]) -> Any:
    """A definition's value with its JSONata evaluated, as Step Functions does."""
    if isinstance(value, dict):
        return {key: evaluate(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluate(item, variables) for item in value]
    if isinstance(value, str) and value.startswith("{%"):
        expression = jsonata.Jsonata(value[2:-2].strip())
        for name, item in variables.items():
            expression.assign(name, item)
        return expression.evaluate(None)
    return value


@pytest.fixture(scope="session")
def variables(synthesised: Synthesised) -> dict[str, Any]:
    return assigned(synthesised)


def assigned(synthesised: Synthesised) -> dict[str, Any]:
    """`$plan` of an execution with the input {}, made by the product's own code out of what the definition hands to Plan."""
    payload = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]
    settings = schema.with_run_input(payload["settings"], {})
    # The bucket's name is CloudFormation's to give.
    stack, run = payload["stack"] | {"bucket": "bucket"}, "0123456789"
    base_model = choose(settings, stack["region"])
    # The Hub tells Plan which files there are.
    files = {split: [File(f"{split}.csv", 9, None)] for split in ("train", "validation", "test")}
    source = Source(settings.dataset.source, settings.dataset.revision, files, [])
    planned = {
        "name": f"{stack['prefix']}-{run}",
        "prepare": requests.prepare(settings, run, base_model, stack, source),
        "train": requests.train(settings, run, None, stack),
        "assess": requests.assess(settings, stack),
        "customize": requests.customize(settings, run, base_model, stack),
        "deploy": requests.deploy(settings, run, stack),
    }
    return {"plan": planned, "states": {"context": CONTEXT, "input": {}}, **RESULTS}


def camel(value: Any) -> Any:
    """Bedrock's own member names, which Step Functions writes with a capital (developer guide, "Invoke and customize")."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: camel(item) for key, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def operation(resource: str) -> tuple[str, str]:
    """Service and operation of a task's resource."""
    found = re.fullmatch(r"arn:aws:states:::(?:aws-sdk:)?(\w+):(\w+?)(\.sync)?", resource)
    assert found, resource
    return found[1], found[2][0].upper() + found[2][1:]


def tasks(synthesised: Synthesised) -> dict[str, dict[str, Any]]:
    return {name: state for name, state in synthesised.definition["States"].items() if state["Type"] == "Task"}


def test_every_task_is_a_real_operation_of_its_service(synthesised: Synthesised) -> None:
    for name, state in tasks(synthesised).items():
        service, action = operation(state["Resource"])
        assert action in service_model(service).operation_names, name


def test_both_jobs_are_waited_for(synthesised: Synthesised) -> None:
    states = synthesised.definition["States"]
    assert states["Train"]["Resource"] == "arn:aws:states:::sagemaker:createTrainingJob.sync"
    assert states["Customize"]["Resource"] == "arn:aws:states:::bedrock:createModelCustomizationJob.sync"
    for state in states.values():
        assert not (".sync" in state.get("Resource", "") and "aws-sdk" in state["Resource"])


@pytest.mark.parametrize("name", ["Train", "Customize", "CreateModel", "CreateEndpointConfig"])
def test_evaluated_arguments_fit_the_service_model(
    synthesised: Synthesised, variables: dict[str, Any], name: str
) -> None:
    state = synthesised.definition["States"][name]
    service, action = operation(state["Resource"])
    arguments = evaluate(state["Arguments"], variables)
    validate(service_model(service).operation_model(action), camel(arguments) if service == "bedrock" else arguments)


@pytest.mark.parametrize("name", ["Train", "Customize", "CreateModel", "CreateEndpointConfig"])
def test_arguments_are_literal_keys(synthesised: Synthesised, name: str) -> None:
    assert isinstance(synthesised.definition["States"][name]["Arguments"], dict)


def test_names_hold_redrive_and_retry(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    states = synthesised.definition["States"]
    for name, key in (("Train", "TrainingJobName"), ("Customize", "JobName"), ("CreateModel", "ModelName")):
        assert evaluate(states[name]["Arguments"][key], variables).endswith("-0123456789-3-2")


def test_a_trained_model_is_a_prefix_with_its_slash(synthesised: Synthesised) -> None:
    expression = synthesised.definition["States"]["Train"]["Assign"]["model"]
    for uri in ("s3://b/job/output/model", "s3://b/job/output/model/"):
        result = {"ModelArtifacts": {"S3ModelArtifacts": uri}}
        assert evaluate(expression, {"states": {"result": result}}) == "s3://b/job/output/model/"


def test_the_billed_seconds_are_those_of_all_instances(synthesised: Synthesised) -> None:
    expression = synthesised.definition["States"]["Train"]["Assign"]["billedSeconds"]
    given = {"states": {"result": {"BillableTimeInSeconds": 100}}}
    assert evaluate(expression, given | {"plan": {"train": {"ResourceConfig": {"InstanceCount": 3}}}}) == 300


def test_the_expiry_is_a_time_after_the_endpoints_life(variables: dict[str, Any]) -> None:
    planned = variables["plan"]["deploy"]
    arguments = expiry(planned["EndpointName"], planned["Expiry"]["Minutes"], planned["Expiry"]["RoleArn"])
    for action in ("CreateSchedule", "UpdateSchedule"):
        validate(service_model("scheduler").operation_model(action), arguments)
    at = datetime.strptime(arguments["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
    assert abs(at - datetime.now(UTC) - timedelta(minutes=80)) < timedelta(minutes=1)
    assert json.loads(arguments["Target"]["Input"]) == {"EndpointName": planned["EndpointName"]}
    assert arguments["ActionAfterCompletion"] == "DELETE"


def test_the_train_state_sends_all_that_plan_resolved(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    sent = evaluate(synthesised.definition["States"]["Train"]["Arguments"], variables)
    planned = variables["plan"]["train"]
    assert {key: sent[key] for key in planned} == planned
    assert set(sent) == {*planned, "TrainingJobName"}
    assert sent["CheckpointConfig"] == {"S3Uri": "s3://bucket/checkpoints/0123456789/"}
    assert sent["EnableManagedSpotTraining"] is False


def test_a_redriven_job_has_another_name_and_the_same_checkpoints(synthesised: Synthesised) -> None:
    state, first = synthesised.definition["States"]["Train"], assigned(synthesised)
    later = assigned(synthesised)
    later["states"]["context"] = {**CONTEXT, "Execution": {"Id": "arn:x", "RedriveCount": 4}}
    jobs = [evaluate(state["Arguments"], variables) for variables in (first, later)]
    assert jobs[0]["TrainingJobName"] != jobs[1]["TrainingJobName"]
    assert jobs[0] | {"TrainingJobName": ""} == jobs[1] | {"TrainingJobName": ""}


@pytest.mark.parametrize("promote", [True, False])
def test_assess_decides_whether_the_model_is_served(
    synthesised: Synthesised, variables: dict[str, Any], promote: bool
) -> None:
    states = synthesised.definition["States"]
    event = evaluate(states["Assess"]["Arguments"]["Payload"], variables)
    assert event == {"model": RESULTS["model"], **variables["plan"]["assess"]}
    assert event["only_if_better"] is event["enabled"] is True
    assert re.fullmatch(r"s3://bucket/baselines/[0-9a-f]{16}/", event["baseline"])
    (choice,) = states["DeployWanted"]["Choices"]
    assert choice["Next"] == "CreateModel"
    assert evaluate(choice["Condition"], variables | {"assessment": {"promote": promote}}) is promote


@pytest.mark.parametrize(("planned", "assessed"), [([], []), (["a"], []), ([], ["b"]), (["a"], ["b", "c"])])
def test_the_output_has_the_warnings_of_plan_and_assess(
    synthesised: Synthesised, variables: dict[str, Any], planned: list[str], assessed: list[str]
) -> None:
    variables = {**variables, "plan": {**variables["plan"], "warnings": planned}, "assessment": {"warnings": assessed}}
    output = synthesised.definition["States"]["Done"]["Output"]
    assert evaluate(output["warnings"], variables) == planned + assessed


def test_plan_ships_the_training_code_it_copies(synthesised: Synthesised) -> None:
    packages = [folder for folder in synthesised.folder.glob("asset.*") if (folder / "training").is_dir()]
    assert len(packages) == 1
    shipped = {path.name for path in (packages[0] / "training").iterdir()}
    assert {"start.py", "train.py", "requirements.txt"} <= shipped
    assert Path(plan.__file__).resolve().parent.parent / "training" == plan.CODE


def test_asl_validator_accepts_the_definition(synthesised: Synthesised, tmp_path: Path) -> None:
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(synthesised.definition))
    command = [ROOT / "node_modules" / ".bin" / "asl-validator", "--json-path", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
