"""CloudWatch dashboards: a body that AWS would refuse is refused. MiniStack stores any text.

Source: "Dashboard Body Structure and Syntax" in the API Reference of CloudWatch.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ministack.services import cloudwatch

from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WIDTH, _MOST_WIDGETS, _MOST_METRICS = 24, 500, 500
_BODY = {"widgets", "start", "end", "periodOverride", "variables"}
_PLACE = {"x": range(_WIDTH), "y": range(10**6), "width": range(1, _WIDTH + 1), "height": range(1, 1001)}
_PROPERTIES = {
    "metric": {
        *(
            "metrics",
            "region",
            "title",
            "view",
            "stat",
            "period",
            "stacked",
            "yAxis",
            "legend",
            "liveData",
            "annotations",
        ),
        *("accountId", "end", "labels", "setPeriodToTimeRange", "singleValueFullPrecision", "sparkline", "start"),
        *("table", "timezone", "trend"),
    },
    "text": {"markdown", "background"},
    "alarm": {"alarms", "title", "sortBy", "states"},
}
_NEEDED = {"metric": ("metrics", "region"), "text": ("markdown",), "alarm": ("alarms",)}
_RENDERING = {"color", "expression", "id", "label", "period", "region", "stat", "visible", "yAxis", "accountId"}
_VIEWS = ("timeSeries", "singleValue", "gauge", "bar", "pie", "table")
_STAT = re.compile(r"SampleCount|Average|Sum|Minimum|Maximum|IQM|(p|tm|wm|tc|ts)\d{1,2}(\.\d+)?|p100")
_ALARM = re.compile(r"arn:aws[a-z-]*:cloudwatch:[a-z0-9-]+:\d{12}:alarm:.+")
_SEARCH = re.compile(r"SEARCH\('(?:\{[^{}']+\})?(?P<term>[^']*)', ?'(?P<stat>[^']+)'(?:, ?(?P<period>\d+))?\)")


# Differs: Widgets of a dashboard | AWS: also logs, Metrics Insights, Lambda and metrics explorer | Here: metrics, text and
#   alarms; another type is refused | Why: no stack here has them
# Unconfirmed: A dashboard with a mistake | Here: the resource is not created, with all mistakes | Source: PutDashboard: "the
#   dashboard isn't created or modified" for an error; a widget's unknown property may only be a warning
@patch(cloudwatch, "cloudformation_put_dashboard")
def _put_dashboard(original: Callable[[str, str], str], name: str, body: str) -> str:
    """Store the dashboard and return its ARN, if it has no mistake."""
    mistakes = list(problems(body))
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
        mistakes.append(f"the name {name} has other signs than letters, digits, '-' and '_'")
    if mistakes:
        raise ValueError(f"The dashboard body is invalid, there are {len(mistakes)} validation errors: {mistakes}")
    return original(name, body)


def problems(body: str) -> Iterator[str]:
    """Yield each mistake of a dashboard's body: where and what."""
    try:
        document = json.loads(body)
    except ValueError as error:
        yield f"no JSON: {error}"
        return
    if not isinstance(document, dict) or not isinstance(document.get("widgets"), list):
        yield "/widgets: a dashboard needs an array of widgets"
        return
    if unknown := document.keys() - _BODY:
        yield f"/: unknown members {sorted(unknown)}"
    if document.get("periodOverride", "auto") not in ("auto", "inherit"):
        yield "/periodOverride: auto or inherit"
    if len(document["widgets"]) > _MOST_WIDGETS:
        yield f"/widgets: more than {_MOST_WIDGETS}"
    for number, widget in enumerate(document["widgets"]):
        for mistake in _widget(widget):
            yield f"/widgets/{number}{mistake}"


def _widget(widget: Any) -> Iterator[str]:
    kind, properties = widget.get("type"), widget.get("properties")
    if kind not in _PROPERTIES or not isinstance(properties, dict):
        yield f"/type: {kind} is not a type of widget that is known here, or has no properties"
        return
    if unknown := widget.keys() - {"type", "properties", *_PLACE}:
        yield f": unknown members {sorted(unknown)}"
    for name, valid in _PLACE.items():
        if name in widget and widget[name] not in valid:
            yield f"/{name}: {widget[name]} is not in {valid.start} to {valid.stop - 1}"
    if widget.get("x", 0) + widget.get("width", 6) > _WIDTH:
        yield f": it is wider than the dashboard, which has {_WIDTH} units"
    if unknown := properties.keys() - _PROPERTIES[kind]:
        yield f"/properties: unknown members {sorted(unknown)}"
    for name in _NEEDED[kind]:
        if not properties.get(name):
            yield f"/properties/{name}: missing"
    yield from _metrics(properties) if kind == "metric" else ()
    for arn in properties.get("alarms", ()):
        if not _ALARM.fullmatch(arn):
            yield f"/properties/alarms: {arn} is no ARN of an alarm"


def _metrics(properties: dict[str, Any]) -> Iterator[str]:
    metrics = properties.get("metrics") or []
    if properties.get("view", "timeSeries") not in _VIEWS:
        yield f"/properties/view: {properties['view']} is none of {_VIEWS}"
    if len(metrics) > _MOST_METRICS:
        yield f"/properties/metrics: more than {_MOST_METRICS}"
    for number, metric in enumerate(metrics):
        where = f"/properties/metrics/{number}"
        *labels, last = metric
        rendering = last if isinstance(last, dict) else {}
        labels = labels if isinstance(last, dict) else metric
        if unknown := rendering.keys() - _RENDERING:
            yield f"{where}: unknown members {sorted(unknown)}"
        for part in (properties, rendering):
            yield from _figures(where, part)
        if "expression" in rendering:
            if labels:
                yield f"{where}: an expression stands alone"
            if not _SEARCH.fullmatch(rendering["expression"]):
                yield f"{where}: {rendering['expression']} is no search that is known here"
        elif len(labels) < 2 or len(labels) % 2 or not all(isinstance(label, str) and label for label in labels):
            yield f"{where}: a metric is a namespace, a name, and pairs of a dimension's name and value"


def _figures(where: str, part: dict[str, Any]) -> Iterator[str]:
    if not _STAT.fullmatch(part.get("stat", "Average")):
        yield f"{where}: {part['stat']} is no statistic"
    period = part.get("period", 60)
    if period not in (1, 5, 10, 20, 30) and (not isinstance(period, int) or period <= 0 or period % 60):
        yield f"{where}: a period of {period} s is no multiple of 60"
