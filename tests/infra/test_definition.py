"""The state machine's real definition, run with answers of its functions: the states entered, the events, the output."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import jsonata
import pytest

from infra.states import HOUR, MINUTES, SECONDS
from pipeline import training_code
from pipeline.contracts.events import RecordEvent
from pipeline.contracts.planned import ServePlan
from pipeline.contracts.values import as_json, parse
from pipeline.steps import plan
from tests.infra.conftest import ROOT, Synthesised
from tests.infra.planned import CALL, CONTEXT, MODEL, PREPARED, assigned

SCORES = {"rows": 40}
# The answers of the functions of a run's states, and of the Distributed Map.
ANSWERS: dict[str, Any] = {
    "PrepareData": PREPARED,
    "Train": {
        "phase": "completed",
        "job": "j",
        "progress": "x",
        "wait_seconds": 0,
        "model": MODEL,
        "billed_seconds": {"ml.g5.xlarge": 60},
    },
    "Assess": {"promoted": True, "passes": True, "why": "ROUGE", "warnings": ["b"], "scores": SCORES},
    "RegisterModel": {"version": "arn:v", "status": "Approved", "warnings": []},
    "Customize": {
        "phase": "working",
        "job": "j",
        "progress": "training for 0.0 h",
        "jobs": 1,
        "wait_seconds": 10,
        "model": None,
    },
    "ImportModel": {
        "phase": "working",
        "job": "j",
        "progress": "importing the model for 0 min",
        "jobs": 1,
        "wait_seconds": 10,
        "model": None,
    },
    "Deploy": {
        "phase": "serving",
        "progress": "x",
        "wait_seconds": 1,
        "endpoint": "e",
        "config": "c",
        "until": "2026-11-26T12:00:00Z",
        "warnings": ["d"],
        "asked": True,
        "before": None,
        "since": 1,
        "redrive": 3,
    },
    "SmokeTest": {"phase": "passed", "samples": ["s3://bucket/models/0123456789/smoke_test.json"], "call": CALL},
    "FinishCustomize": {
        "phase": "completed",
        "job": "j",
        "jobs": 1,
        "progress": "completed",
        "wait_seconds": 0,
        "model": "arn:c",
    },
    "DeployCustomModel": {
        "phase": "serving",
        "progress": "custom model deployment d is Active",
        "wait_seconds": 10,
        "arn": "arn:d",
        "asked": True,
        "before": None,
        "since": 1,
        "redrive": 3,
    },
    "FinishImport": {
        "phase": "completed",
        "job": "j",
        "jobs": 1,
        "progress": "imported",
        "wait_seconds": 0,
        "model": "arn:i",
    },
    "AskBedrock": {
        "phase": "passed",
        "progress": "answers by Converse",
        "wait_seconds": 0,
        "model_id": "arn:m",
        "api": "Converse",
        "call": "aws bedrock-runtime converse",
        "samples": ["s3://bucket/models/0123456789/bedrock_smoke_test.json"],
        "units": None,
        "since": 1,
        "redrive": 3,
    },
    "RetireModels": {"deleted": ["old"], "warnings": ["held"]},
    "RecordServing": {"spent": {"total": 1.0}},
    "Record": {"spent": {"total": 1.0}},
    "ReportServing": {"page": "s3://bucket/models/0123456789/report.html", "warnings": []},
    "Report": {"page": "s3://bucket/models/0123456789/report.html", "warnings": ["gone"]},
    "TellServing": {"MessageId": "1"},
}


NONE_IN_SOME = (
    *("endpoint", "config", "until", "idle_minutes", "call", "custom_model", "imported_model", "model_package"),
    *("bedrock_model_id", "bedrock_call", "report"),
)
"""The parts of the output that some runs do not have."""


def evaluate(value: Any, variables: dict[str, Any]) -> Any:
    """Return a definition's value with its JSONata evaluated, as Step Functions does it."""
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


def walk(
    states: dict[str, Any], variables: dict[str, Any], answers: dict[str, Any]
) -> tuple[list[str], dict[str, Any], Any]:
    """Run the definition with these answers, or functions of events. Return the entered states, the events and the output.

    An expression without a value fails the state, as in Step Functions.
    """
    entered: list[str] = []
    events: dict[str, Any] = {}
    name = "Plan"
    variables = dict(variables)

    def value(of: Any, result: Any = None) -> Any:
        context = {**variables.get("states", {}), "result": result, "errorOutput": {"Error": "E", "Cause": "c"}}
        return evaluate(of, {**variables, "states": context})

    while True:
        state = states[name]
        entered.append(name)
        assign, following = state.get("Assign", {}), state.get("Next")
        if state["Type"] == "Succeed":
            output = value(state["Output"])
            missing = [key for key, given in output.items() if given is None and key not in NONE_IN_SOME]
            assert not missing
            return entered, events, output
        if state["Type"] == "Fail":
            return entered, events, value(state["Cause"])
        result: Any = None
        if state["Type"] == "Choice":
            chosen = next((one for one in state["Choices"] if value(one["Condition"])), None)
            assign, following = (chosen or {}).get("Assign", {}), chosen["Next"] if chosen else state["Default"]
        elif state["Type"] == "Wait":
            assert value(state["Seconds"]) >= 1
        else:
            arguments = value(state["Arguments"])
            events[name] = arguments.get("Payload", arguments)
            given = answers[name]
            if callable(given):
                given = given(events[name])
            if isinstance(given, list):
                given = given.pop(0)
            if given == "fails":
                (catch,) = state["Catch"]
                assign, following = catch.get("Assign", {}), catch["Next"]
            else:
                result = {"Payload": given}
        variables |= {key: value(item, result) for key, item in assign.items()}
        name = following


def run(synthesised: Synthesised, variables: dict[str, Any], **changes: Any) -> tuple[list[str], dict[str, Any], Any]:
    answers = json.loads(json.dumps(ANSWERS)) | {"Plan": variables["plan"]} | changes
    return walk(synthesised.definition["States"], {"states": variables["states"]}, answers)


def tasks(synthesised: Synthesised) -> dict[str, dict[str, Any]]:
    return {name: state for name, state in synthesised.definition["States"].items() if state["Type"] == "Task"}


def test_a_run_goes_from_plan_to_its_output(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    entered, events, output = run(synthesised, variables)
    order = [
        "Plan",
        "PrepareData",
        "Train",
        "Assess",
        "RegisterModel",
        "Customize",
        "Deploy",
        "SmokeTest",
        "RecordServing",
        "ReportServing",
        "TellServing",
        "FinishCustomize",
        "DeployCustomModel",
        "AskBedrock",
        "RetireModels",
    ]
    assert [name for name in entered if name in events] == [*order, "Record", "Report"]
    assert output["warnings"] == ["a", "long", "b", "d", "held", "gone"]
    assert output["promoted"] is True
    assert (output["endpoint"], output["until"], output["idle_minutes"]) == ("e", "2026-11-26T12:00:00Z", 60)
    assert (output["bedrock"], output["custom_model"]) == ("completed, answers by Converse", "arn:c")
    assert (output["bedrock_model_id"], output["imported_model"]) == ("arn:m", None)
    assert output["bedrock_call"] == "aws bedrock-runtime converse"
    assert output["samples"] == [
        f"{MODEL}tuneway/evaluation.json",
        "s3://bucket/models/0123456789/smoke_test.json",
        "s3://bucket/models/0123456789/bedrock_smoke_test.json",
    ]
    assert output["run"] == "s3://bucket/models/0123456789/run.json"
    assert (output["model_run"], output["serve_again"]) == ("0123456789", {"serve": "0123456789"})
    assert output["spent"] == {"total": 1.0}
    name, attempt = variables["plan"]["name"], {"redrive": 3}
    record = variables["plan"]["record"] | {"instruction": "Be kind.", "formats": {"messages": 1}}
    assert events["Train"] == {"name": name, **attempt, "request": variables["plan"]["train"], "record": record}
    assert events["Deploy"]["progress"] is None
    assert events["Deploy"]["model"] == MODEL
    assert events["SmokeTest"]["samples"] == "s3://bucket/models/0123456789/smoke_test.json"
    assert events["SmokeTest"]["again"] == {"serve": "0123456789"}
    assert (
        "Serving: endpoint e, until 2026-11-26T12:00:00Z, or until nobody has used it for 60 minutes\n"
        "Bedrock: training for 0.0 h\n" in events["TellServing"]["Message"]
    )
    call = ANSWERS["SmokeTest"]["call"]
    assert output["call"] == call
    told = f"\nOpenAI base URL: {call['base_url']}\nPython:\n" + "\n".join(call["python"])
    assert events["TellServing"]["Message"].endswith(told)
    assert events["FinishCustomize"]["timeout_hours"] == 12
    assert events["RecordServing"]["bedrock"]["progress"] == "training for 0.0 h"
    assert (events["DeployCustomModel"]["model"], events["AskBedrock"]["model_id"]) == ("arn:c", "arn:d")
    assert (events["RetireModels"]["model"], events["RetireModels"]["keep"]) == ("arn:c", 1)
    assert events["RetireModels"]["state_machine"] == CONTEXT["StateMachine"]["Id"]
    assert events["Record"]["answer"]["model_id"] == "arn:m"


def test_long_work_is_looked_at_until_it_is_completed(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    working = {"phase": "working", "job": "j", "progress": "Training", "wait_seconds": 10}
    updating = {**ANSWERS["DeployCustomModel"], "phase": "working"}
    waking = {**ANSWERS["AskBedrock"], "phase": "waking", "wait_seconds": 30, "call": None}
    moving = {**ANSWERS["Deploy"], "phase": "working", "progress": "Creating"}
    entered, events, _ = run(
        synthesised,
        variables,
        Train=[working, working, ANSWERS["Train"]],
        Deploy=[moving, ANSWERS["Deploy"]],
        FinishCustomize=[working, ANSWERS["FinishCustomize"]],
        DeployCustomModel=[updating, ANSWERS["DeployCustomModel"]],
        AskBedrock=[waking, ANSWERS["AskBedrock"]],
    )
    loops = [name for name in entered if name.startswith("Wait")]
    assert loops == [
        *("WaitForTraining", "WaitForTraining", "WaitForEndpoint"),
        *("WaitForCustomize", "WaitForCustomModel", "WaitForBedrock"),
    ]
    assert (events["DeployCustomModel"]["progress"], events["AskBedrock"]["progress"]) == (updating, waking)
    assert events["Deploy"]["progress"] == moving


def test_a_run_whose_model_is_not_promoted_waits_only_for_bedrock(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    entered, events, output = run(synthesised, variables, Assess={**ANSWERS["Assess"], "promoted": False})
    assert not {"Deploy", "SmokeTest", "TellServing"} & set(entered)
    assert output["call"] is None
    assert (output["promoted"], output["endpoint"], output["until"], output["custom_model"]) == (
        False,
        None,
        None,
        "arn:c",
    )
    assert output["warnings"] == ["a", "long", "b", "held", "gone"]
    assert output["samples"] == [
        f"{MODEL}tuneway/evaluation.json",
        "s3://bucket/models/0123456789/bedrock_smoke_test.json",
    ]
    assert output["serve_again"] == {"serve": "0123456789", "endpoint": {"promote": "always"}}
    assert events["Record"]["deployed"]["phase"] == "skipped"


def test_a_superseded_endpoint_is_no_failure_and_a_lost_one_is_deployed_again(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    _, _, output = run(synthesised, variables, Deploy={**ANSWERS["Deploy"], "phase": "superseded"})
    assert (output["promoted"], output["deployment"]) == (False, "superseded")
    again = [{"phase": "redeploy", "samples": []}, ANSWERS["SmokeTest"]]
    entered, events, output = run(synthesised, variables, SmokeTest=again)
    assert (entered.count("Deploy"), output["promoted"]) == (2, True)
    # Deploy starts anew, and counts how long the lost endpoint has lived.
    assert (events["Deploy"]["progress"]["redrive"], events["Deploy"]["progress"]["since"]) == (-1, 1)


NEVERTHELESS: dict[str, Any] = {"serve": "9f8e7d6c5b", "endpoint": {"promote": "always"}}


def serving(variables: dict[str, Any]) -> dict[str, Any]:
    """Return `$plan` of a run that serves the model of run 9f8e7d6c5b."""
    manifest = "s3://bucket/data/9f8e7d6c5b/manifest.json"
    serve = ServePlan("9f8e7d6c5b", "j", MODEL, manifest, "served again", SCORES, NEVERTHELESS)
    nothing = dict.fromkeys(("dataset", "prepare", "train", "assess", "customize"))
    record = {**variables["plan"]["record"], "model_run": "9f8e7d6c5b"}
    return {**variables["plan"], **nothing, "serve": as_json(serve), "record": record}


def test_an_earlier_runs_model_goes_straight_to_the_endpoint(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    entered, events, output = run(synthesised, variables, Plan=serving(variables))
    assert entered == [
        "Plan",
        "Planned",
        "Deploy",
        "Deployed",
        "SmokeTest",
        "Tested",
        "Served",
        "Record",
        "Report",
        "Done",
    ]
    assert events["Deploy"]["model"] == MODEL
    assert events["SmokeTest"]["evaluation"] == f"{MODEL}tuneway/evaluation.json"
    assert (output["promoted"], output["endpoint"], output["why"]) == (True, "e", "served again")
    assert (output["model"], output["model_run"]) == (MODEL, "9f8e7d6c5b")
    # As this run was told: without it, a model that was not promoted would be refused.
    assert output["serve_again"] == events["SmokeTest"]["again"] == NEVERTHELESS
    assert output["run"] == "s3://bucket/models/0123456789/run.json"
    assert output["scores"] == SCORES
    # What the skipped steps would have answered is of their types.
    parse(RecordEvent, events["Record"])


def test_a_refusal_of_plan_ends_the_run_with_its_line(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    assert run(synthesised, variables, Plan={"refusal": "no"})[::2] == (["Plan", "Planned", "Refused"], "no")


def test_the_only_tasks_are_functions_and_one_message_to_the_topic(synthesised: Synthesised) -> None:
    called = {name: state["Resource"].removeprefix("arn:aws:states:::") for name, state in tasks(synthesised).items()}
    assert {name for name, resource in called.items() if resource != "lambda:invoke"} == {"TellServing"}
    assert called["TellServing"] == "sns:publish"


def test_each_function_is_retried_for_an_hour_while_aws_is_busy(synthesised: Synthesised) -> None:
    pauses = [
        min(HOUR["IntervalSeconds"] * HOUR["BackoffRate"] ** n, HOUR["MaxDelaySeconds"])
        for n in range(HOUR["MaxAttempts"])
    ]
    assert 3600 <= sum(pauses) < 4000
    assert "JitterStrategy" not in HOUR  # jitter would draw each pause from 0 on
    retriers = {name: state.get("Retry", []) for name, state in tasks(synthesised).items()}
    late = {**HOUR, "ErrorEquals": [*HOUR["ErrorEquals"], "Sandbox.Timedout"]}
    # A function that looks at long work runs out of time only if AWS hangs. Data prep would take as long again.
    assert {name for name, found in retriers.items() if late in found} == {
        *("Train", "Deploy", "FinishCustomize", "FinishImport", "DeployCustomModel", "AskBedrock"),
    }
    patient = {name for name, found in retriers.items() if HOUR in found or late in found}
    # An error at Bedrock's start does not stop the run: the last state tries again, for an hour. The cleanup writes the report.
    brief = {"Judge", "RegisterModel", "Customize", "ImportModel", "TellServing", "ReportServing", "Report"}
    assert set(tasks(synthesised)) - patient == brief
    assert all(
        state["Retry"][1:3] == [MINUTES, SECONDS] for name, state in tasks(synthesised).items() if name in patient
    )


def test_plans_package_has_the_training_code_that_plan_copies(synthesised: Synthesised) -> None:
    zips = [zipfile.ZipFile(path).namelist() for path in synthesised.folder.glob("asset.*.zip")]
    (shipped,) = [
        {name.removeprefix("training/") for name in names if name.startswith("training/")}
        for names in zips
        if "training/start.py" in names
    ]
    assert {"start.py", "train.py", "requirements.txt"} <= shipped
    assert Path(plan.__file__).resolve().parents[2] / "training" == training_code.FOLDER


def test_asl_validator_accepts_the_definition(synthesised: Synthesised, tmp_path: Path) -> None:
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(synthesised.definition))
    command = [ROOT / "node_modules" / ".bin" / "asl-validator", "--json-path", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
