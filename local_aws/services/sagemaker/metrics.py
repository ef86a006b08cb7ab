"""Metrics that SageMaker reads out of a training job's log (CreateTrainingJob, MetricDefinitions)."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Any

from local_aws.services.sagemaker.store import now, validation_error


class Metrics:
    """The last value of each defined metric: FinalMetricDataList."""

    def __init__(self, definitions: list[dict[str, str]]) -> None:
        """Compile the regular expressions. Raises ServiceError for one that is none."""
        try:
            self._patterns = [(item["Name"], re.compile(item["Regex"])) for item in definitions]
        except re.error as error:
            raise validation_error(f"Invalid regular expression in MetricDefinitions: {error}") from error
        self._values: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def see(self, line: str) -> None:
        """Look for metrics in one line; the value is the expression's first group."""
        for name, pattern in self._patterns:
            for found in pattern.finditer(line):
                with contextlib.suppress(ValueError, IndexError, TypeError):  # What it matched is no number: no metric.
                    value = {"MetricName": name, "Value": float(found.group(1)), "Timestamp": now()}
                    with self._lock:
                        self._values[name] = value

    def final(self) -> list[dict[str, Any]]:
        """The last value of each metric seen so far."""
        with self._lock:
            return list(self._values.values())
