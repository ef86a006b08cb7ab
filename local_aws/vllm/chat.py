"""Chat completions by `transformers` on a CPU, for /invocations.

`transformers serve` 5.3.0 was tried first and does not work: with huggingface_hub 1.33.0 its command line does not start
("Unsupported CLI annotation"). Started from Python under FastAPI 0.165, it answers every request with 422 (its handlers
expect a query parameter `request`). By its source it also shares one KV cache between concurrent requests, waits for ever
after a failed generation, counts text pieces for `finish_reason`, reports no usage and knows no context length.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from local_aws.vllm.options import Options, context_length

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

THREADS = 2


# Unconfirmed: An error of the vLLM server | Here: 400 or 404 with OpenAI's error object, inside `ModelError` | Source:
#   vLLM's texts change between versions
class RefusedError(Exception):
    """The server refuses a request, with OpenAI's error object and its HTTP status."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


class Sampling(BaseModel):
    """The part that both of OpenAI's requests have. Members that are not supported are ignored, as by vLLM."""

    model_config = ConfigDict(extra="allow")

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class ChatRequest(Sampling):
    """The supported part of OpenAI's chat completion request."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: int = 1
    stream: bool = False
    stream_options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Asked:
    """A prompt with its length in tokens, and the settings of its generation.

    `stops` are the texts that end an answer, and are no part of it.
    """

    prompt: Any
    length: int
    generation: dict[str, Any]
    stops: list[str]
    seed: int

    def usage(self, ids: list[int]) -> dict[str, int]:
        """Return the counts of tokens."""
        return {"prompt_tokens": self.length, "completion_tokens": len(ids), "total_tokens": self.length + len(ids)}


class _Ended(StoppingCriteria):
    """Ends a generation when its answer has one of the stop texts, or when an event is set.

    The `stop_strings` of transformers also match where the prompt ends in the beginning of a stop text.
    """

    def __init__(self, asked: Asked, tokenizer: Any, event: threading.Event | None) -> None:
        self._asked, self._tokenizer, self._event = asked, tokenizer, event

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        """Return for each row whether it ends."""
        ended = self._event is not None and self._event.is_set()
        if self._asked.stops and not ended:
            text = self._tokenizer.decode(input_ids[0, self._asked.length :], skip_special_tokens=True)
            ended = any(stop in text for stop in self._asked.stops)
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool)


class Engine:
    """One model in memory, in float32, which answers one request at a time.

    So at temperature 0 the same request always gives the same text, also beside other requests.
    """

    def __init__(self, options: Options) -> None:
        """Load the model. Raises OptionError (a refused option), OSError or ValueError (no model)."""
        torch.set_num_threads(THREADS)
        config = AutoConfig.from_pretrained(options.model)
        self.max_model_len = context_length(options.max_model_len, int(config.max_position_embeddings))
        self._options = options
        self.tokenizer: Any = AutoTokenizer.from_pretrained(options.model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
        if options.generation_config != "auto":
            defaults = self.model.generation_config
            defaults.temperature = defaults.top_p = 1.0
        self.lock = threading.Lock()

    def complete(self, request: ChatRequest) -> dict[str, Any]:
        """Return one whole answer. Raises RefusedError."""
        asked = self.check(request)
        ids = self.generate(asked)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self.text(asked, ids), "tool_calls": []},
            "logprobs": None,
            "finish_reason": self.finish_reason(asked, ids),
        }
        return {**self.head(request, "chat.completion"), "choices": [choice], "usage": asked.usage(ids)}

    def generate(
        self, asked: Asked, streamer: BaseStreamer | None = None, stop: threading.Event | None = None
    ) -> list[int]:
        """Return the tokens of an answer.

        Args:
            asked: the prompt and its generation settings.
            streamer: gets the prompt and then every token, as soon as it is made.
            stop: ends the generation before its end.
        """
        ended = StoppingCriteriaList([_Ended(asked, self.tokenizer, stop)])
        with self.lock, torch.inference_mode():
            torch.manual_seed(asked.seed)
            ids = self.model.generate(**asked.prompt, **asked.generation, streamer=streamer, stopping_criteria=ended)
        return [int(one) for one in ids[0, asked.length :]]

    def text(self, asked: Asked, ids: list[int]) -> str:
        """Return the text of these tokens, up to the first stop text."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        return text[: min((text.index(stop) for stop in asked.stops if stop in text), default=None)]

    def check(self, request: ChatRequest) -> Asked:
        """Return what is generated for a request. Raises RefusedError."""
        if request.model and request.model not in self._options.served_model_names:
            message = f"The model `{request.model}` does not exist."
            raise RefusedError(message, status=404, kind="NotFoundError", param="model")
        if request.n != 1:
            raise RefusedError("local AWS answers with one choice: n must be 1", param="n")
        if request.stream_options is not None and not request.stream:
            raise RefusedError("Stream options can only be defined when `stream=True`.", param="stream_options")
        if not self.tokenizer.chat_template:
            raise RefusedError("default chat template is no longer allowed, so you must provide a chat template")
        messages = [{**message, "content": _text(message)} for message in request.messages]
        try:
            prompt: Any = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        except Exception as error:  # A template may raise any exception (jinja2's, ValueError).
            raise RefusedError(f"the chat template refused the messages: {error}") from error
        length = prompt["input_ids"].shape[1]
        remaining = self.max_model_len - length
        asked = request.max_completion_tokens or request.max_tokens
        if remaining < 1 or (asked is not None and asked > remaining):
            raise RefusedError(
                f"This model's maximum context length is {self.max_model_len} tokens. However, you requested "
                f"{asked or 1} output tokens and your prompt contains at least {length} input tokens, for a total "
                f"of at least {length + (asked or 1)} tokens. Please reduce the length of the input prompt or the "
                "number of requested output tokens."
            )
        return self.asked(request, prompt, asked or remaining)

    def asked(self, request: Sampling, prompt: Any, max_new_tokens: int) -> Asked:
        """Return the settings with which the text after a prompt in tokens is generated."""
        seed = request.seed if request.seed is not None else self._options.seed
        stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
        length = prompt["input_ids"].shape[1]
        return Asked(prompt, length, self._generation(request, max_new_tokens), stops, seed)

    def finish_reason(self, asked: Asked, ids: list[int]) -> str:
        """Return OpenAI's word for the end of an answer: length if max_tokens or the context cut it, else stop."""
        full = len(ids) >= asked.generation["max_new_tokens"]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        stopped = ids[-1] in asked.generation["eos_token_id"] or any(stop in text for stop in asked.stops)
        return "length" if full and not stopped else "stop"

    def head(self, request: ChatRequest, kind: str) -> dict[str, Any]:
        """Return the members with which an answer, or each event of its stream, begins."""
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": request.model or self._options.served_model_names[0],
        }

    def _generation(self, request: Sampling, max_new_tokens: int) -> dict[str, Any]:
        defaults, pad = self.model.generation_config, self.tokenizer.pad_token_id
        temperature = request.temperature if request.temperature is not None else (defaults.temperature or 1.0)
        config: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "do_sample": temperature > 0,
            "pad_token_id": self.tokenizer.eos_token_id if pad is None else pad,
            "eos_token_id": self._end_ids(),
        }
        if temperature > 0:
            config |= {"temperature": temperature, "top_p": request.top_p or defaults.top_p or 1.0}
            config["top_k"] = request.top_k if request.top_k is not None and request.top_k > 0 else 0
        return config

    def _end_ids(self) -> list[int]:
        ids = self.model.generation_config.eos_token_id
        listed = ids if isinstance(ids, list) else [ids]
        return sorted({i for i in (*listed, self.tokenizer.eos_token_id) if i is not None})


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(message.get("role"), str):
        raise RefusedError("every message needs a role", param="messages")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise RefusedError("every message needs content: a string or a list of text parts", param="messages")
    return content
