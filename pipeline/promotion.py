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
    key = scores.deciding(found)
    difference, rows = found["difference"][key], found["rows"]
    if promote == "better":
        better = difference["mean"] > 0
        yes = f"its {scores.NAMES[key]} is higher than its base's, as endpoint.promote: better asks"
        return better, yes if better else f"endpoint.promote: better asks for more than the base's {scores.NAMES[key]}"
    asks = "endpoint.promote: clearly_better asks"
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
    if difference["low"] > 0:
        return True, f"the lower end of the difference's 95% interval is above 0, as {asks}"
    return (
        False,
        f"{asks} that the lower end of the difference's 95% interval is above 0, and it is {difference['low']:+.1f}",
    )
