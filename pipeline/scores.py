"""Reads the scores of a run: which there are, their names for a reader, and the one that decides.

Runs of earlier versions of Tuneway have no `metrics` and no `deciding`. They have ROUGE and chrF, and ROUGE-L decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.contracts.events import Judged
    from pipeline.contracts.values import JsonObject

WIN_RATE = "win_rate"
"""The key of the judge model's score. The others come from the training job."""

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
    WIN_RATE: "win rate",
}
"""The names of all scores, by their keys in evaluation.json (`training.scores.NAMES`)."""

_DETAILS = {"rouge1", "rouge2"}
"""The scores for which a line has no room."""


def with_judge(scores: JsonObject, judged: Judged | None, *, decides: bool) -> JsonObject:
    """Return a run's scores with the win rate among them, and what else the judge model found under `judge`.

    The tuned model's score is the share of rows that it wins, where a tie is half a row, and the base's score is the rest. So
    their difference is above 0 if and only if the win rate is above 50%, and each reader of scores understands it.

    Args:
        scores: the scores of evaluation.json.
        judged: the answer of the judge step. None in a run without a judge model.
        decides: whether endpoint.promote decides by the win rate.
    """
    if judged is None:
        return scores
    found = judged.verdicts or {}
    judge = {"decides": decides, "failed": judged.failed, **found}
    rate = found.get("win_rate")
    if judged.failed or rate is None:
        return {**scores, "judge": judge}
    mean, low, high = (rate[end] for end in ("mean", "low", "high"))
    sides = {
        "tuned": rate,
        "base": {"mean": 100 - mean, "low": 100 - high, "high": 100 - low},
        "difference": {"mean": 2 * mean - 100, "low": 2 * low - 100, "high": 2 * high - 100},
    }
    return {
        **scores,
        **{side: {**scores[side], WIN_RATE: score} for side, score in sides.items()},
        "metrics": [*present(scores), WIN_RATE],
        "deciding": WIN_RATE if decides else deciding(scores),
        "differing": {**scores.get("differing", {}), WIN_RATE: found["wins"] + found["losses"]},
        "judge": judge,
    }


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
