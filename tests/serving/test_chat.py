"""The chat page in headless Chromium, on local AWS: the endpoint beside an imported model, and nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from serving.endpoint import client
from tests.browser import browser, keep_picture
from tests.local_aws.conftest import REGION, ROOT
from tests.local_aws.services.sagemaker import openai_endpoint
from tests.local_aws.services.sagemaker.openai_endpoint import HTML
from tests.serving import stacks
from tests.serving.conftest import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.serving.conftest import Served

__all__ = ["browser"]

WIDTHS, SCHEMES = (400, 1400), ("light", "dark")


@pytest.fixture(scope="module")
def url(served: Served, settings: Path) -> Iterator[str]:
    """The address of the page of the tiny model."""
    yield from serve(served, settings)


@pytest.fixture(scope="module")
def html_url(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page of a model whose answer is HTML."""
    openai_endpoint.up_with_server(served.aws, "html", served.serving_role)
    role = served.aws.role("CallerOfHtml", openai_endpoint.BEARER, openai_endpoint.invoke("html"))
    stacks.serve(served.aws, "html", "4100000000")
    settings = stacks.create(served.aws, "html-stack", "html", role, tmp_path_factory.mktemp("html"))
    yield from serve(served, settings)


@pytest.fixture(scope="module")
def slow_url(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page of a model whose answer comes in two pieces, the second a second later."""
    openai_endpoint.up_with_server(served.aws, "slow", served.serving_role, "slow-chat")
    role = served.aws.role("CallerOfSlowPage", openai_endpoint.BEARER, openai_endpoint.invoke("slow-chat"))
    stacks.serve(served.aws, "slow-chat", "5200000000")
    settings = stacks.create(served.aws, "slow-page", "slow-chat", role, tmp_path_factory.mktemp("slow"))
    yield from serve(served, settings)


def environment(served: Served) -> dict[str, str]:
    """The user's environment with a PATH, which gradio needs."""
    return {**served.environment, "PATH": os.environ["PATH"]}


def serve(served: Served, settings: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cli", "chat", "--settings", str(settings), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(served), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stdout.read()
        yield found[0]
        process.terminate()


def opened(browser: Browser, url: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    page.locator("#ask").wait_for()
    return page


def ask(page: Page, message: str) -> None:
    before = page.locator("#line-endpoint textarea").input_value()
    page.locator("#message textarea").fill(message)
    page.locator("#ask").click()
    changed = "before => document.querySelector('#line-endpoint textarea')?.value !== before"
    page.wait_for_function(changed, arg=before)


def turns(page: Page, name: str = "endpoint") -> list[tuple[str, str]]:
    """The conversation as the page shows it: who says what."""
    shown = page.locator(f"#turns-{name} .turn").all()
    return [(one.locator(".role").inner_text(), one.locator(".text").inner_text()) for one in shown]


def measured(page: Page) -> str:
    """The line about the endpoint's answer, once it has ended."""
    line = page.locator("#line-endpoint textarea")
    page.wait_for_function("() => /dollars/.test(document.querySelector('#line-endpoint textarea')?.value)")
    return line.input_value()


def test_an_answer_is_streamed_with_its_measures_and_nothing_is_loaded_from_elsewhere(
    browser: Browser, url: str
) -> None:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    hosts, faults = set(), []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url)
    page.locator("#ask").wait_for()
    assert page.locator("#task textarea").input_value() == stacks.INSTRUCTION
    ask(page, stacks.DIALOGUE)
    line = measured(page)
    # There is no rate if the tiny model has written all tokens in one burst (tests/unit/serving/test_measured.py).
    measures = r"first token \d+\.\d\d s · (\d+\.\d tokens/s · )?\d+ \+ \d+ tokens in \d+\.\d\d s · \$0\.\d+ \(1 x"
    assert re.match(measures, line), line
    (_, asked), (_, answer) = turns(page)
    assert asked == stacks.DIALOGUE
    assert answer
    assert hosts == {"127.0.0.1"}
    assert faults == []
    page.close()


def test_a_third_turn_is_asked_with_the_turns_before_it(browser: Browser, url: str, user: Served) -> None:
    page = opened(browser, url)
    asked: list[Any] = [{"role": "system", "content": stacks.INSTRUCTION}]
    for message in ("Ann: hi, it is me", "Bob: who?", "Ann: me!"):
        ask(page, message)
        measured(page)
        asked.append({"role": "user", "content": message})
        options: Any = {"model": "", "max_tokens": stacks.MAX_TOKENS, "temperature": 0}
        answer = client(NAME, user.role, REGION).chat.completions.create(messages=asked, **options).choices[0].message
        asked.append({"role": "assistant", "content": str(answer.content)})
    assert [text for _, text in turns(page)] == [one["content"].strip() for one in asked[1:]]
    page.locator("#new").click()
    page.locator("#turns-endpoint .turn").first.wait_for(state="detached")
    assert page.locator("#line-endpoint textarea").input_value() == ""
    assert page.locator("#task textarea").input_value() == stacks.INSTRUCTION
    page.context.close()


def test_a_conversation_that_is_too_long_is_one_line_with_the_remedy(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    ask(page, stacks.DIALOGUE)
    measured(page)
    for _ in range(2):
        ask(page, "word " * 400)
        page.wait_for_function("() => /longer than/.test(document.querySelector('#line-endpoint textarea')?.value)")
        line = page.locator("#line-endpoint textarea").input_value()
        assert re.fullmatch(
            r"the text is longer than the model takes \(256 tokens with 48 for the answer\); shorten it, begin a new "
            r"conversation, or serve the model with a higher endpoint\.max_model_len",
            line,
        )
        page.wait_for_timeout(500)
        # A question without an answer is not sent again.
        assert [role for role, _ in turns(page)] == ["You", "Model", "You"]
    ask(page, "  ")
    page.wait_for_function("() => /Write a message/.test(document.querySelector('#line-endpoint textarea')?.value)")
    page.context.close()


def test_an_answer_is_stopped_and_the_conversation_goes_on(browser: Browser, slow_url: str) -> None:
    page = opened(browser, slow_url)
    ask(page, "hello")
    page.locator("#turns-endpoint .assistant").wait_for()
    page.locator("#stop").click()
    page.wait_for_timeout(2500)
    assert [text for _, text in turns(page)] == ["hello", "one"], "its second piece comes a second later"
    ask(page, "again")
    page.wait_for_function("() => document.querySelectorAll('#turns-endpoint .assistant').length === 2")
    assert [text for _, text in turns(page)][:3] == ["hello", "one", "again"]
    page.context.close()


def test_a_sample_conversation_is_there_at_a_click(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    page.locator("#samples").get_by_text("<b>there</b>").click()
    page.wait_for_function("() => document.querySelector('#message textarea')?.value.length > 0")
    assert page.locator("#message textarea").input_value() == stacks.SAMPLES[0][0]["content"]
    assert page.locator("#task textarea").input_value() == "", "its rows have no system message"
    page.locator("#samples").get_by_text("3 turns: My name is").click()
    page.locator("#turns-endpoint .assistant").wait_for()
    assert page.locator("#message textarea").input_value() == "What is my name?"
    assert page.locator("#task textarea").input_value() == "Be kind."
    assert [text for _, text in turns(page)] == [turn["content"] for turn in stacks.SAMPLES[1][1:3]]
    page.locator("#ask").click()
    measured(page)
    assert len(turns(page)) == 4
    page.context.close()


def test_html_in_message_and_answer_is_text(browser: Browser, html_url: str) -> None:
    page = opened(browser, html_url)
    ask(page, HTML)
    assert "tokens/s" not in measured(page), "its one piece is a burst"
    assert [text for _, text in turns(page)] == [HTML, HTML]
    assert page.locator("img[src='x']").count() == 0
    assert page.title() == "Tuneway: html-stack"
    page.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_a_phone_and_a_desk_in_light_and_dark(
    browser: Browser, url: str, width: int, scheme: Any
) -> None:
    page = opened(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for message in ("Ann: hi", "שלום " + "x" * 40):
        ask(page, message)
        measured(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (brightness > 128) == (scheme == "light"), background
    keep_picture(page, f"chat-{width}-{scheme}")
    page.context.close()


def test_other_names_of_this_machine_and_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(url, headers={"Host": "evil.example"}))
    assert refused.value.code == 400
    with urlopen(url) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    port = urlsplit(url).port
    listening = Path("/proc/net/tcp").read_text()
    addresses = [line.split()[1] for line in listening.splitlines() if line.split()[1].endswith(f":{port:04X}")]
    assert addresses[0] == f"0100007F:{port:04X}"


def test_a_port_in_use_is_one_line(served: Served, settings: Path, url: str) -> None:
    port = str(urlsplit(url).port)
    command = [sys.executable, "-m", "cli", "chat", "--settings", str(settings), "--port", port]
    done = subprocess.run(command, cwd=ROOT, env=environment(served), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: --port {port}: Address already in use; give another --port\n")
