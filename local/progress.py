"""Follow an execution: its states with their seconds, and what each look at a job or endpoint tells."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


@dataclass
class Execution:
    """How an execution ended: the answer of DescribeExecution, and seconds by state."""

    description: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether it ended as SUCCEEDED."""
        return bool(self.description["status"] == "SUCCEEDED")

    @property
    def output(self) -> dict[str, Any]:
        """What the last state gave; empty if there was none."""
        return json.loads(self.description["output"]) if self.succeeded else {}


def follow(client: Callable[[str], Any], arn: str, console: Console) -> Execution:
    """Wait for the execution's end, printing a line as each task is left; one that looks at a job says how far that is."""
    stepfunctions = client("stepfunctions")
    seen = 0
    entered: dict[str, float] = {}
    seconds: dict[str, float] = {}
    told: dict[str, str] = {}
    start = time.time()
    while True:
        description = stepfunctions.describe_execution(executionArn=arn)
        pages = stepfunctions.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        for event in events[seen:]:
            at = event["timestamp"].timestamp()
            if details := event.get("stateEnteredEventDetails"):
                entered[details["name"]] = at
            if details := event.get("stateExitedEventDetails"):
                name = details["name"]
                spent = at - entered.pop(name, at)
                seconds[name] = round(seconds.get(name, 0.0) + spent, 2)
                output = json.loads(details.get("output", "null"))
                if isinstance(output, str):  # the state's one line
                    if output != told.get(name):
                        console.print(f"  {at - start:6.0f} s  {name}: {escape(output)}")
                    told[name] = output
                elif spent >= 0.5 and event["type"] in ("TaskStateExited", "MapStateExited"):
                    console.print(f"  {at - start:6.0f} s  {name} [dim]({spent:.1f} s)[/dim]")
        seen = len(events)
        if description["status"] != "RUNNING":
            for name, at in entered.items():
                seconds[name] = round(seconds.get(name, 0.0) + time.time() - at, 2)
            return Execution(description, seconds)
        time.sleep(1)
