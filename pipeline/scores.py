"""Reads the scores of a run: which there are, their names for a reader, and the one that decides.

Runs of earlier versions of Tuneway have no `metrics` and no `deciding`. They have ROUGE and chrF, and ROUGE-L decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject

NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "chrF": "chrF",
    "exact": "exact match",
    "json_valid": "valid JSON",
    "json_fields": "field accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
"""The names of all scores, by their keys in evaluation.json (`training.scores.NAMES`)."""

_DETAILS = {"rouge1", "rouge2"}
"""The scores for which a line has no room."""


def present(scores: JsonObject) -> list[str]:
    """Return the keys of the scores that a run has, in the order of `NAMES`."""
    found = scores.get("metrics") or scores.get("difference") or ()
    return [key for key in NAMES if key in found]


def deciding(scores: JsonObject) -> str:
    """Return the key of the score by which endpoint.promote decides."""
    return str(scores.get("deciding") or "rougeL")


def important(scores: JsonObject) -> list[str]:
    """Return the keys of the scores that a line about a run has. The one that decides comes first."""
    first = deciding(scores)
    return sorted((key for key in present(scores) if key not in _DETAILS), key=lambda key: key != first)
