"""Where MiniStack runs a state differently from AWS, and what is put in its place.

Sources: Amazon States Language specification and Step Functions Developer Guide: "Passing data between states
with variables" (scope), "Accessing execution data from the Context object", "Error handling" (States.ALL
catches neither States.DataLimitExceeded nor States.Runtime), "Step Functions service quotas" (payload), API
Reference GetExecutionHistory (events and their details).
"""

from __future__ import annotations

import contextvars
import json
from typing import TYPE_CHECKING, Any

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions.runs import LOCK, RUN, TASK, Task, called_off, now
from local_aws.services.stepfunctions.tasks import check_size, integration

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER_CAUGHT_BY_WILDCARD = ("States.DataLimitExceeded", "States.Runtime")
# The child workflow execution of a Distributed Map that this thread runs: it sees no variable from outside.
_CHILD: contextvars.ContextVar[str] = contextvars.ContextVar("states_child", default="")


# Differs: A retry's pause | AWS: capped by MaxDelaySeconds, drawn with JitterStrategy FULL | Here: neither is looked
#   at; at most 60 s | Why: MiniStack's: the hour for which Tuneway's states try again is a quarter of an hour here
@engine.replaces("error_matches")
def error_matches(original: Callable[..., Any], error_equals: list[str], error: str) -> bool:
    """States.ALL and States.TaskFailed catch neither States.DataLimitExceeded nor States.Runtime.

    What was called off is neither retried nor caught.
    """
    if called_off():
        return False
    if error in _NEVER_CAUGHT_BY_WILDCARD:
        return error in error_equals
    return bool(original(error_equals, error))


@engine.replaces("output_path")
def output_path(
    original: Callable[..., Any], state: dict[str, Any], data: Any, context: dict[str, Any] | None = None
) -> Any:
    """A JSONata Succeed state may have an Output."""
    if state.get("Type") != "Succeed":
        return original(state, data, context)
    if engine.is_jsonata(state, context or {}):
        data = engine.evaluate_jsonata(state["Output"], data, context) if "Output" in state else data
    else:
        data = original(state, data, context)
    check_size(data, _name(context))
    return data


def _name(context: dict[str, Any] | None) -> str:
    return str((context or {}).get("State", {}).get("Name", ""))


@engine.replaces("Pass", "Task", "Choice", "Wait", "Map")
def state(original: Callable[..., Any], definition: dict[str, Any], raw_input: Any, *rest: Any) -> Any:
    """One state: its output may not pass the payload limit."""
    context = rest[-1] if rest else None
    name = _name(context)
    token = None
    if definition.get("Type") == "Task" and context is not None:
        entered = len(rest[0].get("events", [])) if isinstance(rest[0], dict) else 0
        token = TASK.set(Task(name, engine.is_jsonata(definition, context), entered))
    try:
        output, following = original(definition, raw_input, *rest)
    finally:
        if token is not None:
            TASK.reset(token)
    check_size(output, name)
    return output, following


# Unconfirmed: A variable in a branch with the name of an outer one | Here: a variable of its own | Source: AWS may
#   refuse such a definition
@engine.replaces("run_branch")
def run_branch(
    _original: Any, states: dict[str, Any], start: str, data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> Any:
    """An iteration of a Map: variables of its own on top of those it can read, and its states in the history."""
    outer = context.get("variables", {})
    if execution.get("mapRunArn") and _CHILD.get() != execution["executionArn"]:
        _CHILD.set(execution["executionArn"])
        outer = {}
    context = {**context, "variables": dict(outer)}
    name: str | None = start
    while name:
        if called_off():
            raise ExecutionError("States.Aborted", "the iteration was called off")
        if name not in states:
            raise ExecutionError("States.Runtime", f"State '{name}' not found")
        enter(states[name], name, data, execution, context)
        output, following = execute(states[name], data, execution, context)
        leave(states[name], name, output, execution)
        data, name = output, following
    return data


def enter(definition: dict[str, Any], name: str, data: Any, execution: dict[str, Any], context: dict[str, Any]) -> None:
    """A state's entry, in the context object and in the history."""
    context["State"] = {"Name": name, "EnteredTime": now(), "RetryCount": 0}
    details = {"name": name, "input": json.dumps(data)}
    engine.function("add_event")(
        execution, f"{definition.get('Type')}StateEntered", {"stateEnteredEventDetails": details}
    )


def execute(
    definition: dict[str, Any], data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> tuple[Any, str | None]:
    """A state that was entered: its output, and the state after it. Raises ExecutionError."""
    kind = str(definition.get("Type"))
    if kind == "Fail":
        raise ExecutionError(*engine.function("fail_state")(definition, data, context))
    if kind == "Succeed":
        return engine.succeed_output(definition, data, context), None
    if kind not in ("Task", "Map", "Pass", "Choice", "Wait"):
        raise ExecutionError("States.Runtime", f"Unknown state type: {kind}")
    rest = (execution, context) if kind in ("Task", "Map") else (context,)
    output, following = engine.function(kind)(definition, data, *rest)
    return output, following


def leave(definition: dict[str, Any], name: str, output: Any, execution: dict[str, Any]) -> None:
    """A state's end in the history."""
    engine.function("add_event")(
        execution,
        f"{definition.get('Type')}StateExited",
        {"stateExitedEventDetails": {"name": name, "output": json.dumps(output)}},
    )


@engine.replaces("add_event")
def add_event(
    original: Callable[..., Any], execution: dict[str, Any], kind: str, details: dict[str, Any] | None = None
) -> Any:
    """Events as GetExecutionHistory documents them; none from what is left of an attempt that has ended."""
    with LOCK:
        run = RUN.get()
        if run is not None and run.ended.is_set():
            return {}
        arn = next((d.get("resource", "") for d in (details or {}).values() if isinstance(d, dict)), "")
        if kind.startswith("Task") and arn.startswith("arn:"):
            return _task_event(original, execution, kind, arn, next(iter((details or {}).values())))
        event = original(execution, kind, details)
        event["previousEventId"] = event["id"] - 1
        return event


def _task_event(
    original: Callable[..., Any], execution: dict[str, Any], kind: str, arn: str, details: dict[str, Any]
) -> Any:
    name, task = integration(arn), TASK.get()
    body = {key: value for key, value in details.items() if key not in ("resource", "resourceType")}
    if name is None:
        kind = kind.replace("Task", "LambdaFunction")
        head = {"resource": arn} if kind == "LambdaFunctionScheduled" else {}
    else:
        head = dict(zip(("resourceType", "resource"), name.split(":"), strict=True))
    if kind == "TaskFailed" and details.get("error") == "States.Timeout":
        kind = "TaskTimedOut"
    if kind == "TaskScheduled":
        body |= {"region": execution["executionArn"].split(":")[3], "parameters": "{}"}
    event = _add(original, execution, kind, head | body)
    if kind in ("TaskScheduled", "LambdaFunctionScheduled"):
        if task is not None and kind == "TaskScheduled":
            task.scheduled = event["taskScheduledEventDetails"]
        _add(original, execution, kind.replace("Scheduled", "Started"), head if kind == "TaskScheduled" else {})
    return event


def _add(original: Callable[..., Any], execution: dict[str, Any], kind: str, body: dict[str, Any]) -> Any:
    event = original(execution, kind, {f"{kind[0].lower()}{kind[1:]}EventDetails": body} if body else None)
    event["previousEventId"] = event["id"] - 1
    return event
