"""Where MiniStack runs a state machine differently from AWS, and what is put in its place.

Sources: Amazon States Language specification and Step Functions Developer Guide: "Passing data between states
with variables" (scope), "Accessing execution data from the Context object", "Error handling" (States.ALL
catches neither States.DataLimitExceeded nor States.Runtime), "Parallel workflow state" (a failed branch stops
the others), "Step Functions service quotas" (payload), API Reference GetExecutionHistory (events and their
details).
"""

from __future__ import annotations

import contextvars
import json
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local import private
from local.private import ExecutionError
from local.stepfunctions.runs import RUN, SCOPE, TASK, Run, Scope, Task
from local.stepfunctions.tasks import PAYLOAD_LIMIT, check_size

if TYPE_CHECKING:
    from collections.abc import Callable

_BRANCH_GRACE_SECONDS = 5.0  # How long a failed Parallel waits for its other branches to stop their jobs.
_NEVER_CAUGHT_BY_WILDCARD = ("States.DataLimitExceeded", "States.Runtime")
_runs: dict[str, Run] = {}
# The child workflow execution of a Distributed Map that this thread runs: it sees no variable from outside.
_CHILD: contextvars.ContextVar[str] = contextvars.ContextVar("states_child", default="")


def run_execution(endpoint_url: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An execution with its role, and with the machine's own TimeoutSeconds."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(arn: str) -> None:
            execution = private.states_execution(arn)
            machine = private.states_machine(execution["stateMachineArn"]) if execution else None
            if execution is None or machine is None:
                original(arn)
                return
            current = Run(execution, machine["roleArn"], arn.split(":")[3], endpoint_url)
            _runs[arn] = current
            tokens = RUN.set(current), SCOPE.set(current.scope)
            timer = _start_timer(current, machine["definition"])
            try:
                original(arn)
            finally:
                if timer is not None:
                    timer.cancel()
                current.scope.ended.set()
                _runs.pop(arn, None)
                RUN.reset(tokens[0])
                SCOPE.reset(tokens[1])

        return run

    return make


def _start_timer(run: Run, definition: str) -> threading.Timer | None:
    seconds = json.loads(definition).get("TimeoutSeconds")
    if not seconds:
        return None
    timer = threading.Timer(float(seconds), contextvars.copy_context().run, (_time_out, run))
    timer.daemon = True
    timer.start()
    return timer


def _time_out(run: Run) -> None:
    execution = run.execution
    if execution["status"] != "RUNNING":
        return
    execution.update(
        status="TIMED_OUT", error="States.Timeout", stopDate=datetime.now(UTC).isoformat().replace("+00:00", "Z")
    )
    run.scope.ended.set()
    private.states_function("add_event")(
        execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {"error": "States.Timeout"}}
    )
    private.states_announce(execution)


def start_execution(original: Callable[..., Any]) -> Callable[..., Any]:
    """StartExecution refuses an input that is too long or no JSON, and a name that is not one."""

    def start(data: dict[str, Any]) -> Any:
        text, name = data.get("input", "{}"), data.get("name")
        if len(text.encode()) > PAYLOAD_LIMIT:
            return private.states_error_response(
                "ValidationException",
                "1 validation error detected: Value at 'input' failed to satisfy constraint: "
                f"Member must have length less than or equal to {PAYLOAD_LIMIT}",
            )
        try:
            json.loads(text)
        except ValueError as error:
            return private.states_error_response(
                "InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'"
            )
        if name is not None and (
            not 1 <= len(name) <= 80 or re.search(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f]", name)
        ):
            return private.states_error_response("InvalidName", f"Invalid Name: '{name}'")
        return original(data)

    return start


def stop_execution(original: Callable[..., Any]) -> Callable[..., Any]:
    """StopExecution also tells the running tasks, which stop their jobs."""

    def stop(data: dict[str, Any]) -> Any:
        answer = original(data)
        run = _runs.get(data.get("executionArn", ""))
        if run is not None and run.execution["status"] == "ABORTED":
            run.scope.ended.set()
        return answer

    return stop


def describe_execution(original: Callable[..., Any]) -> Callable[..., Any]:
    """DescribeExecution with its redrive count; an execution that did not succeed has no output."""

    def describe(data: dict[str, Any]) -> Any:
        status, headers, body = original(data)
        if status != 200:
            return status, headers, body
        document = {name: value for name, value in json.loads(body).items() if value is not None}
        if document.get("status") != "SUCCEEDED":
            document.pop("output", None)
            document.pop("outputDetails", None)
        return private.states_json_response(document | {"redriveCount": 0})

    return describe


def fail_execution(original: Callable[..., Any]) -> Callable[..., Any]:
    """An execution that was stopped or timed out stays so, whatever its last task says."""

    def fail(execution: dict[str, Any], error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":
            original(execution, error, cause)

    return fail


def error_matches(original: Callable[..., Any]) -> Callable[..., Any]:
    """States.ALL and States.TaskFailed catch neither States.DataLimitExceeded nor States.Runtime."""

    def matches(error_equals: list[str], error: str) -> bool:
        if error in _NEVER_CAUGHT_BY_WILDCARD:
            return error in error_equals
        return bool(original(error_equals, error))

    return matches


def _complete_context(context: dict[str, Any] | None) -> None:
    run = RUN.get()
    if context is not None and run is not None and "Execution" in context:
        context["Execution"].setdefault("RedriveCount", 0)
        context["Execution"].setdefault("RoleArn", run.role_arn)


def fail_state(original: Callable[..., Any]) -> Callable[..., Any]:
    """A Fail state sees the whole context object."""

    def fail(state: dict[str, Any], raw_input: Any, context: dict[str, Any] | None = None) -> Any:
        _complete_context(context)
        return original(state, raw_input, context)

    return fail


def output_path(original: Callable[..., Any]) -> Callable[..., Any]:
    """A JSONata Succeed state may have an Output."""

    def apply(state: dict[str, Any], data: Any, context: dict[str, Any] | None = None) -> Any:
        if state.get("Type") != "Succeed":
            return original(state, data, context)
        _complete_context(context)
        if private.is_jsonata(state, context or {}):
            data = private.evaluate_jsonata(state["Output"], data, context) if "Output" in state else data
        else:
            data = original(state, data, context)
        check_size(data, _name(context))
        return data

    return apply


def _name(context: dict[str, Any] | None) -> str:
    return str((context or {}).get("State", {}).get("Name", ""))


def state(original: Callable[..., Any]) -> Callable[..., Any]:
    """One state: its context is whole, and its output may not pass the payload limit."""

    def execute(definition: dict[str, Any], raw_input: Any, *rest: Any) -> Any:
        context = rest[-1] if rest else None
        _complete_context(context)
        name = _name(context)
        token = None
        if definition.get("Type") == "Task" and context is not None:
            entered = len(rest[0].get("events", [])) if isinstance(rest[0], dict) else 0
            token = TASK.set(
                Task(name, definition.get("Resource", ""), private.is_jsonata(definition, context), entered)
            )
        try:
            output, following = original(definition, raw_input, *rest)
        finally:
            if token is not None:
                TASK.reset(token)
        check_size(output, name)
        return output, following

    return execute


def run_branch(original: Callable[..., Any]) -> Callable[..., Any]:
    """A branch or an iteration: variables of its own on top of those it can read, and its states in the history."""
    del original

    def run(states: dict[str, Any], start: str, data: Any, execution: dict[str, Any], context: dict[str, Any]) -> Any:
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
            data, name = _step(states[name], name, data, execution, context)
        return data

    return run


def _step(
    definition: dict[str, Any], name: str, data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> tuple[Any, str | None]:
    kind, add = str(definition.get("Type")), private.states_function("add_event")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    context["State"] = {"Name": name, "EnteredTime": now, "RetryCount": 0}
    add(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": {"name": name, "input": json.dumps(data)}})
    following: str | None = None
    if kind == "Fail":
        raise ExecutionError(*private.states_function("fail_state")(definition, data, context))
    if kind == "Succeed":
        data = private.succeed_output(definition, data, context)
    elif kind in ("Task", "Parallel", "Map"):
        data, following = private.states_function(kind)(definition, data, execution, context)
    elif kind in ("Pass", "Choice", "Wait"):
        data, following = private.states_function(kind)(definition, data, context)
    else:
        raise ExecutionError("States.Runtime", f"Unknown state type: {kind}")
    add(execution, f"{kind}StateExited", {"stateExitedEventDetails": {"name": name, "output": json.dumps(data)}})
    return data, following


def run_parallel(original: Callable[..., Any]) -> Callable[..., Any]:
    """A Parallel state: Arguments, Output and Assign in JSONata; the first failed branch calls off the others."""
    del original

    def run(definition: dict[str, Any], raw_input: Any, execution: dict[str, Any], context: dict[str, Any]) -> Any:
        jsonata = private.is_jsonata(definition, context)
        if jsonata:
            arguments = definition.get("Arguments")
            effective = raw_input if arguments is None else private.evaluate_jsonata(arguments, raw_input, context)
        else:
            effective = private.jsonpath_input(definition, raw_input, context)
        results = _run_branches(definition["Branches"], effective, execution, context)
        following = None if definition.get("End") else definition.get("Next")
        if not jsonata:
            return private.jsonpath_output(definition, raw_input, context, results), following
        template = definition.get("Output")
        output = results if template is None else private.evaluate_jsonata(template, raw_input, context, results)
        private.assign_variables(definition, raw_input, context, results)
        return output, following

    return run


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
            results[index] = private.states_function("run_branch")(
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
        changed.wait_for(lambda: left == 0, timeout=_BRANCH_GRACE_SECONDS)
    if failures:
        raise failures[0]
    return results
