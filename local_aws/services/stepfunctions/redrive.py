"""RedriveExecution, which MiniStack lacks.

Sources: Developer Guide "Redriving executions" (it continues at the unsuccessful state with the same input, definition and
ARN, and the machine's time-out starts again), "State machine versions" (a revision includes the role and the definition),
API Reference RedriveExecution (errors, client tokens).
"""

from __future__ import annotations

import re
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.shapes import ServiceError
from local_aws.ministack import states as engine
from local_aws.services.apis import STATES
from local_aws.services.stepfunctions import executions, status
from local_aws.services.stepfunctions.runs import LOCK, Run, now

if TYPE_CHECKING:
    from local_aws.core.registry import Request

_ARN = r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d{12}:execution:[^:]+:[^:]+"
_TOKENS, _TOKEN_SECONDS = 10, 15 * 60  # The number of client tokens to remember, and the time.


# Unconfirmed: Refusals of RedriveExecution | Here: the reasons for RUNNING and SUCCEEDED are AWS's; `InvalidArn` and
#   `ValidationException` are worded here | Source: API Reference
# Unconfirmed: A redrive after the machine was deleted | Here: `ExecutionDoesNotExist` | Source: MiniStack deletes the
#   machine's executions too; AWS also has `State machine is in DELETING status`
@STATES.operation
def redrive_execution(_: None, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    """Start an attempt where the last one ended. A repeated client token gets the same answer."""
    arn, token = params["executionArn"], params.get("clientToken") or str(uuid.uuid4())
    if not re.fullmatch(_ARN, arn):
        raise ServiceError("InvalidArn", f"Invalid Arn: '{arn}'")
    with LOCK:
        last, execution = executions.attempt(arn), engine.execution(arn)
        if execution is None or execution.get("sync"):
            raise ServiceError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        if last is None or "mapRunArn" in execution:
            raise ServiceError("ValidationException", "A child of a Distributed Map cannot be redriven by itself")
        tokens: dict[str, tuple[float, str]] = execution.setdefault("redriveTokens", {})
        if token in tokens and time.monotonic() - tokens[token][0] < _TOKEN_SECONDS:
            return {"redriveDate": datetime.fromisoformat(tokens[token][1])}
        if reason := status.not_redrivable(execution):
            raise ServiceError("ExecutionNotRedrivable", reason)
        run, detail = again(last)
        date = str(execution["redriveDate"])
        tokens[token] = time.monotonic(), date
        execution["redriveTokens"] = dict(list(tokens.items())[-_TOKENS:])
    executions.launch(run, detail)
    return {"redriveDate": datetime.fromisoformat(date)}


# Unconfirmed: The role of a redriven execution | Here: the role of its start, even if the machine has another one now |
#   Source: "Redriving executions" says so of the definition and the version; the role is a part of both ("State machine
#   versions")
# Unconfirmed: A redriven state | Here: continues without a new entered event, with its first EnteredTime; a Wait waits its
#   whole time again | Source: the context of a redriven execution in DataDog's tests (dd-trace-py): entered 49 ms after
#   the start
def again(last: Run) -> tuple[Run, dict[str, Any]]:
    """Return a new attempt of an execution that has ended, not yet launched, and its event's detail."""
    execution = last.execution
    with LOCK:
        count = execution.get("redriveCount", 0) + 1
        execution.update(status="RUNNING", redriveCount=count, redriveDate=now())
        execution.update(dict.fromkeys(("stopDate", "output", "error", "cause")))
        details = {"executionRedrivenEventDetails": {"redriveCount": count}}
        engine.function("add_event")(execution, "ExecutionRedriven", details)
        # The new attempt has an `ended` of its own, so threads of the last attempt still see that theirs has ended.
        run = Run(execution, last.machine, last.definition, last.point, map_run=last.map_run)
        executions.RUNS[execution["executionArn"]] = run
        return run, status.change(execution)
