"""Where MiniStack runs a state differently from AWS, and what is put in its place.

Sources: Amazon States Language specification and Step Functions Developer Guide: "Passing data between states
with variables" (scope), "Accessing execution data from the Context object", "Error handling" (States.ALL
catches neither States.DataLimitExceeded nor States.Runtime), "Parallel workflow state" (a failed branch stops
the others), "Step Functions service quotas" (payload), API Reference GetExecutionHistory (events and their
details).
"""

from __future__ import annotations

import contextvars
import json
import threading
from typing import TYPE_CHECKING, Any

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions.runs import SCOPE, TASK, Scope, Task, now
from local_aws.services.stepfunctions.tasks import check_size

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER_CAUGHT_BY_WILDCARD = ("States.DataLimitExceeded", "States.Runtime")
# The child workflow execution of a Distributed Map that this thread runs: it sees no variable from outside.
_CHILD: contextvars.ContextVar[str] = contextvars.ContextVar("states_child", default="")


# Differs: A retry's pause
#   AWS: capped by MaxDelaySeconds, drawn with JitterStrategy FULL
#   Here: neither is looked at; at most 60 s
#   Why: MiniStack's: the hour for which Tuneway's states try again is a quarter of an hour here
@engine.replaces("error_matches")
def error_matches(original: Callable[..., Any], error_equals: list[str], error: str) -> bool:
    """States.ALL and States.TaskFailed catch neither States.DataLimitExceeded nor States.Runtime.

    What was called off is neither retried nor caught.
    """
    scope = SCOPE.get()
    if scope is not None and scope.cancelled:
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


@engine.replaces("Pass", "Task", "Choice", "Wait", "Parallel", "Map")
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


# Unconfirmed: A variable in a branch with the name of an outer one
#   Here: a variable of its own
#   Source: AWS may refuse such a definition
@engine.replaces("run_branch")
def run_branch(
    _original: Any, states: dict[str, Any], start: str, data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> Any:
    """A branch or an iteration: variables of its own on top of those it can read, and its states in the history."""
    outer = context.get("variables", {})
    if execution.get("mapRunArn") and _CHILD.get() != execution["executionArn"]:
        _CHILD.set(execution["executionArn"])
        outer = {}
    context = {**context, "variables": dict(outer)}
    name: str | None = start
    while name:
        scope = SCOPE.get()
        if scope is not None and scope.cancelled:
            raise ExecutionError("States.Aborted", "the branch was called off")
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
    if kind not in ("Task", "Parallel", "Map", "Pass", "Choice", "Wait"):
        raise ExecutionError("States.Runtime", f"Unknown state type: {kind}")
    rest = (execution, context) if kind in ("Task", "Parallel", "Map") else (context,)
    output, following = engine.function(kind)(definition, data, *rest)
    return output, following


def leave(definition: dict[str, Any], name: str, output: Any, execution: dict[str, Any]) -> None:
    """A state's end in the history."""
    engine.function("add_event")(
        execution,
        f"{definition.get('Type')}StateExited",
        {"stateExitedEventDetails": {"name": name, "output": json.dumps(output)}},
    )


@engine.replaces("run_parallel")
def run_parallel(
    _original: Any, definition: dict[str, Any], raw_input: Any, execution: dict[str, Any], context: dict[str, Any]
) -> Any:
    """A Parallel state: Arguments, Output and Assign in JSONata; the first failed branch calls off the others."""
    jsonata = engine.is_jsonata(definition, context)
    if jsonata:
        arguments = definition.get("Arguments")
        effective = raw_input if arguments is None else engine.evaluate_jsonata(arguments, raw_input, context)
    else:
        effective = engine.jsonpath_input(definition, raw_input, context)
    results = _run_branches(definition["Branches"], effective, execution, context)
    following = None if definition.get("End") else definition.get("Next")
    if not jsonata:
        return engine.jsonpath_output(definition, raw_input, context, results), following
    template = definition.get("Output")
    output = results if template is None else engine.evaluate_jsonata(template, raw_input, context, results)
    engine.assign_variables(definition, raw_input, context, results)
    return output, following


def _run_branches(branches: list[Any], data: Any, execution: dict[str, Any], context: dict[str, Any]) -> list[Any]:
    scope = Scope(SCOPE.get())
    results: list[Any] = [None] * len(branches)
    failures: list[Exception] = []
    changed = threading.Condition()
    left = len(branches)

    def run(index: int) -> None:
        nonlocal left
        SCOPE.set(scope)
        branch, failure = branches[index], None
        try:
            results[index] = engine.function("run_branch")(
                branch["States"], branch["StartAt"], data, execution, dict(context)
            )
        except ExecutionError as error:
            failure = error
        except Exception as error:
            failure = ExecutionError("States.BranchFailed", str(error))
        with changed:
            left -= 1
            if failure is not None:
                failures.append(failure)
                scope.ended.set()
            changed.notify_all()

    for index in range(len(branches)):
        threading.Thread(target=contextvars.copy_context().run, args=(run, index), daemon=True).start()
    with changed:
        changed.wait_for(lambda: left == 0 or failures)
    if failures:
        raise failures[0]
    return results
