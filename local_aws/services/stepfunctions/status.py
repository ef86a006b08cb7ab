"""The status of an execution: its event in EventBridge at every change, and whether it can be redriven.

Sources: API Reference DescribeExecution (redriveCount, redriveDate, redriveStatus, and the reasons in
redriveStatusReason word for word), Developer Guide "Automating Step Functions event delivery with EventBridge" (the
detail, without input and output over 248 KB).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

_EVENT_LIMIT = 248 * 1024  # Characters of escaped input and output.


# Differs: Limits of a redrive | AWS: 14 days, a year in all, 24,999 events | Here: none | Why: a local run does not last
#   as long
def not_redrivable(execution: dict[str, Any]) -> str | None:
    """Return the reason why an execution cannot be redriven now, or None."""
    status = execution["status"]
    return f"Execution is {status} and cannot be redriven" if status in ("RUNNING", "SUCCEEDED") else None


def redrive_fields(execution: dict[str, Any]) -> dict[str, Any]:
    """Return the members about redrives of DescribeExecution and of the event, null without a value."""
    reason = not_redrivable(execution)
    redrivable = "REDRIVABLE_BY_MAP_RUN" if "mapRunArn" in execution else "REDRIVABLE"
    return {
        "redriveCount": execution.get("redriveCount", 0),
        "redriveDate": execution.get("redriveDate"),
        "redriveStatus": "NOT_REDRIVABLE" if reason else redrivable,
        "redriveStatusReason": reason,
    }


# Unconfirmed: The event of an execution's status | Here: `error`, `cause`, `redriveDate` and `redriveStatusReason` are
#   null without a value | Source: MiniStack, after the guide's examples; DescribeExecution of a failed execution was seen
#   without a reason
def change(execution: dict[str, Any]) -> dict[str, Any]:
    """Return the detail of the "Step Functions Execution Status Change" for the execution's current status."""
    succeeded = execution["status"] == "SUCCEEDED"
    given, output = execution["input"], execution["output"] if succeeded else None
    with_output = _escaped(output) <= _EVENT_LIMIT
    with_input = _escaped(given) + _escaped(output) <= _EVENT_LIMIT
    return {
        "executionArn": execution["executionArn"],
        "stateMachineArn": execution["stateMachineArn"],
        "name": execution["name"],
        "status": execution["status"],
        "startDate": _milliseconds(execution["startDate"]),
        "stopDate": _milliseconds(execution["stopDate"]),
        "input": given if with_input else None,
        "inputDetails": {"included": with_input},
        "output": output if with_output else None,
        "outputDetails": {"included": with_output} if succeeded else None,
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "error": execution.get("error"),
        "cause": execution.get("cause"),
        **redrive_fields(execution),
        "redriveDate": _milliseconds(execution.get("redriveDate")),
    }


def _escaped(text: str | None) -> int:
    return 0 if text is None else len(json.dumps(text))


def _milliseconds(stamp: str | None) -> int | None:
    return None if stamp is None else int(datetime.fromisoformat(stamp).timestamp() * 1000)
