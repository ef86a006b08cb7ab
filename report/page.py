"""Renders the report of a run: one HTML file with everything in it, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from report import charts, details, overview, results
from report.limits import MOST_BYTES, Limits
from report.markup import Markup, data, element, join

if TYPE_CHECKING:
    from report.story import Story

FOLDER = Path(__file__).resolve().parent
UPLOT = FOLDER.parent / "node_modules" / "uplot"
"""The chart library of package.json. The function's zip has it at the same place (`infra.package`)."""


class PageTooLarge(Exception):
    """A page is too large although everything in it was cut to one item. It is a defect of Tuneway."""


def render(story: Story) -> str:
    """Return the page, of at most `MOST_BYTES`. If it is larger, it is written again with half of everything."""
    limits = Limits()
    while True:
        page = _page(story, limits)
        if len(page.encode()) <= MOST_BYTES:
            return page
        if limits == limits.halved():
            raise PageTooLarge(f"the report of run {story.run} has {len(page.encode())} bytes; report it")
        limits = limits.halved()


def _page(story: Story, limits: Limits) -> str:
    series = charts.series(story.history, limits.points)
    sections = [
        overview.failure(story, limits),
        overview.notes(story, limits),
        details.model(story, limits),
        results.training(series),
        results.scores(story),
        results.judge(story, limits),
        results.habits(story),
        results.samples(story, limits),
        results.asked(story, limits),
        details.data(story, limits),
        details.time(story, limits),
        details.money(story, limits),
        details.settings(story, limits),
        details.use(story, limits),
    ]
    shown = [section for section in sections if section]
    links = [element("a", heading, href=f"#{anchor}") for anchor, heading in map(_heading, shown)]
    body = element(
        "main",
        overview.header(story, limits),
        overview.tiles(story),
        element("nav", *links, aria_label="Contents"),
        *shown,
        element("footer", "Written by Tuneway. Charts: uPlot 1.6.32 by Leon Sorokin, MIT licence."),
    )
    library, script = _read(UPLOT / "dist" / "uPlot.iife.min.js"), _read(FOLDER / "page.js")
    styles = _read(UPLOT / "dist" / "uPlot.min.css") + _read(FOLDER / "page.css")
    # The licence asks for its text in each copy.
    library = f"/*\n{_read(UPLOT / 'LICENSE')}*/\n{library}"
    allowed = f"style-src {_digest(styles)}; script-src {_digest(library)} {_digest(script)}"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", overview.title(story)),
        element("style", Markup(styles)),
    )
    values = element("script", data(series), type="application/json", id="series")
    scripts = join([values, element("script", Markup(library)), element("script", Markup(script))])
    return "<!doctype html>\n" + element("html", head, element("body", body, scripts), lang="en") + "\n"


def _heading(section: Markup) -> tuple[str, str]:
    """Return the anchor and the heading of a section, for the contents."""
    anchor = section.partition(' id="')[2].partition('"')[0]
    return anchor, Markup(section.partition("<h2>")[2].partition("</h2>")[0])


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the source of the page's policy that allows exactly this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
