"""The states that register the model: by setting, before anything serves, and without a failure that ends the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.states import HOUR, SECONDS
from pipeline.contracts.events import RecordEvent, RegisterEvent
from pipeline.contracts.values import parse
from tests.infra.planned import MODEL, RUN
from tests.infra.test_definition import ANSWERS, run, serving, tasks, variables
from tests.proofs.retries import pauses

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

__all__ = ["variables"]


def without(variables: dict[str, Any]) -> dict[str, Any]:
    """Return `$plan` of a run without model_registry."""
    return {**variables["plan"], "register": None}


def test_the_model_is_registered_before_it_serves_whether_it_is_promoted_or_not(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    for promoted in (True, False):
        answer = {**ANSWERS["Assess"], "promoted": promoted}
        entered, events, output = run(synthesised, variables, Assess=answer)
        event = parse(RegisterEvent, events["RegisterModel"])
        assert (event.record.run, event.training.model, event.assessment.promoted) == (RUN, MODEL, promoted)
        assert event.plan.group == event.plan.tags[-1]["Value"]
        assert output["model_package"] == "arn:v"
        assert parse(RecordEvent, events["Record"]).registered.version == "arn:v"
        following = entered[entered.index("RegisterModel") + 1]
        assert following == "BedrockWanted"
    _, _, output = run(synthesised, variables, RegisterModel={**ANSWERS["RegisterModel"], "warnings": ["r"]})
    assert output["warnings"] == ["a", "long", "b", "r", "d", "held", "gone"]


def test_a_run_registers_nothing_without_the_setting_and_when_it_serves_an_earlier_model(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    for plan in (without(variables), serving(variables)):
        entered, events, output = run(synthesised, variables, Plan=plan)
        assert "RegisterModel" not in entered
        assert output["model_package"] is None
        assert parse(RecordEvent, events["Record"]).registered.version is None


def test_a_registration_that_fails_is_a_warning_and_the_model_serves(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    _, events, output = run(synthesised, variables, RegisterModel="fails")
    assert (output["promoted"], output["endpoint"], output["model_package"]) == (True, "e", None)
    (warning,) = [line for line in output["warnings"] if "Model Registry" in line]
    assert warning == (
        "the model may not be registered in the Model Registry, or not be approved or rejected there: E; look into the log "
        "of the function register-model"
    )
    assert parse(RecordEvent, events["Record"]).registered.version is None


def test_nothing_waits_long_for_the_registration(synthesised: Synthesised) -> None:
    retriers = tasks(synthesised)["RegisterModel"]["Retry"]
    retried = {error for retrier in retriers for error in retrier["ErrorEquals"]}
    assert {*HOUR["ErrorEquals"], *SECONDS["ErrorEquals"]} <= retried
    assert sum(sum(pauses({"BackoffRate": 1, **retrier})) for retrier in retriers) < 120
