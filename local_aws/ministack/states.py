"""Step Functions: the parts of MiniStack's engine that local_aws/services/stepfunctions uses and changes."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import eventbridge, stepfunctions

from local_aws.ministack.patches import Replacement, patch, put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("local_aws.states")

ExecutionError = stepfunctions._ExecutionError  # A state's failure: ExecutionError(error, cause).
# Our name of a function that services/stepfunctions replaces or calls -> MiniStack's name of it.
_FUNCTIONS = {
    "announce": "_emit_execution_status_event",
    "run_map": "_run_map_items",
    "invoke": "_invoke_resource",
    "fail_state": "_fail_state_error",
    **{kind: f"_execute_{kind.lower()}" for kind in ("Pass", "Task", "Choice", "Wait", "Map")},
    **{
        name: f"_{name}"
        for name in ("create_state_machine", "update_state_machine", "start_execution", "stop_execution")
    },
    **{name: f"_{name}" for name in ("describe_execution", "run_execution", "add_event", "error_matches")},
}

# Differs: The longest evaluation of a JSONata expression | AWS: not documented | Here: 30 s | Why: MiniStack 1.5.33 ends it
#   after a second of the wall clock, which a busy machine can need for any expression
_LONGEST_MILLISECONDS = 30_000
_Timebox = stepfunctions.jsonata.timebox.Timebox


def _patient(self: Any, frame: Any, _: int | None = None, max_depth: int | None = None) -> None:
    _Timebox.__init__(self, frame, _LONGEST_MILLISECONDS, max_depth)


_PatientTimebox = type("Timebox", (_Timebox,), {"__init__": _patient})
put(stepfunctions.jsonata.jsonata, "timebox", SimpleNamespace(Timebox=_PatientTimebox))


def replaces(name: str) -> Callable[[Replacement], Replacement]:
    """Replace a function of Step Functions (a key of _FUNCTIONS). The decorated one gets the original as first argument."""
    return patch(stepfunctions, _FUNCTIONS[name])


def function(name: str) -> Callable[..., Any]:
    """Return the function as it is now, patched or not."""
    function: Callable[..., Any] = getattr(stepfunctions, _FUNCTIONS[name])
    return function


def execution(arn: str) -> dict[str, Any] | None:
    """Return MiniStack's record of an execution. Changes of the record take effect."""
    execution: dict[str, Any] | None = stepfunctions._executions.get(arn)
    return execution


def machine(arn: str) -> dict[str, Any] | None:
    """Return MiniStack's record of a state machine."""
    machine: dict[str, Any] | None = stepfunctions._state_machines.get(arn)
    return machine


def add_execution(execution: dict[str, Any]) -> None:
    """Make the record of a Distributed Map's child known to Step Functions' operations."""
    stepfunctions._executions[execution["executionArn"]] = execution


def add_map_run(record: dict[str, Any]) -> None:
    """Add the record of a Map Run: DescribeMapRun's answer, and `_stateMachineArn` for ListMapRuns."""
    stepfunctions._map_runs[record["mapRunArn"]] = record


def announce(detail: Mapping[str, Any]) -> None:
    """Send EventBridge's "Step Functions Execution Status Change". A failed delivery is logged and raises nothing."""
    entry = {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Detail": json.dumps(detail),
        "Resources": [detail["executionArn"]],
    }
    try:
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    except Exception:
        logger.exception("no event was sent for %s", detail["executionArn"])


error_response = responses.error_response_json
"""Makes a refusal, in the form that Step Functions' functions return, from its code and message."""
json_response = responses.json_response
"""Makes an answer in the same form."""


def is_jsonata(state: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Return whether the state is evaluated as JSONata."""
    return bool(stepfunctions._state_query_language(state, context) == "JSONata")


def evaluate_jsonata(template: Any, raw_input: Any, context: Any, result: Any = None) -> Any:
    """Return the value with every {% %} in it evaluated."""
    return stepfunctions._apply_jsonata_template(template, raw_input, context, result=result)


def assign_variables(state: Any, raw_input: Any, context: Any, result: Any = None) -> None:
    """Evaluate the state's Assign into the context's variables."""
    stepfunctions._apply_state_assign(state, raw_input, context, result=result)


def succeed_output(state: Any, raw_input: Any, context: Any) -> Any:
    """Return the output of a Succeed state."""
    selected = stepfunctions._apply_input_path(state, raw_input, context)
    return stepfunctions._apply_output_path(state, selected, context)
