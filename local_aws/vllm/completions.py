"""Text completions, without a chat template: OpenAI's /v1/completions.

vLLM takes a prompt as it is, and adds the tokenizer's own beginning of a text.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from local_aws.vllm.chat import Asked, Engine, RefusedError

if TYPE_CHECKING:
    from fastapi import FastAPI

_DEFAULT_TOKENS = 16  # OpenAI's and vLLM's default of this route.


class CompletionRequest(BaseModel):
    """The supported part of OpenAI's completion request. Other members are ignored, as by vLLM."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    max_tokens: int = Field(default=_DEFAULT_TOKENS, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: str | list[str] | None = None


def complete(engine: Engine, request: CompletionRequest) -> dict[str, Any]:
    """Return one whole text. Raises RefusedError."""
    ids: Any = engine.tokenizer(request.prompt, return_tensors="pt")
    length = ids["input_ids"].shape[1]
    if not length:
        raise RefusedError("prompt: must not be empty", param="prompt")
    if length + request.max_tokens > engine.max_model_len:
        raise RefusedError(
            f"This model's maximum context length is {engine.max_model_len} tokens. However, you requested "
            f"{length + request.max_tokens} tokens ({length} in the prompt, {request.max_tokens} in the completion)."
        )
    defaults = engine.model.generation_config
    temperature = request.temperature if request.temperature is not None else (defaults.temperature or 1.0)
    options: dict[str, Any] = {"max_new_tokens": request.max_tokens, "do_sample": temperature > 0}
    if temperature > 0:
        options |= {"temperature": temperature, "top_p": request.top_p or defaults.top_p or 1.0, "top_k": 0}
    pad, end = engine.tokenizer.pad_token_id, engine.tokenizer.eos_token_id
    options |= {"pad_token_id": end if pad is None else pad, "eos_token_id": engine.end_ids()}
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    prompt = {name: ids[name] for name in ("input_ids", "attention_mask")}
    asked = Asked(prompt, length, options, stops, engine.seed)
    new = engine.generate(asked)
    choice = {
        "index": 0,
        "text": engine.text(asked, new),
        "logprobs": None,
        "finish_reason": engine.finish_reason(asked, new),
    }
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "choices": [choice],
        "usage": asked.usage(new),
    }


def add_route(app: FastAPI, engine: Engine) -> None:
    """Add /v1/completions to the server's routes."""

    @app.post("/v1/completions")
    def completions(request: CompletionRequest) -> dict[str, Any]:
        return complete(engine, request)
