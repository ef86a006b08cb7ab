"""The plan of a soak: the same seed gives the same plan, and every kind of action is drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from infra.steps import STEPS
from local_aws.core import faults
from tests.proofs.soak import planner
from tests.proofs.soak.planner import KINDS, STATES, Act, SoakStep, first


def acts(steps: list[SoakStep]) -> list[Act]:
    return [act for step in steps for one in step.rounds for act in one.acts]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert first(7, 50) == first(7, 50)
    assert first(7, 50) != first(8, 50)


def test_a_longer_plan_begins_with_the_shorter_one() -> None:
    short = first(3, 20)
    assert first(3, 60)[: len(short)] == short
    assert sum(len(step.runs) for step in short) in (20, 21)


def test_fifty_executions_have_every_kind_of_action() -> None:
    steps = first(1, 50)
    assert {act.kind for act in acts(steps)} == {"fault", "stop", "time out", "deploy", "expire", "destroy"}
    assert {step.between for step in steps} == {"", "deploy", "expire", "destroy"}
    assert {len(step.runs) for step in steps} == {1, 2}
    assert {one.hasty for step in steps for one in step.rounds[1:]} == {True, False}
    assert {step.by_cli for step in steps} == {True, False}
    assert {step.variant for step in steps} == {0, 1}


def test_all_kinds_of_inputs_faults_and_work_are_drawn() -> None:
    steps = [step for seed in range(12) for step in first(seed, 50)]
    assert {run.kind for step in steps for run in step.runs} == set(KINDS)
    drawn = [act for act in acts(steps) if act.fault]
    assert {act.state for act in drawn} == {*STATES, "Cleanup", "Teardown"} - {
        *("ShardData", "RecordServing", "FinishCustomize", "FinishImport", "Report")  # no fault is theirs alone
    }
    hows = Counter((act.fault["kind"], act.fault.get("how", "")) for act in drawn if act.fault)
    assert {how for kind, how in hows if kind == "function"} == {"throttle", "crash", "memory", "timeout", "stuck"}
    for kind, (ways, _) in planner.WORK.items():
        assert {how for found, how in hows if found == kind} == set(ways)
    assert {"error", "deny", "lost"} <= {kind for kind, _ in hows}
    assert {act.fault["code"] for act in drawn if act.fault and "code" in act.fault} == {
        *("ThrottlingException", "InternalFailure", "ServiceUnavailable", "ValidationException")
    }


def test_local_aws_knows_every_fault_of_the_plan() -> None:
    for act in acts([step for seed in range(12) for step in first(seed, 50)]):
        if act.fault:
            assert faults.parse(act.fault)
            assert act.seconds > 0


def test_a_moment_is_a_state_that_its_execution_may_enter() -> None:
    for step in [step for seed in range(12) for step in first(seed, 50)]:
        for act in (act for one in step.rounds for act in one.acts):
            kind = step.runs[act.at.run].kind
            assert act.at.state == "" or act.at.state in planner.states_of(kind), (step.number, str(act))


def test_the_first_step_is_a_good_run_alone() -> None:
    for seed in range(12):
        (step,) = first(seed, 1)
        assert [run.kind for run in step.runs] == ["quick"]
        assert step.rounds[0].acts == ()


@pytest.mark.parametrize("state", planner.CALLS)
def test_the_functions_of_the_plan_are_those_of_the_stack(state: str) -> None:
    function, role, actions, making = planner.CALLS[state]
    assert function.replace("-", "_") in STEPS
    assert role == "".join(word.title() for word in function.split("-"))
    assert actions
    assert making


def test_a_step_says_all_that_it_does() -> None:
    for step in first(1, 50):
        text = "\n".join(step.lines())
        for one in step.rounds:
            for act in one.acts:
                assert str(act) in text
        assert text.count("redrive ") == len(step.rounds) - 1


def test_only_what_hides_a_dataset_may_make_a_good_run_end_as_refused() -> None:
    for act in acts([step for seed in range(12) for step in first(seed, 50)]):
        hides = act.state in ("Plan", "PrepareData", "MergeData") and act.what.startswith(("deny", "refused call"))
        assert act.may_refuse == hides, str(act)
