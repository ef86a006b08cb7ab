"""Numbers, times and money in words."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pipeline import times

if TYPE_CHECKING:
    from datetime import datetime

UNKNOWN = "not known"


def number(value: object, digits: int = 1) -> str:
    """Return a number with separators and so many decimal digits; a value that is no number is not known."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def signed(value: object) -> str:
    """Return a difference with its sign."""
    return f"{value:+.1f}" if isinstance(value, (int, float)) and math.isfinite(value) else UNKNOWN


def share(value: object) -> str:
    """Return a share from 0 to 1 in percent."""
    return f"{100 * value:.3g}%" if isinstance(value, (int, float)) and math.isfinite(value) else UNKNOWN


def dollars(value: object) -> str:
    """Return a sum in US dollars. An unknown one is not 0."""
    return f"${value:,.2f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else UNKNOWN


def duration(seconds: float) -> str:
    """Return a length of time. A phase of a small job may take less than a second."""
    return f"{seconds:.1f} s" if seconds < 10 else times.duration(seconds)


def moment(at: datetime | str) -> str:
    """Return a point of time in UTC. A text that is no time stays as it is."""
    try:
        return times.moment(at)
    except (ValueError, OverflowError):
        return str(at)


def size(count: object) -> str:
    """Return a number of bytes with a unit."""
    if not isinstance(count, (int, float)):
        return UNKNOWN
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit always returns")


def value(of: Any) -> str:
    """Return a value of a setting, as JSON has it, and a text without quotes."""
    return of if isinstance(of, str) and of else json.dumps(of, ensure_ascii=False)
