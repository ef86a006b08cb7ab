"""The chat page, which `tuneway chat` serves on this machine alone.

It asks the endpoint, and beside it the Bedrock model where the stack has one. The page is gradio's. It loads nothing from
elsewhere: its fonts are the system's, gradio's telemetry and history are off, and a content security policy forbids the
browser every other address. All texts of dialogues and models are in text boxes, so HTML in them is shown as text.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import Refused
from pipeline.openai_route import DIALOGUE
from serving import deployed
from serving import stack as stacks
from serving.ask import MODELS
from serving.errors import NotAnswered
from serving.measured import MeasuredAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.models import Model
    from serving.stack import Stack

    Shown = tuple[str, str]

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

CSS = (
    "footer {display: none !important} "
    ".gradio-container {max-width: 1100px !important; width: 100% !important; margin: 0 auto !important}"
)


def answers(stack: Stack, name: str, dialogue: str, instruction: str) -> Iterator[Shown]:
    """Yield what the page shows of an answer while it comes: its text, and a line about it.

    The model is looked up anew for each question, so that an endpoint that was served again, or is gone, is noticed.
    """
    came: SimpleQueue[Shown | None] = SimpleQueue()
    stopped = Event()

    def work() -> None:
        text = ""
        try:
            model = MODELS[name](stack, lambda line: came.put((text, line)))
            answer = MeasuredAnswer(model._replace(instruction=instruction), dialogue)
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

    if not dialogue.strip() or not instruction.strip():
        yield "", "Write a dialogue and a task, then ask."
        return
    Thread(target=work, daemon=True).start()
    try:
        yield "", "..."
        while shown := came.get():
            yield shown
    finally:
        stopped.set()


def page(stack: Stack, served: dict[str, Model], samples: list[str]) -> Any:
    """Return the page as a gradio Blocks."""
    import gradio

    with gradio.Blocks(title=f"Tuneway: {stack.name}", analytics_enabled=False) as blocks:
        gradio.Markdown(f"## Tuneway: {stack.name}")
        first = next(iter(served.values()))
        task = gradio.Textbox(first.instruction, label="Task, as in training", lines=2, elem_id="task")
        dialogue = gradio.Textbox(label="Dialogue", lines=8, max_lines=20, elem_id="dialogue", autofocus=True)
        gradio.Examples([[sample] for sample in samples], dialogue, label="Sample dialogues", elem_id="samples")
        with gradio.Row():
            ask = gradio.Button("Ask", variant="primary", elem_id="ask")
            stop = gradio.Button("Stop", elem_id="stop")
        asked: list[Any] = []
        with gradio.Row():
            for name, model in served.items():
                with gradio.Column(min_width=320):
                    answer = gradio.Textbox(
                        label=f"{model.title} (run {model.run})",
                        lines=5,
                        max_lines=15,
                        interactive=False,
                        elem_id=f"answer-{name}",
                    )
                    line = gradio.Textbox(
                        show_label=False, container=False, max_lines=6, interactive=False, elem_id=f"line-{name}"
                    )
                asked.append(ask.click(partial(answers, stack, name), [dialogue, task], [answer, line]))
        stop.click(None, cancels=asked)
    return blocks


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
    # Several runs may have asked the same dialogues.
    samples = list(dict.fromkeys(one for run in runs for one in deployed.sample_dialogues(stack, run))) or [DIALOGUE]
    web = app(page(stack, served, samples))
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise Refused(f"--port {port}: {os.strerror(error.errno or 0)}; give another --port") from error
    print(f"Chat page: http://{HOST}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(web, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listening])


def _quiet(_: str) -> None:
    """Take a line of a client that is only looked up, and asks nothing."""
