"""The chat page shows the endpoint beside the model in Bedrock, each with its own measures or error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.browser import browser
from tests.serving import stacks, test_chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.serving.conftest import Served

__all__ = ["browser"]


@pytest.fixture
def both_url(served: Served, both: Path, model: str) -> Iterator[str]:
    stacks.leave_in_bedrock(served.aws, model, "Converse")
    yield from test_chat.serve(served, both)


def test_both_models_answer_side_by_side(browser: Browser, both_url: str, tmp_path: Path) -> None:
    page = test_chat.opened(browser, both_url, viewport={"width": 1400, "height": 900})
    bedrock = page.locator("#line-bedrock textarea")
    for _ in range(20):  # an imported model wakes first
        test_chat.ask(page, stacks.DIALOGUE)
        test_chat.measured(page)
        page.wait_for_function(
            "() => document.querySelector('#line-bedrock textarea')?.value?.includes('ask again') || "
            "document.querySelector('#line-bedrock textarea')?.value?.includes('windows of 5 minutes')"
        )
        if "windows" in bedrock.input_value():
            break
        page.wait_for_timeout(1000)
    assert "billed in windows of 5 minutes" in bedrock.input_value()
    answers = [test_chat.turns(page, name)[1] for name in ("endpoint", "bedrock")]
    assert answers[0] == answers[1]
    assert answers[0][1]
    left, right = (page.locator(f"#turns-{name}").bounding_box() for name in ("endpoint", "bedrock"))
    assert left and right
    assert (left["y"], left["x"] < right["x"]) == (right["y"], True)
    page.screenshot(path=f"{os.environ.get('SCREENSHOTS') or tmp_path}/chat-both.png", full_page=True)
    page.context.close()
