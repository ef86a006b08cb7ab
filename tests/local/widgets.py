"""Which metrics of a dashboard's widgets exist: those with the same dimensions, or those that a search finds."""

from __future__ import annotations

import re
from typing import Any

_SEARCH = re.compile(r"SEARCH\('\{(?P<schema>[^{}]+)\} (?P<term>.+)', '\w+', \d+\)")
_TERM = re.compile(r'(\w+)=("?)([^"\s]+)\2')


def unwritten(cloudwatch: Any, shown: list[list[Any]]) -> set[str]:
    """Return the metrics of widgets that have no point: their names, or the searches that find none."""
    pages = cloudwatch.get_paginator("list_metrics").paginate()
    listed = [metric for page in pages for metric in page["Metrics"]]
    missing = [metric for metric in shown if not any(_matches(metric, one) for one in listed)]
    return {metric[0]["expression"] if isinstance(metric[0], dict) else metric[1] for metric in missing}


def _matches(shown: list[Any], listed: dict[str, Any]) -> bool:
    dimensions = {one["Name"]: one["Value"] for one in listed["Dimensions"]}
    if isinstance(shown[0], dict):
        return _finds(shown[0]["expression"], listed["Namespace"], listed["MetricName"], dimensions)
    namespace, name, *pairs = (part for part in shown if isinstance(part, str))
    own = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return bool((namespace, name, own) == (listed["Namespace"], listed["MetricName"], dimensions))


def _finds(expression: str, namespace: str, name: str, dimensions: dict[str, str]) -> bool:
    """Return whether a search finds a metric (CloudWatch user guide, "CloudWatch search expression syntax")."""
    found = _SEARCH.fullmatch(expression)
    assert found is not None, expression
    wanted, *keys = (part.strip('"') for part in found["schema"].split(","))
    if (wanted, set(keys)) != (namespace, set(dimensions)):
        return False
    values = {"MetricName": name, **dimensions}
    return all(
        value == values[key] if quote else value in re.split(r"[^A-Za-z0-9]+", values[key])
        for key, quote, value in _TERM.findall(found["term"])
    )
