"""Reads the time line and the steps' answers from an execution's history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from report.story import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_TASKS = ("TaskStateEntered", "MapStateEntered")
_ENDS = ("ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted", "ExecutionSucceeded")


class Told(NamedTuple):
    """What an execution's history tells.

    Attributes:
        phases: the tasks in their order. The turns of a loop are one phase.
        answers: the last answer of each task's function, by the state's name.
    """

    phases: list[Phase]
    answers: dict[str, Any]


def read(events: Iterable[dict[str, Any]]) -> Told:
    """Return what the events of an execution tell, from the first one on.

    A task lasts until another one begins. So its Choice and its Wait belong to it, and a loop of looks is one phase. Another
    attempt begins after a redrive, and when a run comes back to a task, as from SmokeTest to Deploy.
    """
    phases: list[Phase] = []
    answers: dict[str, Any] = {}
    name, redrives = "", 0
    for event in events:
        kind, at = event["type"], event["timestamp"]
        if kind in _TASKS:
            entered = event["stateEnteredEventDetails"]["name"]
            if entered != name or not phases or phases[-1].end:
                _close(phases, at)
                phases.append(_begun(entered, at, phases, redrives))
            name = entered
        elif kind == "TaskSucceeded" and name:
            answer = _answer(event.get("taskSucceededEventDetails", {}).get("output"))
            if answer is not None:
                answers[name] = answer
        elif kind in _ENDS:
            _close(phases, at)
        elif kind == "ExecutionRedriven":
            redrives += 1
            if name:
                phases.append(_begun(name, at, phases, redrives))
    return Told(phases, answers)


def _begun(name: str, at: datetime, before: list[Phase], redrives: int) -> Phase:
    return Phase(name, at, None, 1 + sum(phase.name == name for phase in before), redrives)


def _close(phases: list[Phase], at: datetime) -> None:
    if phases and phases[-1].end is None:
        phases[-1] = phases[-1]._replace(end=at)


def _answer(output: str | None) -> Any:
    """Return the answer of a function in the output of a task. It is None if the output is not complete JSON."""
    try:
        return json.loads(output or "").get("Payload")
    except (ValueError, AttributeError):
        return None


def job_phases(description: dict[str, Any]) -> list[Phase]:
    """Return the statuses of a training job (DescribeTrainingJob), in order."""
    return [
        Phase(one["Status"], one["StartTime"], one.get("EndTime"))
        for one in description.get("SecondaryStatusTransitions", [])
    ]
