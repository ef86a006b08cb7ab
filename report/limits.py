"""Keeps a page small for any input: long texts and lists are cut, and the page says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from report.markup import element, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from report.markup import Markup

Item = TypeVar("Item")

MOST_BYTES = 1_000_000
"""The largest page. A page of a usual run has a tenth of it."""


class Limits(NamedTuple):
    """The most that a page shows.

    Attributes:
        samples: held-out rows.
        text: characters of a dialogue, a reference or an answer.
        line: characters of any other text.
        items: entries of any other list.
        points: points of a line in a chart.
        log: last lines of the training job's log.
    """

    samples: int = 30
    text: int = 6000
    line: int = 1500
    items: int = 200
    points: int = 1000
    log: int = 200

    def halved(self) -> Limits:
        """Return half of everything, for a page that was too large."""
        return Limits(*(max(1, limit // 2) for limit in self))


def cut(text: object, most: int) -> Markup:
    """Return a text, or its beginning with the number of characters that are left out."""
    whole = str(text)
    if len(whole) <= most:
        return join([whole])
    return join([whole[:most], element("span", f" … {len(whole) - most:,} more characters", class_="cut")])


def first(items: Sequence[Item], most: int) -> tuple[list[Item], Markup]:
    """Return the first items, and a line that says how many are left out."""
    if len(items) <= most:
        return list(items), join([])
    return list(items[:most]), element("p", f"{len(items) - most:,} more are not shown.", class_="cut")


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many items, evenly taken from all, with the first and the last."""
    if len(items) <= most or most < 2:
        return list(items[-most:])
    step = (len(items) - 1) / (most - 1)
    return [items[round(number * step)] for number in range(most)]
