"""Metrics of the stack's own in CloudWatch, by the embedded metric format.

A function prints one line of JSON to its log, and CloudWatch Logs takes the metric from it (CloudWatch user guide,
"Specification: Embedded metric format"). So no role needs a permission beyond that for its own log.
"""

from __future__ import annotations

import json
import time
from typing import Literal

NAMESPACE = "Tuneway"
STACK = "Stack"
"""The dimension that every metric has. Its value is the stack's prefix."""

STEP_TIME, STEP = "StepTime", "Step"
"""The seconds that a step of an ended run took, and the dimension with the step's name."""

REJECTED_ROWS = "RejectedRows"
"""The share of the dataset's rows that data prep rejected, in percent."""

IDLE_TIME = "IdleTime"
"""The seconds since the endpoint was last used, tested or changed."""


def write(stack: str, name: str, value: float, unit: Literal["Seconds", "Percent"], step: str | None = None) -> None:
    """Print the line of one value.

    Args:
        stack: the stack's prefix.
        name: the metric's name.
        value: the value, of now.
        unit: its unit (API reference, MetricDatum).
        step: the value of the dimension `Step`, if the metric has it.
    """
    dimensions = {STACK: stack} if step is None else {STACK: stack, STEP: step}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit}],
    }
    document = {
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]},
        **dimensions,
        name: value,
    }
    print(json.dumps(document), flush=True)
