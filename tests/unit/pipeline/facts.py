"""The stack's facts that infra gives to Plan, with placeholders for those that a test does not need."""

from __future__ import annotations

from typing import Any

from pipeline.contracts.planned import StackFacts


def facts(**known: Any) -> StackFacts:
    """Return the stack's facts with these values, and `any-NAME` for each other fact."""
    return StackFacts(**({name: f"any-{name}" for name in StackFacts._fields} | {"tags": {}} | known))
