"""The parts of a state's run in which MiniStack differs from AWS.

Sources: Amazon States Language specification and Step Functions Developer Guide: "Passing data between states
with variables" (scope), "Accessing execution data from the Context object", "Error handling" (States.ALL
catches neither States.DataLimitExceeded nor States.Runtime), "Step Functions service quotas" (payload), API
Reference GetExecutionHistory (events and their details).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions.runs import LOCK, RUN, TASK, Task, called_off, now
from local_aws.services.stepfunctions.tasks import check_size, integration

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER_CAUGHT_BY_WILDCARD = ("States.DataLimitExceeded", "States.Runtime")


# Differs: A retry's pause | AWS: capped by MaxDelaySeconds, random with JitterStrategy FULL | Here: both are ignored; at
#   most 60 s | Why: MiniStack's rule; Tuneway's states retry for an hour on AWS and for a quarter of an hour here
@engine.replaces("error_matches")
def error_matches(original: Callable[..., Any], error_equals: list[str], error: str) -> bool:
    """Keep States.ALL and States.TaskFailed from catching States.DataLimitExceeded and States.Runtime.

    An error of an attempt that has ended is neither retried nor caught.
    """
    if called_off():
        return False
    if error in _NEVER_CAUGHT_BY_WILDCARD:
        return error in error_equals
    return bool(original(error_equals, error))


def enter(definition: dict[str, Any], name: str, data: Any, execution: dict[str, Any], context: dict[str, Any]) -> None:
    """Record a state's entry in the context object and in the history."""
    context["State"] = {"Name": name, "EnteredTime": now(), "RetryCount": 0}
    details = {"name": name, "input": json.dumps(data)}
    engine.function("add_event")(
        execution, f"{definition.get('Type')}StateEntered", {"stateEnteredEventDetails": details}
    )


def execute(
    definition: dict[str, Any], data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> tuple[Any, str | None]:
    """Run an entered state. Return its output and the name of the next state.

    Raises ExecutionError, also for an output over the payload limit.
    """
    kind, name, task = str(definition.get("Type")), str(context["State"]["Name"]), None
    jsonata = engine.is_jsonata(definition, context)
    if kind == "Fail":
        raise ExecutionError(*engine.function("fail_state")(definition, data, context))
    if kind == "Succeed":
        output, following = engine.succeed_output(definition, data, context), None
        if jsonata and "Output" in definition:
            output = engine.evaluate_jsonata(definition["Output"], data, context)
    elif kind in ("Task", "Map", "Pass", "Choice", "Wait"):
        if kind == "Task":
            task = TASK.set(Task(name, jsonata, len(execution["events"])))
        rest = (execution, context) if kind in ("Task", "Map") else (context,)
        try:
            output, following = engine.function(kind)(definition, data, *rest)
        finally:
            if task is not None:
                TASK.reset(task)
    else:
        raise ExecutionError("States.Runtime", f"Unknown state type: {kind}")
    check_size(output, name)
    return output, following


def leave(definition: dict[str, Any], name: str, output: Any, execution: dict[str, Any]) -> None:
    """Record a state's end in the history."""
    engine.function("add_event")(
        execution,
        f"{definition.get('Type')}StateExited",
        {"stateExitedEventDetails": {"name": name, "output": json.dumps(output)}},
    )


@engine.replaces("add_event")
def add_event(
    original: Callable[..., Any], execution: dict[str, Any], kind: str, details: dict[str, Any] | None = None
) -> Any:
    """Add an event in the form that GetExecutionHistory documents. Add none of an attempt that has ended."""
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
