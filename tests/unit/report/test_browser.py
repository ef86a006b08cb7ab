"""The page in headless Chromium: drawn charts, values on hover, the filter, hostile texts, and nothing from elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from report.page import render
from tests.browser import browser, keep_picture
from tests.unit.report.stories import FAILED, GOOD, REFUSED, hostile

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

STORIES = {"good": GOOD, "failed": FAILED, "refused": REFUSED, "hostile": hostile()}
PAINTED = """canvas => {
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
}"""
"""The number of colours of a canvas. A blank one has one."""
SCROLLING = """() => [...document.querySelectorAll("main *")].filter((one) => {
  const { overflowX, overflowY } = getComputedStyle(one), scrolls = (kind) => kind === "auto" || kind === "scroll";
  return (scrolls(overflowX) && one.scrollWidth > one.clientWidth) ||
    (scrolls(overflowY) && one.scrollHeight > one.clientHeight);
}).map((one) => ({ html: one.outerHTML.slice(0, 80), tab: one.hasAttribute("tabindex") ? one.tabIndex : null,
  role: one.getAttribute("role"), label: one.getAttribute("aria-label") }))"""
"""The elements that have more than they show."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, story in STORIES.items():
        (folder / f"{name}.html").write_text(render(story), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in STORIES}


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """Return the open page, and the list of its faults and of all its requests but the first."""
    page = browser.new_context(**options).new_page()
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda request: None if request.url == path.as_uri() else found.append(request.url))
    page.goto(path.as_uri())
    return page, found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", list(STORIES))
def test_a_page_fits_its_screen_without_a_fault_or_a_request(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Any
) -> None:
    page, found = opened(browser, pages[name], viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("img, iframe, object, embed, link").count() == 0
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
    assert dark == (scheme == "dark")
    keep_picture(page, f"report-{name}-{width}-{scheme}")
    assert found == []
    page.context.close()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", list(STORIES))
def test_the_keyboard_reaches_whatever_scrolls_and_each_has_a_name(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    page, _ = opened(browser, pages[name], viewport={"width": width, "height": 900})
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    scrolling = page.evaluate(SCROLLING)
    assert [one for one in scrolling if one["tab"] != 0 or not one["role"] or not one["label"]] == []
    if (name, width) == ("good", 400):
        money = page.get_by_role("group", name="Money by part")
        money.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.querySelector('#money .scroll').scrollLeft > 0")
        assert len(scrolling) > 5
    page.context.close()


def test_the_charts_are_drawn_and_show_values_on_hover(browser: Browser, pages: dict[str, Path]) -> None:
    page, found = opened(browser, pages["good"], viewport={"width": 1400, "height": 900})
    canvases = page.locator(".chart canvas")
    assert canvases.count() == 2
    assert all(canvas.evaluate(PAINTED) > 5 for canvas in canvases.all())
    over = page.locator(".chart .u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    values = page.locator(".chart").first.locator(".u-value")
    page.wait_for_function("() => /\\d/.test(document.querySelectorAll('.chart .u-value')[1].textContent)")
    assert 100 < int(values.nth(0).inner_text()) < 190
    assert 1 < float(values.nth(1).inner_text()) < 2
    assert found == []
    page.context.close()


def test_a_long_log_shows_its_end(browser: Browser, pages: dict[str, Path]) -> None:
    page, found = opened(browser, pages["failed"])
    rest = page.locator("pre.log").evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight")
    assert page.locator("pre.log").evaluate("log => log.scrollTop") > 100
    assert rest <= 1
    assert found == []
    page.context.close()


def test_the_charts_follow_the_scheme_and_the_width(browser: Browser, pages: dict[str, Path]) -> None:
    page, found = opened(browser, pages["good"], viewport={"width": 1400, "height": 900}, color_scheme="light")
    pixel = "() => [...document.querySelector('.chart canvas').toDataURL()].length"
    before = page.evaluate("() => document.querySelector('.chart canvas').toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("before => document.querySelector('.chart canvas').toDataURL() !== before", arg=before)
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function("() => document.querySelector('.chart canvas').getBoundingClientRect().width < 500")
    assert page.evaluate(pixel) > 1000
    assert found == []
    page.context.close()


def test_the_samples_are_filtered_by_kind_and_words(browser: Browser, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["good"])
    visible = page.locator("#rows .sample:visible")
    assert visible.count() == 22
    page.locator("#kind").select_option("fault")
    assert visible.count() == 8
    assert page.locator("#count").inner_text() == "8 of 22"
    page.locator("#find").fill("MIA tom")
    assert visible.count() == 2
    page.locator("#kind").select_option("")
    assert visible.count() == 6
    page.locator("#find").fill("عمر")
    assert visible.count() == 6
    page.locator("#find").fill("nothing has this")
    assert page.locator("#count").inner_text() == "0 of 22"
    page.context.close()


def test_a_text_from_right_to_left_stands_on_the_right(browser: Browser, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["good"])
    direction = "element => getComputedStyle(element).direction"
    assert page.locator("#rows .sample").nth(1).locator(".tuned .text").evaluate(direction) == "rtl"
    assert page.locator("#rows .sample").nth(0).locator(".tuned .text").evaluate(direction) == "ltr"
    page.context.close()


def test_the_page_prints_without_its_controls_in_light_colours(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    page, found = opened(browser, pages["good"], color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = page.pdf(path=f"{os.environ.get('SCREENSHOTS') or tmp_path}/report-good.pdf")
    assert printed.startswith(b"%PDF")
    assert found == []
    page.context.close()


def test_the_page_is_whole_without_scripts(browser: Browser, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["good"], java_script_enabled=False)
    assert page.locator("#rows .sample:visible").count() == 22
    assert page.locator("#training summary").is_visible()
    assert not page.locator(".controls").is_visible()
    page.context.close()
