"""Lengths and points of time in words, for a person."""

from __future__ import annotations

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """Return a length of time, such as "2 min 5 s" or "4 h 20 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"


def about(seconds: float) -> str:
    """Return an expected length of time, without digits that nobody can know, such as "about 12 min"."""
    rounded = 5 * max(round(seconds / 5), 1)
    if rounded < 120:
        return f"about {rounded} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.1f} h"


def moment(at: datetime | str) -> str:
    """Return a point of time in UTC, such as "2026-11-28 16:20 UTC". A text has the form of ISO 8601."""
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
