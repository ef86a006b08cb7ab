"""Streams of chat completions: server-sent events, token by token, as vLLM writes them.

Source: vllm-project/vllm, `vllm/entrypoints/openai/chat_completion/serving.py`: the first event has the role, the last one the
finish reason, `stream_options.include_usage` adds one with the counts and no choice, and `data: [DONE]` ends the stream.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

from transformers.generation.streamers import BaseStreamer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local_aws.vllm.chat import Asked, ChatRequest, Engine

_DONE = b"data: [DONE]\n\n"


class _Pieces(BaseStreamer):
    """Turns the tokens of `generate` into pieces of text, each as soon as no later token can change it.

    A character of several tokens waits for its last one. The end of the text waits as long as a stop text may begin in it.
    """

    def __init__(self, text: Callable[[list[int]], str], waiting: int, send: Callable[[str], None]) -> None:
        self._text, self._waiting, self._send = text, waiting, send
        self._ids: list[int] = []
        self._prompt = True
        self.sent = ""

    def put(self, value: Any) -> None:
        """Take the prompt at the first call, then each token."""
        if self._prompt:
            self._prompt = False
            return
        self._ids += value.tolist()
        text = self._text(self._ids)
        ready = text[: len(text) - self._waiting]
        if not text.endswith("\N{REPLACEMENT CHARACTER}") and ready.startswith(self.sent):
            self._send(ready[len(self.sent) :])
            self.sent = ready

    def end(self) -> None:
        """Do nothing: the rest of the text follows with the finish reason."""


async def events(engine: Engine, request: ChatRequest, asked: Asked) -> AsyncIterator[bytes]:
    """Yield the events of an answer. The generation ends early if nobody reads them any more."""
    loop, stop = asyncio.get_running_loop(), threading.Event()
    made: asyncio.Queue[str | list[int] | Exception] = asyncio.Queue()

    def send(piece: str | list[int] | Exception) -> None:
        loop.call_soon_threadsafe(made.put_nowait, piece)

    waiting = max(map(len, asked.stops), default=1) - 1
    pieces = _Pieces(lambda ids: engine.text(asked, ids), waiting, send)

    def run() -> None:
        try:
            send(engine.generate(asked, pieces, stop))
        except Exception as error:  # The client gets every error, as an event.
            send(error)

    head = engine.head(request, "chat.completion.chunk")

    def event(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice]})

    threading.Thread(target=run, name="generation", daemon=True).start()
    try:
        first = True
        while True:
            piece = await made.get()
            if isinstance(piece, Exception):
                error = {"message": str(piece), "type": "InternalServerError", "param": None, "code": 500}
                yield _event({"error": error})
                break
            if first:
                first = False
                yield event({"role": "assistant", "content": ""})
            if isinstance(piece, list):
                rest = engine.text(asked, piece)[len(pieces.sent) :]
                yield event({"content": rest}, engine.finish_reason(asked, piece))
                if (request.stream_options or {}).get("include_usage"):
                    yield _event({**head, "choices": [], "usage": asked.usage(piece)})
                break
            if piece:
                yield event({"content": piece})
        yield _DONE
    finally:
        stop.set()


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"
