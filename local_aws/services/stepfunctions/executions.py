"""Executions: their start, description, stop and time-out, and the walk through a machine's states.

MiniStack's own walk can begin only at StartAt, and reads the machine again when its thread begins. Sources: API Reference
UpdateStateMachine (a running execution keeps its definition and role), Developer Guide "Accessing execution data from the
Context object".
"""

from __future__ import annotations

import contextvars
import copy
import json
import logging
import re
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Request, Response
from local_aws.ministack import metrics
from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions import machine, status
from local_aws.services.stepfunctions.runs import LOCK, RUN, Point, Run, now, timestamp
from local_aws.services.stepfunctions.tasks import PAYLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("local_aws.stepfunctions")
_ENDS = {
    "SUCCEEDED": "ExecutionSucceeded",
    "FAILED": "ExecutionFailed",
    "TIMED_OUT": "ExecutionTimedOut",
    "ABORTED": "ExecutionAborted",
}
_METRICS = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
}
RUNS: dict[str, Run] = {}  # The last attempt of every execution.


# Attempts


def attempt(arn: str, *, create: bool = False) -> Run | None:
    """Return the last attempt of an execution. With `create`, make the first one, of the state machine as it is now."""
    with LOCK:
        execution, run = engine.execution(arn), RUNS.get(arn)
        if execution is not None and run is not None and run.execution is execution:
            return run
        found = engine.machine(execution["stateMachineArn"]) if execution else None
        if execution is None or found is None or not create:
            return None
        definition = json.loads(found["definition"])
        point = Point(definition["StartAt"], json.loads(execution["input"]))
        RUNS[arn] = Run(execution, copy.deepcopy(found), definition, point)
        return RUNS[arn]


@engine.replaces("run_execution")
def run_execution(_original: Any, arn: str) -> None:
    """Run the first attempt, for StartExecution's thread and StartSyncExecution, instead of MiniStack's walk."""
    first = attempt(arn, create=True)
    if first is not None:
        run_attempt(first)


def launch(run: Run, detail: dict[str, Any]) -> None:
    """Start an attempt on a thread of its own. `detail` is its event's. The caller must not hold LOCK."""
    deliver(run.execution, detail)
    threading.Thread(target=contextvars.copy_context().run, args=(run_attempt, run), daemon=True).start()


def run_attempt(run: Run) -> None:
    """Run one attempt to its end, with the machine's own TimeoutSeconds."""
    token = RUN.set(run)
    timer = None
    if seconds := run.definition.get("TimeoutSeconds"):
        timer = threading.Timer(
            float(seconds), contextvars.copy_context().run, (end, run, "TIMED_OUT", "States.Timeout")
        )
        timer.daemon = True
        timer.start()
    try:
        _walk(run)
    except ExecutionError as error:
        end(run, "FAILED", error.error, error.cause)
    except Exception as error:
        logger.exception("unexpected error in %s", run.execution["executionArn"])
        end(run, "FAILED", "States.Runtime", str(error))
    finally:
        if timer is not None:
            timer.cancel()
        RUN.reset(token)


def _walk(run: Run) -> None:
    """Run the states from the run's point on, until the last one or until another thread ends the attempt."""
    execution, states, context = run.execution, run.definition["States"], _context(run)
    while (name := run.point.state) is not None:
        if name not in states:
            raise ExecutionError("States.Runtime", f"State '{name}' not found in definition")
        point = run.point
        context["variables"] = copy.deepcopy(point.variables)
        with LOCK:
            if run.ended.is_set():
                return
            if point.entered:  # A redrive continues in the state and does not enter it again.
                context["State"] = {"Name": name, "EnteredTime": point.entered, "RetryCount": 0}
            else:
                machine.enter(states[name], name, point.data, execution, context)
                run.point = replace(point, entered=context["State"]["EnteredTime"])
        output, following = machine.execute(states[name], copy.deepcopy(point.data), execution, context)
        with LOCK:
            if run.ended.is_set():
                return
            machine.leave(states[name], name, output, execution)
            run.point, run.map_run = Point(following, output, context["variables"]), None
    end(run, "SUCCEEDED", output=json.dumps(run.point.data))


# Unconfirmed: Context of a child | Here: its own, without `Map`; `StateMachine.Id` ends in `/LABEL` | Source: its
#   executions in ListMapRuns and DescribeExecution
# Unconfirmed: The context object in JSONata | Here: also has `variables` and `QueryLanguage` | Source: MiniStack stores
#   them there; a definition should not pass on the whole context
def _context(run: Run) -> dict[str, Any]:
    execution = run.execution
    context: dict[str, Any] = {
        "QueryLanguage": run.definition.get("QueryLanguage", "JSONPath"),  # MiniStack looks for it here.
        "Execution": {
            "Id": execution["executionArn"],
            "Input": json.loads(execution["input"]),
            "Name": execution["name"],
            "RoleArn": run.role_arn,
            "StartTime": execution["startDate"],
            "RedriveCount": execution.get("redriveCount", 0),
        },
        "StateMachine": {"Id": execution["stateMachineArn"], "Name": run.machine["name"]},
    }
    if "redriveDate" in execution:
        context["Execution"]["RedriveTime"] = execution["redriveDate"]
    return context


# Differs: Metrics of executions | AWS: also of starts, times, throttling, redrives and each integration | Here: the four ends |
#   Why: no dashboard and no alarm here has the others
# Unconfirmed: Metrics of an end | Here: one point of 1 for the end that it was, none for the others, and so at each end of a
#   redriven execution | Source: "Step Functions metrics for CloudWatch", which has metrics of redrives beside these
def end(run: Run, end: str, error: str | None = None, cause: str | None = None, output: str | None = None) -> bool:
    """End an attempt in this status. If it has already ended, change nothing and return False."""
    execution = run.execution
    with LOCK:
        if run.ended.is_set():
            return False
        kind = _ENDS[end]
        details = {name: value for name, value in (("error", error), ("cause", cause), ("output", output)) if value}
        token = RUN.set(run)  # The caller may be an attempt that has ended, and such an attempt records no events.
        engine.function("add_event")(execution, kind, {f"e{kind[1:]}EventDetails": details})
        RUN.reset(token)
        execution.update(status=end, stopDate=now(), error=error, cause=cause, output=output)
        run.ended.set()
        detail = status.change(execution)
    metrics.publish("AWS/States", _METRICS[end], {"StateMachineArn": execution["stateMachineArn"]}, time.time(), 1.0)
    deliver(execution, detail)
    return True


def deliver(execution: dict[str, Any], detail: dict[str, Any]) -> None:
    """Send the event of a status change. The caller must not hold LOCK, because the event's targets may call back."""
    if not execution.get("sync"):  # Synchronous executions are Express and send no events.
        engine.announce(detail)


@engine.replaces("announce")
def announce(_original: Any, execution: dict[str, Any]) -> None:
    """Send the event of the one status change that MiniStack makes, the start of an execution."""
    deliver(execution, status.change(execution))


# Operations


@engine.replaces("start_execution")
def start_execution(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """Refuse an input that is too long or not JSON, and an invalid name."""
    text, name = data.get("input", "{}"), data.get("name")
    if len(text.encode()) > PAYLOAD_LIMIT:
        return engine.error_response(
            "ValidationException",
            "1 validation error detected: Value at 'input' failed to satisfy constraint: "
            f"Member must have length less than or equal to {PAYLOAD_LIMIT}",
        )
    try:
        json.loads(text)
    except ValueError as error:
        return engine.error_response("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'")
    if name is not None and (not 1 <= len(name) <= 80 or re.search(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f]", name)):
        return engine.error_response("InvalidName", f"Invalid Name: '{name}'")
    code, headers, body = original(data)
    if code == 200:  # Make the attempt now: an update may change the machine before its thread begins.
        attempt(json.loads(body)["executionArn"], create=True)
    return code, headers, body


@engine.replaces("stop_execution")
def stop_execution(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """End the running attempt, which then no longer changes the execution."""
    run = attempt(data.get("executionArn", ""))
    if run is None or not end(run, "ABORTED", data.get("error"), data.get("cause")):
        return original(data)  # The execution does not exist or has ended.
    return engine.json_response({"stopDate": run.execution["stopDate"]})


# Differs: The end of an execution's TimeoutSeconds | AWS: when they are over | Here: also by `POST /_tuneway/states
#   {"time_out": ARN}` | Why: a test should not wait for a week
# Differs: The stopDate of an execution | AWS: the time of its end | Here: `POST /_tuneway/states {"backdate": ARN, "seconds":
#   N}` makes it N seconds earlier | Why: a test should not wait until an end is old
def control(request: Request) -> Response:
    """Answer POST /_tuneway/states: end an execution as after its own TimeoutSeconds, or backdate the end of one."""
    asked = json.loads(request.body or b"{}")
    if "backdate" in asked:
        return _backdate(str(asked["backdate"]), timedelta(seconds=asked["seconds"]))
    run = attempt(str(asked.get("time_out")))
    if run is None or not end(run, "TIMED_OUT", "States.Timeout"):
        return Response(400, body=b"no such running execution\n")
    return Response(200, body=b"ok\n")


def _backdate(arn: str, age: timedelta) -> Response:
    with LOCK:
        execution = engine.execution(arn)
        if execution is None or not execution["stopDate"]:
            return Response(400, body=b"no such ended execution\n")
        execution["stopDate"] = timestamp(datetime.fromisoformat(execution["stopDate"]) - age)
    return Response(200, body=b"ok\n")


@engine.replaces("describe_execution")
def describe_execution(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """Add the redrives, and remove the output of an execution that did not succeed."""
    with LOCK:
        code, headers, body = original(data)
        execution = engine.execution(data.get("executionArn", ""))
        if code != 200 or execution is None:
            return code, headers, body
        document = json.loads(body) | status.redrive_fields(execution)
    if document["status"] != "SUCCEEDED":
        del document["output"], document["outputDetails"]
    return engine.json_response({name: value for name, value in document.items() if value is not None})
