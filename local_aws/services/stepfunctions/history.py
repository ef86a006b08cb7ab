"""The events of an execution, with the details that GetExecutionHistory documents (Step Functions API Reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_aws.ministack import states as engine
from local_aws.services.stepfunctions.runs import LOCK, RUN, TASK
from local_aws.services.stepfunctions.tasks import integration

if TYPE_CHECKING:
    from collections.abc import Callable


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
