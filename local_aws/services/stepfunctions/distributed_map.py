"""A Distributed Map in JSONata, which MiniStack does not evaluate.

Sources: Amazon States Language specification "Map State", Developer Guide "Using Map state in Distributed mode",
"ItemReader (Map)", "ItemSelector (Map)", "Redriving Map Runs" (when a new Map Run starts); the events as AWS
recorded them for localstack's tests (test_base_scenarios.snapshot.json, test_map_state_config_inline_item_selector).
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.ministack import states as engine
from local_aws.ministack.states import ExecutionError
from local_aws.services.stepfunctions.map_run import MapRun
from local_aws.services.stepfunctions.runs import RUN, Run
from local_aws.services.stepfunctions.tasks import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIELDS = {
    *("Type", "QueryLanguage", "Comment", "Label", "Items", "ItemReader", "ItemSelector", "ItemProcessor"),
    *("MaxConcurrency", "Retry", "Catch", "Assign", "Output", "Next", "End"),
}
_LABEL = r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f]{1,40}"
_READER = "arn:aws:states:::s3:getObject"
_READER_FIELDS, _CONFIG_FIELDS = {"Resource", "ReaderConfig", "Arguments"}, {"InputType"}
_READ_ARGUMENTS = ("Bucket", "Key", "VersionId")


# Differs: A Distributed Map in JSONata | AWS: up to 10,000 children at the same time; tolerated failures, batches, written
#   results, EXPRESS children, other readers than an S3 object in JSON, objects as Items | Here: up to 64 at the same time;
#   the other features are refused, at creation or (objects) in the run | Why: each child has a thread; Tuneway uses none of
#   these features
# Differs: Another Map, and a Parallel state | AWS: run their iterations and branches in parallel | Here: refused at
#   creation | Why: Tuneway has none
def problems(state: dict[str, Any], jsonata: bool) -> Iterator[str]:
    """Yield the reasons to refuse the state at creation: AWS's own, and features that local AWS lacks."""
    config = state.get("ItemProcessor", {}).get("ProcessorConfig", {})
    if not jsonata or config.get("Mode") != "DISTRIBUTED":
        yield "Local AWS has Distributed Maps in JSONata, and neither other Maps nor Parallel states"
    yield from (f'The field "{field}" of a Distributed Map is not supported here' for field in set(state) - _FIELDS)
    if config.get("ExecutionType") != "STANDARD":
        yield "An ExecutionType other than STANDARD is not supported here"
    if not re.fullmatch(_LABEL, state.get("Label", "label")):
        yield "A Label has at most 40 characters, and no special ones"
    reader = state.get("ItemReader")
    if reader is None:
        return
    if "Items" in state:
        yield "There are either Items or an ItemReader"
    read = reader.get("ReaderConfig", {})
    unknown = (set(reader) - _READER_FIELDS) | (set(read) - _CONFIG_FIELDS)
    yield from (f'The field "{field}" of an ItemReader is not supported here' for field in unknown)
    if reader.get("Resource") != _READER or read.get("InputType") != "JSON":
        yield f"An ItemReader other than {_READER} with the InputType JSON is not supported here"


@engine.replaces("run_map")
def run_map(
    original: Callable[..., Any],
    definition: dict[str, Any],
    raw_input: Any,
    execution: dict[str, Any],
    context: dict[str, Any],
) -> Any:
    """Run one attempt of a Map state. MiniStack applies the state's Retry and Catch around it."""
    parent = RUN.get()
    if parent is None:  # TestState
        return original(definition, raw_input, execution, context)
    try:
        results = _results(parent, definition, raw_input, context)
        check_size(results, context["State"]["Name"])
    except ExecutionError:
        _event(parent, "MapStateFailed")
        raise
    _event(parent, "MapStateSucceeded")
    output = results
    if "Output" in definition:
        output = engine.evaluate_jsonata(definition["Output"], raw_input, context, results)
    engine.assign_variables(definition, raw_input, context, results)
    return output, None if definition.get("End") else definition.get("Next")


def _results(parent: Run, definition: dict[str, Any], raw_input: Any, context: dict[str, Any]) -> list[Any]:
    map_run = parent.map_run
    # A Map Run of this attempt failed before a retry, and the result of a SUCCEEDED one was refused. Both need a new one.
    if map_run is not None and map_run.parent is not parent and map_run.record["status"] != "SUCCEEDED":
        map_run.redriven_by(parent)
        details = {"mapRunArn": map_run.record["mapRunArn"], "redriveCount": map_run.record["redriveCount"]}
        _event(parent, "MapRunRedriven", details)
    else:
        parent.map_run = None
        map_run = parent.map_run = _started(parent, definition, raw_input, context)
    try:
        results: list[Any] = map_run.results()
    except ExecutionError as error:
        _event(parent, "MapRunFailed", {"error": error.error, "cause": error.cause})
        raise
    _event(parent, "MapRunSucceeded")
    return results


def _started(parent: Run, definition: dict[str, Any], raw_input: Any, context: dict[str, Any]) -> MapRun:
    if "ItemReader" in definition:
        items = _read(parent, definition["ItemReader"], raw_input, context)
    else:
        items = engine.evaluate_jsonata(definition["Items"], raw_input, context) if "Items" in definition else raw_input
    if not isinstance(items, list):
        raise _unexpected("Items", "array", items)
    _event(parent, "MapStateStarted", {"length": len(items)})
    inputs = [
        _child_input(definition, raw_input, {**context, "Map": {"Item": {"Index": index, "Value": item}}}, item)
        for index, item in enumerate(items)
    ]
    most = engine.evaluate_jsonata(definition.get("MaxConcurrency", 0), raw_input, context)
    if isinstance(most, bool) or not isinstance(most, int | float) or most < 0:
        raise _unexpected("MaxConcurrency", "number", most)
    label = definition.get("Label") or str(uuid.uuid4())
    map_run = MapRun(parent, label, definition["ItemProcessor"], inputs, int(most))
    _event(parent, "MapRunStarted", {"mapRunArn": map_run.record["mapRunArn"]})
    return map_run


# Unconfirmed: ItemSelector | Here: evaluated for all items before the first child starts | Source: the order of the fields
#   in the Developer Guide
def _child_input(definition: dict[str, Any], raw_input: Any, context: dict[str, Any], item: Any) -> Any:
    selector = definition.get("ItemSelector")
    data = item if selector is None else engine.evaluate_jsonata(selector, raw_input, context)
    check_size(data, context["State"]["Name"])
    return data


def _unexpected(field: str, wanted: str, value: Any) -> Exception:
    error: Exception = ExecutionError(
        "States.QueryEvaluationError",
        f"The JSONata expression specified for the field '{field}' returned an unexpected result type. "
        f"Expected '{wanted}' for value: {json.dumps(value)[:200]}",
    )
    return error


def _read(parent: Run, reader: dict[str, Any], raw_input: Any, context: dict[str, Any]) -> list[Any]:
    """Return the items of an object in S3, read under the role. Raises ExecutionError States.ItemReaderFailed."""
    arguments = engine.evaluate_jsonata(reader.get("Arguments"), raw_input, context)
    if not isinstance(arguments, dict) or any(name not in _READ_ARGUMENTS for name in arguments):
        raise ExecutionError("States.ItemReaderFailed", f"Arguments other than {', '.join(_READ_ARGUMENTS)}")
    try:
        items = json.loads(parent.client("s3").get_object(**arguments)["Body"].read())
    except (ClientError, ValueError) as error:
        raise ExecutionError("States.ItemReaderFailed", str(error)) from None
    if not isinstance(items, list):
        raise ExecutionError("States.ItemReaderFailed", "Attempting to map over non-iterable node.")
    return items


def _event(parent: Run, kind: str, details: dict[str, Any] | None = None) -> None:
    named = {f"m{kind[1:]}EventDetails": details} if details else None
    engine.function("add_event")(parent.execution, kind, named)
