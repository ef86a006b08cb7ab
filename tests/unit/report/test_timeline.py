"""The time line: loops are one phase, a redrive is another attempt, and a task's answer is its function's payload."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from report import timeline
from tests.unit.report.stories import BEGAN


def event(second: float, kind: str, name: str = "", **details: Any) -> dict[str, Any]:
    entered = {"stateEnteredEventDetails": {"name": name}} if name else {}
    return {"type": kind, "timestamp": BEGAN + timedelta(seconds=second), **entered, **details}


def answer(second: float, payload: Any) -> dict[str, Any]:
    return event(second, "TaskSucceeded", taskSucceededEventDetails={"output": json.dumps({"Payload": payload})})


def shown(told: timeline.Told) -> list[tuple[str, float, float | None, int]]:
    def seconds(at: Any) -> Any:
        return at and (at - BEGAN).total_seconds()

    return [(phase.name, seconds(phase.start), seconds(phase.end), phase.attempt) for phase in told.phases]


HISTORY = [
    event(0, "ExecutionStarted"),
    event(0, "TaskStateEntered", "Plan"),
    answer(1, {"run": "1"}),
    event(1, "ChoiceStateEntered", "Planned"),
    event(2, "TaskStateEntered", "Train"),
    answer(3, {"phase": "working"}),
    event(3, "WaitStateEntered", "WaitForTraining"),
    event(13, "TaskStateEntered", "Train"),
    event(14, "TaskFailed"),
    event(15, "ExecutionFailed"),
]


def test_a_loop_is_one_phase_that_ends_with_the_execution() -> None:
    told = timeline.read(HISTORY)
    assert shown(told) == [("Plan", 0, 2, 1), ("Train", 2, 15, 1)]
    assert told.answers == {"Plan": {"run": "1"}, "Train": {"phase": "working"}}


def test_a_redrive_is_another_attempt_whether_its_state_is_entered_again_or_not() -> None:
    entered = [
        event(100, "ExecutionRedriven"),
        event(100, "TaskStateEntered", "Train"),
        answer(120, {"phase": "completed"}),
    ]
    for again in (entered, [entered[0], entered[2]]):
        told = timeline.read([*HISTORY, *again, event(121, "TaskStateEntered", "Assess")])
        assert shown(told)[2:] == [("Train", 100, 121, 2), ("Assess", 121, None, 1)]
        assert told.answers["Train"] == {"phase": "completed"}


def test_an_output_that_is_cut_or_without_payload_is_no_answer() -> None:
    cut = event(1, "TaskSucceeded", taskSucceededEventDetails={"output": '{"Payload": {"a'})
    other = event(1, "TaskSucceeded", taskSucceededEventDetails={"output": '"text"'})
    assert timeline.read([HISTORY[1], cut, other]).answers == {}


def test_a_phase_knows_the_redrives_before_it_and_a_loop_of_two_steps_is_none() -> None:
    lost = [event(20, "TaskStateEntered", "Deploy"), event(30, "TaskStateEntered", "SmokeTest")]
    back = [event(40, "TaskStateEntered", "Deploy"), event(50, "ExecutionFailed")]
    redriven = [
        event(90, "ExecutionRedriven"),
        event(90, "TaskStateEntered", "Deploy"),
        event(99, "ExecutionSucceeded"),
    ]
    phases = timeline.read([*lost, *back, *redriven]).phases
    assert [(phase.name, phase.attempt, phase.redrives) for phase in phases] == [
        ("Deploy", 1, 0),
        ("SmokeTest", 1, 0),
        ("Deploy", 2, 0),
        ("Deploy", 3, 1),
    ]
