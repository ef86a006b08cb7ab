"""The forms of requests and answers: Converse's, OpenAI's, and the own forms of Llama and Nova.

Each form is turned into a call of the server behind a model (local_aws/vllm), and the server's answer back into the form.

Sources: API Reference of Converse and ConverseStream; User Guide "Invoke your imported model" (the three forms of an
imported model, with an answer of each), "Meta Llama models" and "Amazon Nova understanding models" (their own forms). The
texts of Converse's refusals are quoted in many public issues.
"""

from __future__ import annotations

import itertools
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MALFORMED = "Malformed input request, please reformat your input and try again."
_LLAMA_TOKENS = 512  # The default of max_gen_len.
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
_PIECE = re.compile(r"\s*\S{1,8}|\s+$")


@dataclass(frozen=True)
class Reply:
    """The server's whole answer. `finish` is stop or length."""

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    milliseconds: int

    @classmethod
    def of(cls, document: dict[str, Any], milliseconds: int) -> Reply:
        """Return the reply in an answer of one of the two routes."""
        choice, usage = document["choices"][0], document["usage"]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        return cls(
            text, choice["finish_reason"], int(usage["prompt_tokens"]), int(usage["completion_tokens"]), milliseconds
        )

    def openai_usage(self) -> dict[str, int]:
        """Return the usage in OpenAI's words."""
        total = self.prompt_tokens + self.tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": total}

    def usage(self) -> dict[str, int]:
        """Return the usage in Converse's words."""
        total = self.prompt_tokens + self.tokens
        return {"inputTokens": self.prompt_tokens, "outputTokens": self.tokens, "totalTokens": total}


class Pieces:
    """The pieces of an answer's text, as they come. `reply` is the whole answer when all have come."""

    def __init__(self, chunks: Iterator[dict[str, Any]]) -> None:
        """Wait for the first of OpenAI's chunks, so that a refusal comes before the stream."""
        self._started = time.monotonic()
        self._first, self._rest = next(chunks), chunks
        self.reply = Reply("", "stop", 0, 0, 0)

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces that are not empty."""
        text, finish, usage = "", "stop", {"prompt_tokens": 0, "completion_tokens": 0}
        for chunk in itertools.chain([self._first], self._rest):
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
                text += piece
                if piece:
                    yield piece
        milliseconds = round(1000 * (time.monotonic() - self._started))
        self.reply = Reply(text, finish, usage["prompt_tokens"], usage["completion_tokens"], milliseconds)


# Differs: The stream of a prompt without messages from Bedrock | AWS: as the model makes it | Here: the whole answer, cut
#   into pieces of at most eight characters, at once | Why: the local server streams its chat route only
def cut(reply: Reply) -> Iterator[dict[str, Any]]:
    """Yield a whole answer in OpenAI's chunks."""
    for piece in _PIECE.findall(reply.text):
        yield {"choices": [{"delta": {"content": piece}, "finish_reason": None}]}
    yield {"choices": [{"delta": {}, "finish_reason": reply.finish}], "usage": reply.openai_usage()}


@dataclass(frozen=True)
class Form:
    """One request in its form: the server's route and input, and the answer whole and in parts."""

    path: str
    document: dict[str, Any]
    whole: Callable[[Reply], dict[str, Any]]
    parts: Callable[[Pieces], Iterator[dict[str, Any]]]


def invalid(text: str) -> ServiceError:
    """Return the refusal of a request."""
    return ServiceError("ValidationException", text)


# Unconfirmed: A Converse of a tool, an image or a document to a model that answers texts only | Here:
#   `ValidationException`; of a tool "This model doesn't support tool use.", else wording our own | Source: public issues
#   for the first
def converse_chat(params: dict[str, Any]) -> dict[str, Any]:
    """Return the chat request of a Converse or ConverseStream input, or of Nova's own form. Raises ServiceError."""
    messages = params.get("messages") or []
    if params.get("toolConfig"):
        raise invalid("This model doesn't support tool use.")
    if not messages or messages[0]["role"] != "user":
        raise invalid(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message."
        )
    if any(message["role"] != ("user", "assistant")[turn % 2] for turn, message in enumerate(messages)):
        raise invalid(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between "
            "user and assistant roles and try again."
        )
    turns = [
        {"role": message["role"], "content": _text(message["content"], f"messages.{turn}.content")}
        for turn, message in enumerate(messages)
    ]
    if params.get("system"):
        turns.insert(0, {"role": "system", "content": _text(params["system"], "system")})
    config = params.get("inferenceConfig") or {}
    names = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
    return {"messages": turns} | {names[name]: value for name, value in config.items() if name in names and value != []}


def _text(blocks: list[dict[str, Any]], where: str) -> str:
    texts = []
    for number, block in enumerate(blocks):
        if set(block) != {"text"}:
            raise invalid(f"This model supports text only, and not the content at {where}.{number}.")
        if not block["text"].strip():
            raise invalid(
                f"The text field in the ContentBlock object at {where}.{number} is blank. Add text to the text field, and "
                "try again."
            )
        texts.append(block["text"])
    return "\n".join(texts)


def message(reply: Reply) -> dict[str, Any]:
    """Return the answer's message, for Converse and Nova."""
    return {"message": {"role": "assistant", "content": [{"text": reply.text}]}}


def stop_reason(reply: Reply) -> str:
    """Return why the answer ends, in Converse's words."""
    return _STOP_REASONS[reply.finish]


def converse_events(pieces: Pieces, extra: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of ConverseStream with their names. `extra` are members of messageStop."""
    yield "messageStart", {"role": "assistant"}
    for piece in pieces:
        yield "contentBlockDelta", {"delta": {"text": piece}, "contentBlockIndex": 0}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": stop_reason(pieces.reply), **extra}
    yield "metadata", {"usage": pieces.reply.usage(), "metrics": {"latencyMs": pieces.reply.milliseconds}}


# Unconfirmed: `stream` in the body of an InvokeModel of an imported model | Here: `ValidationException`, wording our own |
#   Source: nothing found; the two operations differ in whether the answer is a stream
def imported_form(body: bytes, *, chat: bool) -> Form:
    """Return the form of an InvokeModel of an imported model: OpenAI's two, and Bedrock's own. Raises ServiceError."""
    given = _document(body)
    if given.get("stream"):
        raise invalid("stream is not supported in the body: use InvokeModelWithResponseStream.")
    if "messages" in given:
        if not chat:
            raise invalid("The model has no chat template, so it takes a prompt and no messages.")
        return Form(CHAT, given, _chat_completion, _chat_chunks)
    if "prompt" not in given:
        raise invalid(MALFORMED)
    return Form(COMPLETIONS, given, _completion, _completion_chunks) if "max_tokens" in given else _llama(given)


def native_form(base_model: str, body: bytes) -> Form:
    """Return the form of an InvokeModel of a custom model, which is its base model's own. Raises ServiceError."""
    given = _document(body)
    if base_model.startswith("amazon.nova"):
        try:
            return Form(CHAT, converse_chat(given), _nova, _nova_parts)
        except (KeyError, TypeError, AttributeError):
            raise invalid(MALFORMED) from None
    if not isinstance(given.get("prompt"), str):
        raise invalid(MALFORMED)
    return _llama(given)


def _document(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise invalid(MALFORMED)
    return given


def _llama(given: dict[str, Any]) -> Form:
    kept = {name: given[name] for name in ("prompt", "temperature", "top_p") if name in given}
    return Form(COMPLETIONS, kept | {"max_tokens": given.get("max_gen_len", _LLAMA_TOKENS)}, _generation, _generations)


def _generation(reply: Reply) -> dict[str, Any]:
    return {
        "generation": reply.text,
        "prompt_token_count": reply.prompt_tokens,
        "generation_token_count": reply.tokens,
        "stop_reason": reply.finish,
        "logprobs": None,
    }


# Unconfirmed: The parts of InvokeModelWithResponseStream of an imported model | Here: `generation` as of Llama, or OpenAI's
#   chunks, the last with the usage | Source: the User Guide shows whole answers only
def _generations(pieces: Pieces) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        yield {"generation": piece, "prompt_token_count": None, "stop_reason": None}
    yield _generation(pieces.reply) | {"generation": ""}


def _head(prefix: str, kind: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}


def _chat_completion(reply: Reply) -> dict[str, Any]:
    answer = {"role": "assistant", "content": reply.text}
    choice = {"index": 0, "message": answer, "finish_reason": reply.finish}
    return {**_head("chatcmpl", "chat.completion"), "choices": [choice], "usage": reply.openai_usage()}


def _chat_chunks(pieces: Pieces) -> Iterator[dict[str, Any]]:
    head = _head("chatcmpl", "chat.completion.chunk")
    for delta in itertools.chain([{"role": "assistant", "content": ""}], ({"content": piece} for piece in pieces)):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    last = {"index": 0, "delta": {}, "finish_reason": pieces.reply.finish}
    yield {**head, "choices": [last], "usage": pieces.reply.openai_usage()}


def _completion(reply: Reply) -> dict[str, Any]:
    choice = {"index": 0, "text": reply.text, "finish_reason": reply.finish}
    return {**_head("cmpl", "text_completion"), "choices": [choice], "usage": reply.openai_usage()}


def _completion_chunks(pieces: Pieces) -> Iterator[dict[str, Any]]:
    head = _head("cmpl", "text_completion")
    for piece in pieces:
        yield {**head, "choices": [{"index": 0, "text": piece, "finish_reason": None}]}
    last = {"index": 0, "text": "", "finish_reason": pieces.reply.finish}
    yield {**head, "choices": [last], "usage": pieces.reply.openai_usage()}


def _nova(reply: Reply) -> dict[str, Any]:
    return {"output": message(reply), "stopReason": stop_reason(reply), "usage": reply.usage()}


def _nova_parts(pieces: Pieces) -> Iterator[dict[str, Any]]:
    return ({name: document} for name, document in converse_events(pieces, {}))
