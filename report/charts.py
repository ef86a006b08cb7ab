"""The charts of a page: intervals and time lines as SVG, and the series that uPlot draws in the browser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from report import words
from report.limits import thinned
from report.markup import Markup, element, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from report.story import Phase

_SPAN = {"y": "3", "height": "10", "rx": "3", "class_": "span"}
SERIES = {"loss": "Loss", "eval_loss": "Evaluation loss", "learning_rate": "Learning rate"}


Series = dict[str, list[list[float]]]
"""The steps and the values of each kind in `SERIES`."""


def series(history: Sequence[Mapping[str, Any]], most: int) -> Series:
    """Return the steps and values of each kind in `SERIES` that the training has logged."""
    found: Series = {}
    for name in SERIES:
        points = [
            (float(entry["step"]), float(entry[name]))
            for entry in history
            if _is_number(entry.get("step")) and _is_number(entry.get(name))
        ]
        if points:
            steps, values = zip(*thinned(sorted(points), most), strict=True)
            found[name] = [list(steps), list(values)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def interval(
    entry: Mapping[str, Any] | None, lowest: float, highest: float, kind: str, *, zero: bool = False
) -> Markup:
    """Return a bar for a mean with its 95% interval, between `lowest` and `highest`.

    Args:
        entry: `mean`, `low` and `high`.
        lowest: the value at the left end.
        highest: the value at the right end.
        kind: the class of its colour.
        zero: whether to draw a line at 0.
    """
    span = (highest - lowest) or 1.0

    def at(of: float) -> str:
        return f"{min(max(100 * (of - lowest) / span, 0), 100):.2f}%"

    parts: list[Markup] = [element("line", x1="0", x2="100%", y1="11", y2="11", class_="axis")]
    if zero and lowest <= 0 <= highest:
        parts.append(element("line", x1=at(0), x2=at(0), y1="0", y2="22", class_="zero"))
    if entry and all(_is_number(entry.get(part)) for part in ("mean", "low", "high")):
        low, high, mean = (float(entry[part]) for part in ("low", "high", "mean"))
        width = min(max(100 * (high - low) / span, 0.5), 100)
        parts.append(
            element("rect", x=at(low), width=f"{width:.2f}%", y="7", height="8", rx="4", class_=f"range {kind}")
        )
        parts.append(element("circle", cx=at(mean), cy="11", r="5", class_=f"mean {kind}"))
    return element("svg", *parts, class_="interval", width="100%", height="22", aria_hidden="true")


def time_line(phases: Sequence[Phase], until: datetime, labels: Mapping[str, str]) -> Markup:
    """Return a row for each phase: its name, a bar in the time of all phases, and its duration.

    Args:
        phases: the phases in their order.
        until: the end of a phase that goes on.
        labels: the words for some names.
    """
    if not phases:
        return join([])
    # A training job ends with a status that takes no time.
    shown = [phase for phase in phases if phase.end is None or phase.end > phase.start] or phases
    start = min(phase.start for phase in phases)
    whole = max((max(phase.end or until for phase in phases) - start).total_seconds(), 1e-3)
    rows = []
    for phase in shown:
        seconds = max(((phase.end or until) - phase.start).total_seconds(), 0.0)
        left = 100 * (phase.start - start).total_seconds() / whole
        width = min(max(100 * seconds / whole, 0.6), 100)
        bar = element(
            "svg",
            element("rect", x="0", width="100%", y="5", height="6", rx="3", class_="track"),
            element("rect", x=f"{min(left, 100 - width):.2f}%", width=f"{width:.2f}%", **_SPAN),
            class_="bar",
            width="100%",
            height="16",
            aria_hidden="true",
        )
        again = f" (attempt {phase.attempt})" if phase.attempt > 1 else ""
        name = element(
            "span", labels.get(phase.name, phase.name), again, class_="name", title=words.moment(phase.start)
        )
        lasted = words.duration(seconds) + ("" if phase.end else ", goes on")
        rows.append(element("li", name, bar, element("span", lasted, class_="lasted")))
    return element("ol", *rows, class_="timeline")
