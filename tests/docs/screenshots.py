"""Pictures of the report and of the chat page of a deployed stack, light and dark, as small PNG files."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

SCHEMES = ("light", "dark")
WIDTH, HEIGHT = 1100, 1000
COLOURS = 96
"""Colours of a picture. The pages are text on few colours, so that a palette makes the files three times smaller."""
MOST_BYTES = 150_000


def take(env: dict[str, str], folder: Path) -> None:
    """Write report-SCHEME.png and chat-SCHEME.png into the folder.

    Args:
        env: the environment of a user of a stack that serves a model, and has a run with a page.
        folder: the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(
        ["tuneway", "report", "--no-open"], cwd=ROOT, env=env, capture_output=True, check=True, text=True
    )
    report = (ROOT / found.stdout.strip()).as_uri()
    with sync_playwright() as playwright, chat_page(env) as chat:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = opened(browser, report, scheme)
            page.wait_for_timeout(500)  # until the charts are drawn
            save(page, folder / f"report-{scheme}.png", end="#training")
            page = opened(browser, chat, scheme)
            page.locator("#samples td, #samples button").first.click()
            page.wait_for_function("() => document.querySelector('#message textarea')?.value.length > 0")
            page.locator("#ask").click()
            page.wait_for_function("() => /dollars|\\$/.test(document.querySelector('#line-endpoint textarea')?.value)")
            save(page, folder / f"chat-{scheme}.png", end="#line-endpoint")
        browser.close()


def opened(browser: Browser, address: str, scheme: Any) -> Page:
    page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme).new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    return page


def save(page: Page, path: Path, end: str) -> None:
    """Write the page down to the end of an element, with few colours, so that the repository stays small."""
    box = page.locator(end).bounding_box()
    assert box
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16}
    picture = Image.open(BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(path, size, "bytes", flush=True)
    assert size <= MOST_BYTES, f"{path} has {size} bytes, more than {MOST_BYTES}: take fewer colours or less height"


@contextmanager
def chat_page(env: dict[str, str]) -> Iterator[str]:
    """Serve the chat page, and yield its address."""
    command = ["tuneway", "chat", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as chat:
        assert chat.stdout
        line = chat.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line + chat.stdout.read()
        try:
            yield address[0]
        finally:
            chat.terminate()
