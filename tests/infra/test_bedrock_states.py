"""The states that make the run's model in Bedrock: a customization or an import, the deployment, the questions, the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.planned import MODEL, assigned
from tests.infra.test_definition import ANSWERS, run

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised


@pytest.fixture(scope="session")
def variables(synthesised: Synthesised) -> dict[str, Any]:
    return assigned(synthesised)


def plan_of(variables: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**variables, "plan": {**variables["plan"], **changes}}


def test_without_bedrock_nobody_waits_for_it(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    entered, events, output = run(synthesised, plan_of(variables, customize=None, import_model=None))
    assert not {"Customize", "ImportModel", "FollowBedrock", "TellServing", "RetireModels"} & set(entered)
    assert (output["bedrock"], output["custom_model"], output["promoted"]) == ("not wanted", None, True)
    assert (output["bedrock_model_id"], output["bedrock_call"]) == (None, None)
    assert events["Record"]["bedrock"]["model"] is None
    assert events["Record"]["answer"] is None


def test_an_import_starts_before_the_endpoint_and_is_asked_after_it(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    looking = {**ANSWERS["FinishImport"], "phase": "working", "wait_seconds": 10}
    entered, events, output = run(
        synthesised, plan_of(variables, customize=None), FinishImport=[looking, ANSWERS["FinishImport"]]
    )
    order = ["ImportModel", "Deploy", "SmokeTest", "RecordServing", "TellServing", "FinishImport", "WaitForImport"]
    order += ["FinishImport", "AskBedrock", "RetireModels", "Record"]
    assert [name for name in entered if name in order] == order
    assert events["ImportModel"]["model"] == events["FinishImport"]["model"] == MODEL
    assert (events["ImportModel"]["follow"], events["FinishImport"]["follow"]) == (False, True)
    assert (events["AskBedrock"]["model_id"], events["RetireModels"]["model"]) == ("arn:i", "arn:i")
    assert (output["bedrock"], output["imported_model"], output["custom_model"]) == (
        "imported, answers by Converse",
        "arn:i",
        None,
    )


def test_a_model_that_does_not_pass_is_not_imported(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    failed = {**ANSWERS["Assess"], "promoted": False, "passes": False}
    entered, _, output = run(synthesised, plan_of(variables, customize=None), Assess=failed)
    assert not {"ImportModel", "FinishImport", "AskBedrock", "RetireModels"} & set(entered)
    assert output["bedrock"] == "not imported, because the model does not pass endpoint.promote"
    # One that passes is imported also where no endpoint is wanted.
    entered, _, output = run(
        synthesised, plan_of(variables, customize=None), Assess={**ANSWERS["Assess"], "promoted": False}
    )
    assert ("Deploy" in entered, output["imported_model"]) == (False, "arn:i")


def test_a_custom_model_that_cannot_be_deployed_is_only_kept(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    customize = {**variables["plan"]["customize"], "deployment": None}
    entered, _, output = run(synthesised, plan_of(variables, customize=customize))
    assert not {"DeployCustomModel", "AskBedrock"} & set(entered)
    assert "RetireModels" in entered
    assert (output["custom_model"], output["bedrock_model_id"]) == ("arn:c", None)
    superseded = {**ANSWERS["DeployCustomModel"], "phase": "superseded", "progress": "deployment d has another's"}
    entered, _, output = run(synthesised, variables, DeployCustomModel=superseded)
    assert ("AskBedrock" in entered, output["bedrock_call"]) == (False, None)
    assert output["bedrock"] == "completed, deployment d has another's"


def test_models_of_earlier_runs_that_cannot_be_deleted_are_a_warning(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    _, _, output = run(synthesised, variables, RetireModels="fails")
    assert output["warnings"][-2] == "models of earlier runs may be left in Bedrock, and cost storage: E"


def test_what_refuses_bedrocks_job_holds_nothing_back(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    entered, events, output = run(synthesised, variables, Customize="fails")
    assert entered.index("SmokeTest") < entered.index("FinishCustomize")
    assert (
        "Bedrock: refused the job, which is tried again at the end of the run: E\n" in events["TellServing"]["Message"]
    )
    assert output["custom_model"] == "arn:c"
