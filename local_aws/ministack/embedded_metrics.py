"""The embedded metric format: log events that are metrics, too. MiniStack only stores the events.

Source: "Specification: Embedded metric format" in the CloudWatch User Guide, with its JSON schema.
"""

from __future__ import annotations

import json
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ministack.services import cloudwatch_logs

from local_aws.core.authorization import service_model
from local_aws.ministack import metrics
from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("local_aws.embedded_metrics")

_MOST_DIMENSIONS, _MOST_METRICS, _LONGEST = 30, 100, 1024
_OLDEST, _NEWEST = 14 * 86_400, 2 * 3600
"""Seconds into the past and the future within which CloudWatch takes a point (PutMetricData)."""


class EmbeddedMetricError(Exception):
    """A log event has metadata of metrics that break the specification. AWS makes no metric of it, and says nothing."""


class Datum(NamedTuple):
    """One value of a metric. `time` is in epoch seconds."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    time: float
    value: float
    unit: str


# Differs: A metric in a log event | AWS: minutes later; one that breaks the format counts in EMFParsingErrors or
#   EMFValidationErrors of `AWS/Logs` | Here: at once; the server's log names one that breaks the format | Why: a test should
#   not wait for minutes
@patch(cloudwatch_logs, "_put_log_events")
def _put_log_events(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """Store the events, and publish the metrics in them."""
    answer = original(data)
    if answer[0] == 200:
        for event in data["logEvents"]:
            try:
                for datum in read(event["message"]):
                    metrics.publish(*datum[:5], unit=datum.unit)
            except EmbeddedMetricError as error:
                logger.warning("%s: a metric in a log event is lost: %s", data["logGroupName"], error)
    return answer


def read(message: str) -> Iterator[Datum]:
    """Yield the values of the metrics in a log event. An event that is no JSON object with `_aws` has none.

    Raises:
        EmbeddedMetricError: the metadata or a value that it names breaks the specification.
    """
    try:
        root = json.loads(message) if message.startswith("{") else None
    except ValueError:
        return
    if not isinstance(root, dict) or "_aws" not in root:
        return
    metadata = root["_aws"]
    _require(isinstance(metadata, dict), "_aws is no object")
    stamp, directives = metadata.get("Timestamp"), metadata.get("CloudWatchMetrics")
    _require(isinstance(stamp, int), "_aws.Timestamp must be whole milliseconds")
    _require(-_NEWEST < time.time() - stamp / 1000 < _OLDEST, "_aws.Timestamp is too old or in the future")
    _require(isinstance(directives, list), "_aws.CloudWatchMetrics must be an array")
    for directive in directives:
        yield from _directive(root, directive, stamp / 1000)


def _directive(root: dict[str, Any], directive: Any, moment: float) -> Iterator[Datum]:
    _require(isinstance(directive, dict), "a directive is an object")
    namespace = directive.get("Namespace")
    sets, definitions = directive.get("Dimensions"), directive.get("Metrics")
    _require(_is_text(namespace), "a directive needs a Namespace")
    _require(not str(namespace).startswith("AWS/"), "a Namespace that begins with AWS/ is AWS's own")
    _require(
        isinstance(sets, list) and isinstance(definitions, list), "a directive needs arrays of Dimensions and Metrics"
    )
    _require(len(definitions) <= _MOST_METRICS, f"a directive has at most {_MOST_METRICS} metrics")
    for keys in sets:
        _require(isinstance(keys, list) and len(keys) <= _MOST_DIMENSIONS, f"at most {_MOST_DIMENSIONS} dimensions")
        _require(all(_is_text(root.get(key)) for key in keys), f"each of {keys} must be a text at the root")
        for definition in definitions:
            name, unit = definition.get("Name"), definition.get("Unit", "None")
            _require(_is_text(name) and unit in _units(), f"{name} in {unit} is no metric")
            values = root.get(name)
            for value in values if isinstance(values, list) else [values]:
                if not isinstance(value, int | float) or isinstance(value, bool):
                    raise EmbeddedMetricError(f"{name} must be a number at the root")
                yield Datum(namespace, name, {key: root[key] for key in keys}, moment, float(value), unit)


@cache
def _units() -> frozenset[str]:
    return frozenset(service_model("cloudwatch").shape_for("StandardUnit").enum)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _LONGEST


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise EmbeddedMetricError(reason)
