"""The state of the judge model: by setting, between training and Assess, and without a failure that ends the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from infra.states import HOUR, SECONDS
from pipeline.contracts.events import AssessEvent, Judged, JudgeEvent
from pipeline.contracts.planned import JudgePlan
from pipeline.contracts.values import as_json, parse
from tests.infra.planned import MODEL, RUN
from tests.infra.test_definition import ANSWERS, run, serving, tasks, variables
from tests.infra.test_settings import granted, objects

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

__all__ = ["variables"]

PLAN = JudgePlan("us.amazon.nova-lite-v1:0", 50, 10_000, 0.06, 0.24)
FOUND = Judged(None, ["j"], {"rows": 50}, 0.01, "1 input token")


def judged(variables: dict[str, Any]) -> dict[str, Any]:
    """Return `$plan` of a run with a judge model."""
    return {**variables["plan"], "judge": as_json(PLAN)}


def test_the_answers_are_compared_before_assess_and_once_the_job_is_completed(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    working = {**ANSWERS["Train"], "phase": "working", "wait_seconds": 10}
    entered, events, _ = run(
        synthesised,
        variables,
        Plan=judged(variables),
        Train=[working, ANSWERS["Train"]],
        Judge=as_json(FOUND),
    )
    assert entered[2:9] == ["DataPath", "PrepareData", "Prepared", "Train", "Trained", "WaitForTraining", "Train"]
    assert entered[9:12] == ["Trained", "Judge", "Assess"]
    event = parse(JudgeEvent, events["Judge"])
    assert (event.plan, event.record.run, event.training.model) == (PLAN, RUN, MODEL)
    assert parse(AssessEvent, events["Assess"]).judged == FOUND


def test_a_run_without_a_judge_model_and_one_that_trains_nothing_ask_none(
    synthesised: Synthesised, variables: dict[str, Any]
) -> None:
    for plan in (variables["plan"], serving(variables)):
        entered, events, _ = run(synthesised, variables, Plan=plan)
        assert "Judge" not in entered
        assert events.get("Assess", {}).get("judged") is None


def test_a_judge_that_fails_loses_no_model(synthesised: Synthesised, variables: dict[str, Any]) -> None:
    entered, events, output = run(synthesised, variables, Plan=judged(variables), Judge="fails")
    assert entered[entered.index("Judge") + 1] == "Assess"
    assert parse(AssessEvent, events["Assess"]).judged == Judged(
        "the judge model has given no win rate: E; look into the log of the function judge, or set "
        "training.evaluation.judge_model to null and deploy",
        [],
    )
    assert (output["promoted"], output["endpoint"]) == (True, "e")


def test_nothing_waits_long_for_the_judge(synthesised: Synthesised) -> None:
    retriers = tasks(synthesised)["Judge"]["Retry"]
    retried = {error for retrier in retriers for error in retrier["ErrorEquals"]}
    assert {*HOUR["ErrorEquals"], *SECONDS["ErrorEquals"]} <= retried
    assert HOUR not in retriers


def test_the_role_may_call_the_named_model_alone_and_none_without_the_setting(
    synthesised: Synthesised, everything: Synthesised
) -> None:
    role = "FunctionsJudge"
    assert list(granted(synthesised, role, "bedrock")) == []
    assert objects(synthesised, role, "s3:GetObject") == set()
    calls = {(action, json.loads(r)["Fn::Join"][1][-1]) for action, r, _ in granted(everything, role, "bedrock")}
    models = {f":bedrock:{region}::foundation-model/amazon.nova-lite-v1:0" for region in ("us-east-1", "us-east-2")}
    models |= {":bedrock:us-west-2::foundation-model/amazon.nova-lite-v1:0"}
    profile = ":inference-profile/us.amazon.nova-lite-v1:0"
    assert calls == {("bedrock:InvokeModel", resource) for resource in (*models, profile)}
    verdicts = "models/*/judge.json"
    assert objects(everything, role, "s3:GetObject") == {"models/*/*/tuneway/answers.jsonl", verdicts}
    assert objects(everything, role, "s3:PutObject") == {verdicts}
    assert verdicts in objects(everything, "FunctionsReport", "s3:GetObject")
