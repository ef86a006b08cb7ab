"""The chat page, which `tuneway chat` serves on this machine alone.

It asks the endpoint, and beside it the Bedrock model where the stack has one. The page is gradio's. It loads nothing from
elsewhere: its fonts are the system's, gradio's telemetry and history are off, and a content security policy forbids the
browser every other address. Each model has a conversation of its own. Its turns are shown by `html_of`, so HTML in them is
text. gradio's own chat component strips and rewrites texts.
"""

from __future__ import annotations

import html
import json
import os
import socket
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import Refused
from serving import deployed
from serving import stack as stacks
from serving.ask import MODELS
from serving.errors import NotAnswered
from serving.measured import MeasuredAnswer
from serving.questions import user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.models import ChatMessages, Model
    from serving.stack import Stack

    Shown = tuple[ChatMessages, str, str]

HOST = "127.0.0.1"

HEADERS = {
    # gradio has inline scripts and styles, and compiles templates in the browser.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

CSS = """
footer {display: none !important}
.gradio-container {max-width: 1100px !important; width: 100% !important; margin: 0 auto !important}
.turns {display: flex; flex-direction: column; gap: 10px; min-height: 120px}
.turns .turn {max-width: 92%; padding: 8px 12px; border: 1px solid var(--border-color-primary); border-radius: 10px}
.turns .user {align-self: flex-end; background: var(--background-fill-secondary)}
.turns .assistant {align-self: flex-start}
.turns .role {margin: 0 0 2px; font-size: 12px; color: var(--block-label-text-color)}
.turns .text {margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; color: var(--body-text-color)}
"""

HEIGHT = 460
"""The height of a conversation in pixels. A longer one scrolls."""

_ROLES = {"user": "You", "assistant": "Model"}

_SPECIAL = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;"})
"""The characters of gradio's templates, as HTML has them."""


def html_of(turns: ChatMessages) -> str:
    """Return the turns of a conversation as HTML. All of their texts are shown as text."""
    shown = [
        f'<div class="turn {turn["role"]}"><p class="role">{_ROLES[turn["role"]]}</p>'
        f'<p class="text" dir="auto">{html.escape(turn["content"]).translate(_SPECIAL)}</p></div>'
        for turn in turns
        if turn["role"] in _ROLES
    ]
    return f'<div class="turns" role="log">{"".join(shown)}</div>'


def answers(stack: Stack, name: str, message: str, task: str, before: ChatMessages) -> Iterator[Shown]:
    """Yield what the page shows of an answer while it comes: the conversation, its HTML, and a line about the answer.

    The model is looked up anew for each question, so that an endpoint that was served again, or is gone, is noticed.

    Args:
        stack: the stack.
        name: the place of the model.
        message: the user's text.
        task: the system message. A blank one is none.
        before: the conversation so far.
    """
    came: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
    stopped = Event()
    # A question that got no answer is not asked again: two turns of the user in a row are no conversation.
    while before and before[-1]["role"] == "user":
        before = before[:-1]
    question = [*before, *user(message)]

    def work() -> None:
        text = ""
        try:
            model = MODELS[name](stack, lambda line: came.put((text, line)))
            answer = MeasuredAnswer(model._replace(instruction=task if task.strip() else None), question)
            for _ in answer.pieces():
                text = answer.text
                came.put((text, ""))
                if stopped.is_set():
                    return
            came.put((text, answer.line()))
        except (Refused, NotAnswered) as error:
            came.put((text, str(error)))
        except (ClientError, BotoCoreError) as error:
            came.put((text, f"{' '.join(str(error).split())}; check your AWS credentials, and ask again"))
        finally:
            came.put(None)

    if not message.strip():
        yield before, html_of(before), "Write a message, then send it."
        return
    Thread(target=work, daemon=True).start()
    try:
        yield question, html_of(question), "..."
        while shown := came.get():
            text, line = shown
            turns = [*question, {"role": "assistant", "content": text}] if text.strip() else question
            yield turns, html_of(turns), line
    finally:
        stopped.set()


def page(stack: Stack, served: dict[str, Model], samples: list[ChatMessages]) -> Any:
    """Return the page as a gradio Blocks."""
    import gradio

    with gradio.Blocks(title=f"Tuneway: {stack.name}", analytics_enabled=False) as blocks:
        gradio.Markdown(f"## Tuneway: {stack.name}")
        first = next(iter(served.values()))
        task = gradio.Textbox(
            first.instruction or "",
            label="Task, as in training (the system message; empty: none)",
            lines=2,
            max_lines=8,
            elem_id="task",
        )
        shown: dict[str, list[Any]] = {}
        with gradio.Row():
            for name, model in served.items():
                with gradio.Column(min_width=320):
                    turns = gradio.HTML(
                        html_of([]),
                        label=f"{model.title} (run {model.run})",
                        show_label=True,
                        container=True,
                        padding=True,
                        max_height=HEIGHT,
                        autoscroll=True,
                        elem_id=f"turns-{name}",
                    )
                    line = gradio.Textbox(
                        show_label=False, container=False, max_lines=6, interactive=False, elem_id=f"line-{name}"
                    )
                shown[name] = [gradio.State([]), turns, line]
        message = gradio.Textbox(
            label="Message (Shift+Enter sends it)", lines=4, max_lines=16, elem_id="message", autofocus=True
        )
        sent = gradio.State("")
        with gradio.Row():
            ask = gradio.Button("Send", variant="primary", elem_id="ask")
            stop = gradio.Button("Stop", elem_id="stop")
            new = gradio.Button("New conversation", elem_id="new")
        # The box is emptied at once, and the models are asked what was in it.
        send = gradio.on([ask.click, message.submit], lambda text: (text, ""), [message], [sent, message], queue=False)
        asked = [
            send.then(partial(answers, stack, name), [sent, task, outputs[0]], outputs, show_progress="hidden")
            for name, outputs in shown.items()
        ]
        stop.click(None, cancels=asked)
        every = [one for outputs in shown.values() for one in outputs]
        new.click(lambda: ("", *([], html_of([]), "") * len(shown)), None, [message, *every], cancels=asked)
        if samples:
            begun = gradio.Dataset(
                components=["textbox"],
                samples=[[_label(sample)] for sample in samples],
                type="index",
                label="Sample conversations",
                elem_id="samples",
            )
            begun.click(
                lambda number: _begin(samples[number], len(shown)), [begun], [task, message, *every], cancels=asked
            )
    return blocks


def _label(sample: ChatMessages) -> str:
    """Return the text by which a sample is chosen."""
    turns = [turn["content"] for turn in sample if turn["role"] != "system"]
    return turns[0] if len(turns) == 1 else f"{len(turns)} turns: {turns[0]}"


def _begin(sample: ChatMessages, models: int) -> tuple[Any, ...]:
    """Return the task, the message and the conversation of each model, for a sample that is to be asked."""
    task = next((turn["content"] for turn in sample if turn["role"] == "system"), "")
    before = [turn for turn in sample[:-1] if turn["role"] != "system"]
    return (task, sample[-1]["content"], *(before, html_of(before), "") * models)


def app(blocks: Any) -> Any:
    """Return the web application: the page, for this machine's names only, with the headers that keep it to itself."""
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page of another site whose name resolves to this machine must not be able to ask.
    web.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    web.add_middleware(_Headers)
    theme = gradio.themes.Default(
        font=[gradio.themes.Font("system-ui"), gradio.themes.Font("sans-serif")],
        font_mono=[gradio.themes.Font("ui-monospace"), gradio.themes.Font("monospace")],
    )
    return gradio.mount_gradio_app(
        web,
        blocks,
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=theme,
        css=CSS,
    )


class _Headers:
    """Adds `HEADERS` to each response, without holding back a stream."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        await self._inner(scope, receive, with_headers)


def serve(settings_file: Path | None, port: int) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        Refused: the stack serves no model, or the port is in use.
    """
    # Before the import of gradio, which reads them.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    import uvicorn

    stack = stacks.find_stack(stacks.load(settings_file))
    served, why = {}, ""
    for name, find in MODELS.items():
        try:
            served[name] = find(stack, _quiet)
        except Refused as error:
            why = why or str(error)  # the endpoint's
    if not served:
        raise Refused(why)
    runs = dict.fromkeys(model.run for model in served.values())
    # Several runs may have asked the same questions.
    samples = {json.dumps(one): one for run in runs for one in deployed.samples(stack, run)}
    web = app(page(stack, served, list(samples.values())))
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise Refused(f"--port {port}: {os.strerror(error.errno or 0)}; give another --port") from error
    print(f"Chat page: http://{HOST}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(web, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listening])


def _quiet(_: str) -> None:
    """Take a line of a client that is only looked up, and asks nothing."""
