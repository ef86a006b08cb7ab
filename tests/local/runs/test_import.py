"""Runs that import the tuned model into Bedrock: it answers there with the endpoint's words, and the older one goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.runs.test_life import read

if TYPE_CHECKING:
    from tests.local.deployed import Deployed
    from tests.local.runs.conftest import GatedRun

IMPORT: dict[str, Any] = {"bedrock": {"mode": "import"}}


@pytest.fixture(scope="module")
def imported(gated_import: GatedRun) -> dict[str, Any]:
    return gated_import.ended


def test_the_tuned_model_answers_in_bedrock_with_the_endpoints_words(stack: Deployed, imported: dict[str, Any]) -> None:
    output = imported["output"]
    assert output["bedrock"] == "imported, answers by Converse"
    assert output["bedrock_model_id"] == output["imported_model"]
    assert output["custom_model"] is None
    assert [line for line in output["warnings"] if "is billed for 5 minutes of each copy and unit at least" in line]
    _, endpoint, bedrock = (json.loads(read(stack, uri)) for uri in output["samples"])
    words = {json.dumps(row["prompt"]): row["answer"] for row in endpoint}
    same = [row for row in bedrock if json.dumps(row["prompt"]) in words]
    assert same
    assert [row["answer"] for row in same] == [words[json.dumps(row["prompt"])] for row in same]
    record = json.loads(read(stack, output["run"]))
    assert (record["bedrock_mode"], record["bedrock"]["imported_model"]) == ("import", output["imported_model"])
    spent = {part["part"]: part["usd"] for part in record["spent"]["parts"]}
    assert spent["bedrock"] == 2.73  # of the one unit that Bedrock tells


def test_the_import_is_followed_when_the_endpoint_serves(stack: Deployed, imported: dict[str, Any]) -> None:
    states = stack.states(imported["executionArn"])
    order = [
        "ImportModel",
        "Deploy",
        "SmokeTest",
        "TellServing",
        "FinishImport",
        "AskBedrock",
        "RetireModels",
        "Record",
    ]
    assert [states.index(state) for state in order] == sorted(states.index(state) for state in order)
    assert not {"Customize", "DeployCustomModel"} & set(states)


def test_the_next_runs_model_takes_its_place(stack: Deployed, imported: dict[str, Any]) -> None:
    again = stack.run(IMPORT)
    assert again["status"] == "SUCCEEDED", again.get("cause")
    models = stack.aws.client("bedrock").list_imported_models(nameContains=stack.prefix)["modelSummaries"]
    assert [model["modelArn"] for model in models] == [again["output"]["imported_model"]]
    assert again["output"]["imported_model"] != imported["output"]["imported_model"]
