"""Headless Chromium for the tests of pages. A module that imports this is skipped on a machine without it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
if not CHROMIUM and os.environ.get("BROWSER_TESTS") != "required":
    pytest.skip("no browser: apt-get install chromium runs the tests of the pages", allow_module_level=True)


def keep_picture(page: Page, name: str) -> None:
    """Keep the picture of a page if SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
