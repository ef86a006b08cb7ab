"""Follow an execution: print its states with their seconds, and the progress of each job and endpoint."""

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
    """An execution that has ended.

    Attributes:
        description: the answer of DescribeExecution.
        seconds: the seconds that each state took, by the state's name.
    """

    description: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether its status is SUCCEEDED."""
        return bool(self.description["status"] == "SUCCEEDED")

    @property
    def output(self) -> dict[str, Any]:
        """The execution's output; empty if it has not succeeded."""
        return json.loads(self.description["output"]) if self.succeeded else {}


def follow(client: Callable[[str], Any], arn: str, console: Console) -> Execution:
    """Wait for the execution's end, and print a line when a task ends.

    The line of a task that looks at a job or an endpoint is that task's output: it says how far the job is.
    """
    stepfunctions = client("stepfunctions")
    seen = 0
    entered: dict[str, float] = {}
    seconds: dict[str, float] = {}
    last_lines: dict[str, str] = {}
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
                duration = at - entered.pop(name, at)
                seconds[name] = round(seconds.get(name, 0.0) + duration, 2)
                output = json.loads(details.get("output", "null"))
                if isinstance(output, str):  # the state's line of progress
                    if output != last_lines.get(name):
                        console.print(f"  {at - start:6.0f} s  {name}: {escape(output)}")
                    last_lines[name] = output
                elif duration >= 0.5 and event["type"] in ("TaskStateExited", "MapStateExited"):
                    console.print(f"  {at - start:6.0f} s  {name} [dim]({duration:.1f} s)[/dim]")
        seen = len(events)
        if description["status"] != "RUNNING":
            for name, at in entered.items():
                seconds[name] = round(seconds.get(name, 0.0) + time.time() - at, 2)
            return Execution(description, seconds)
        time.sleep(1)
