"""Follow an execution: its states with their seconds, and the loss of the training job while it runs."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

_STEP = re.compile(r"step=(?P<step>\d+/\d+).*?\bloss=(?P<loss>[\d.]+)")
_JOBS = "/aws/sagemaker/TrainingJobs"


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
    """Wait for the execution's end, printing a line as each state is left and as the training goes on."""
    stepfunctions, logs = client("stepfunctions"), client("logs")
    seen = 0
    entered: dict[str, float] = {}
    seconds: dict[str, float] = {}
    shown_step = ""
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
                if spent >= 0.5:
                    console.print(f"  {at - start:6.0f} s  {name} [dim]({spent:.1f} s)[/dim]")
        seen = len(events)
        if description["status"] != "RUNNING":
            for name, at in entered.items():
                seconds[name] = round(seconds.get(name, 0.0) + time.time() - at, 2)
            return Execution(description, seconds)
        if "Train" in entered and (progress := _training_progress(logs)) not in ("", shown_step):
            shown_step = progress
            console.print(f"  {time.time() - start:6.0f} s  Train: {progress}")
        time.sleep(1)


def _training_progress(logs: Any) -> str:
    """The newest step and loss of the training job that logged last; empty before its first step."""
    groups = logs.describe_log_groups(logGroupNamePrefix=_JOBS)["logGroups"]
    if not groups:
        return ""
    events = logs.filter_log_events(logGroupName=_JOBS, filterPattern="loss")["events"]
    for event in reversed(events):
        if found := _STEP.search(event["message"]):
            return f"step {found['step']}, loss {found['loss']}"
    return ""
