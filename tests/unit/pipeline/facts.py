"""What infra hands to Plan, with stand-ins where a test does not care."""

from __future__ import annotations

from typing import Any

from pipeline.contracts.planned import StackFacts


def facts(**known: Any) -> StackFacts:
    return StackFacts(**({name: f"any-{name}" for name in StackFacts._fields} | {"tags": {}} | known))
