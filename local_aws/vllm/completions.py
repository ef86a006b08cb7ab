"""Text completions, without a chat template: OpenAI's /v1/completions, without streams.

vLLM takes a prompt as it is, and adds the tokenizer's own beginning of a text.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from pydantic import Field

from local_aws.vllm.chat import Engine, RefusedError, Sampling

if TYPE_CHECKING:
    from fastapi import FastAPI

_DEFAULT_TOKENS = 16  # OpenAI's and vLLM's default of this route.


class CompletionRequest(Sampling):
    """The supported part of OpenAI's completion request."""

    prompt: str
    max_tokens: int = Field(default=_DEFAULT_TOKENS, ge=1)


def complete(engine: Engine, request: CompletionRequest) -> dict[str, Any]:
    """Return one whole text. Raises RefusedError."""
    ids: Any = engine.tokenizer(request.prompt, return_tensors="pt")
    prompt = {name: ids[name] for name in ("input_ids", "attention_mask")}
    length, most = prompt["input_ids"].shape[1], engine.max_model_len
    if not length:
        raise RefusedError("prompt: must not be empty", param="prompt")
    if length + request.max_tokens > most:
        raise RefusedError(
            f"This model's maximum context length is {most} tokens. However, you requested {length + request.max_tokens} "
            f"tokens ({length} in the prompt, {request.max_tokens} in the completion)."
        )
    asked = engine.asked(request, prompt, request.max_tokens)
    made = engine.generate(asked)
    choice = {"index": 0, "text": engine.text(asked, made), "logprobs": None}
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "choices": [{**choice, "finish_reason": engine.finish_reason(asked, made)}],
        "usage": asked.usage(made),
    }


def add_route(app: FastAPI, engine: Engine) -> None:
    """Add /v1/completions to the server's routes."""

    @app.post("/v1/completions")
    def completions(request: CompletionRequest) -> dict[str, Any]:
        return complete(engine, request)
