"""What an execution has cost so far, in a line, from what AWS has answered about its jobs and its endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.reader import Found
    from serving.stack import Stack


def so_far(stack: Stack, found: Found, now: float) -> str:
    """Return the line."""
    return ""


def ending(stack: Stack, found: Found, now: float) -> list[str]:
    """Return the lines."""
    return []
