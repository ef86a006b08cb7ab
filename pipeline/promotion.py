"""Decides by a model's scores and `endpoint.promote` whether the model is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import scores

if TYPE_CHECKING:
    from pipeline.contracts.planned import Promote
    from pipeline.contracts.values import JsonObject

FEWEST_ROWS = 6
"""The fewest held-out rows with different scores on which resampling can show that a model is better. The interval of two equal
models lies above 0 if all these rows do by chance. With 5 rows that happens in 1 of 32 runs, which is more than the 2.5% beyond
the end of a 95% interval. With 1 row it happens in 1 of 2. Answers that are right or wrong have the same score on most rows."""


def decide(found: JsonObject, promote: Promote) -> tuple[bool, str]:
    """Return whether the model is good enough to be served, and the reason with the setting behind it.

    Args:
        found: the run's scores: the number of held-out `rows`, that of `differing` ones, and the `difference` of the tuned
            model's score and its base's with its 95% interval. The score is that of training.evaluation.promote_by.
        promote: endpoint.promote.
    """
    if promote == "always":
        return True, "endpoint.promote is always: any model is served"
    judge = found.get("judge") or {}
    if judge.get("decides") and judge.get("failed"):
        return False, f"training.evaluation.promote_by is judge, and there is no win rate: {judge['failed']}"
    key = scores.deciding(found)
    return _better(found, key) if promote == "better" else _clearly_better(found, key)


def _better(found: JsonObject, key: str) -> tuple[bool, str]:
    name, better = scores.NAMES[key], found["difference"][key]["mean"] > 0
    if key == scores.WIN_RATE:
        yes = "its win rate is above 50%, as endpoint.promote: better asks"
        return better, yes if better else "endpoint.promote: better asks for a win rate above 50%"
    yes = f"its {name} is higher than its base's, as endpoint.promote: better asks"
    return better, yes if better else f"endpoint.promote: better asks for more than the base's {name}"


def _clearly_better(found: JsonObject, key: str) -> tuple[bool, str]:
    asks = "endpoint.promote: clearly_better asks"
    difference, rows = found["difference"][key], found["judge"]["rows"] if key == scores.WIN_RATE else found["rows"]
    if rows < FEWEST_ROWS:
        return (
            False,
            f"{asks} for at least {FEWEST_ROWS} held-out rows: with fewer, a model is too often better by chance",
        )
    differing = found.get("differing", {}).get(key, rows)  # Earlier versions have not counted them.
    if difference["low"] > 0 and differing < FEWEST_ROWS:
        return (
            False,
            f"{asks} for at least {FEWEST_ROWS} held-out rows whose scores differ, and there are {differing}: with fewer, a "
            "model is too often better by chance",
        )
    if key == scores.WIN_RATE:
        low = found["tuned"][key]["low"]
        yes = f"the lower end of the win rate's 95% interval is above 50%, as {asks}"
        no = f"{asks} that the lower end of the win rate's 95% interval is above 50%, and it is {low:.1f}%"
    else:
        yes = f"the lower end of the difference's 95% interval is above 0, as {asks}"
        no = (
            f"{asks} that the lower end of the difference's 95% interval is above 0, and it is {difference['low']:+.1f}"
        )
    clearly = difference["low"] > 0
    return clearly, yes if clearly else no
