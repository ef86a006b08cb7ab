"""The three ways to ask a served model: the endpoint, a Bedrock model by Converse, and one by InvokeModel in OpenAI's form.

Each is a function of one signature: it takes the model and the messages, and yields the answer's pieces as they come. Each
call is tried again as its SDK does it, and no more. `tell` gets one line while the SDK waits for a model that wakes or for
AWS that throttles.

Sources: SageMaker developer guide, "Invoke endpoints with OpenAI-compatible APIs"; Bedrock API reference, ConverseStream and
InvokeModelWithResponseStream; Bedrock user guide, "Invoke your imported model".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import openai
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError

from pipeline.errors import Refused, quoted
from serving.errors import NotAnswered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    ChatMessages = list[dict[str, str]]
    Ask = Callable[["Model", ChatMessages], Iterator["AnswerPiece"]]
    Tell = Callable[[str], None]

MESSAGE_CHARACTERS = 300
"""The most characters of a message of AWS or of the model's container that a line quotes."""

NOT_READY, THROTTLED = "ModelNotReadyException", "ThrottlingException"
WAKING = "the model is waking: Bedrock takes it out of memory when nobody asks it, and loads it now"
BUSY = "AWS throttles the calls of this model"

_STILL_BUSY = f"{BUSY}, and the client's own tries did not help; ask again later"

_TIMED_OUT = 424
"""The status of a container that did not answer in time."""

_CONTEXT = re.compile(r"maximum context length(?: of this model)? is (\d+)")
"""vLLM's words for a request that is longer than the model takes (vllm/entrypoints, `VLLMValidationError`)."""

_MISSING_ACTION = re.compile(r"not authorized to perform: (\S+)")
"""IAM's words for an action that the caller's policies do not allow (IAM User Guide, "Troubleshoot access denied errors")."""

_WRONG_TIME = re.compile(r"expired|not yet current", re.IGNORECASE)
"""AWS's words for a signature that has ended or not begun (IAM User Guide, "Troubleshoot Signature Version 4 signing")."""

_BAD_SIGNATURE = re.compile(r"malformed|signature|missing.?authentication", re.IGNORECASE)
"""AWS's words for a signature that is not right, or not there."""

_RESTORE = "run `cdk deploy` to restore the stack's role for callers, and ask again"


class Usage(NamedTuple):
    """The tokens of prompt and answer, and whether the answer was cut at the longest length allowed."""

    prompt_tokens: int
    answer_tokens: int
    cut: bool


class AnswerPiece(NamedTuple):
    """A piece of an answer. Only the last one has a usage, and it has no text."""

    text: str
    usage: Usage | None = None


class Model(NamedTuple):
    """A served model.

    Attributes:
        title: what it is, for a person.
        id: the endpoint's name, or the `modelId` of Bedrock.
        run: the run that made it.
        ask: the function that asks it.
        client: the client of its service.
        instruction: the system message that all rows of its training shared; None if they had none, or not the same.
        max_tokens: the longest answer, in tokens.
        price: its price in words, or that it is not known.
        usd_per_second: the price of a second of its answers in dollars, if it is billed by time and the price is known.
        gone: returns the line about a model that was there and is not any more.
    """

    title: str
    id: str
    run: str
    ask: Ask
    client: Any
    instruction: str | None
    max_tokens: int
    price: str
    usd_per_second: float | None
    gone: Callable[[], str]

    def answer(self, question: ChatMessages) -> Iterator[AnswerPiece]:
        """Yield the answer to a question, which ends with the user's turn. Raises NotAnswered."""
        return self.ask(self, self.messages(question))

    def messages(self, question: ChatMessages) -> ChatMessages:
        """Return the messages of a question as the model was trained. Its own system message is left as it is."""
        if self.instruction is None or question[0]["role"] == "system":
            return question
        return [{"role": "system", "content": self.instruction}, *question]


def by_endpoint(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
    """Ask the endpoint through SageMaker's OpenAI route. Raises NotAnswered."""
    usage, finish = None, None
    try:
        events = model.client.chat.completions.create(
            model="",
            messages=messages,
            max_tokens=model.max_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        for event in events:
            usage = event.usage or usage
            for choice in event.choices:
                finish = choice.finish_reason or finish
                if choice.delta.content:
                    yield AnswerPiece(choice.delta.content)
    except Refused as error:  # The credentials have ended, and the role for callers cannot be assumed again.
        raise NotAnswered(str(error), "model") from error
    except (openai.OpenAIError, httpx2.HTTPError) as error:
        raise _of_openai(model, error) from error
    if finish is None:
        raise _cut(model)
    prompt, answer = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    yield AnswerPiece("", Usage(prompt, answer, finish == "length"))


def by_converse(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
    """Ask a model in Bedrock by ConverseStream. Raises NotAnswered."""
    finish, tokens = None, {"inputTokens": 0, "outputTokens": 0}
    system = [{"text": message["content"]} for message in messages if message["role"] == "system"]
    try:
        answer = model.client.converse_stream(
            modelId=model.id,
            **({"system": system} if system else {}),
            messages=[
                {"role": message["role"], "content": [{"text": message["content"]}]}
                for message in messages
                if message["role"] != "system"
            ],
            inferenceConfig={"maxTokens": model.max_tokens, "temperature": 0},
        )
        for event in answer["stream"]:
            finish = event.get("messageStop", {}).get("stopReason") or finish
            tokens = event.get("metadata", {}).get("usage") or tokens
            if text := event.get("contentBlockDelta", {}).get("delta", {}).get("text"):
                yield AnswerPiece(text)
    except (ClientError, BotoCoreError) as error:
        raise _of_bedrock(model, error) from error
    if finish is None:
        raise _cut(model)
    yield AnswerPiece("", Usage(tokens["inputTokens"], tokens["outputTokens"], finish == "max_tokens"))


def by_invoke_model(model: Model, messages: ChatMessages) -> Iterator[AnswerPiece]:
    """Ask an imported model that Converse does not take, in the form of OpenAI's chat API. Raises NotAnswered."""
    finish, counts = None, {"inputTokenCount": 0, "outputTokenCount": 0}
    asked = {"messages": messages, "max_tokens": model.max_tokens, "temperature": 0}
    try:
        answer = model.client.invoke_model_with_response_stream(
            modelId=model.id, contentType="application/json", accept="application/json", body=json.dumps(asked)
        )
        for event in answer["body"]:
            part = json.loads(event["chunk"]["bytes"])
            counts = part.get("amazon-bedrock-invocationMetrics") or counts
            for choice in part.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                if text := (choice.get("delta") or choice.get("message") or {}).get("content"):
                    yield AnswerPiece(text)
    except (ClientError, BotoCoreError) as error:
        raise _of_bedrock(model, error) from error
    if finish is None:
        raise _cut(model)
    yield AnswerPiece("", Usage(counts["inputTokenCount"], counts["outputTokenCount"], finish == "length"))


def watch_openai(tell: Tell) -> httpx2.Client:
    """Return the HTTP client for `openai` that tells when AWS throttles, which `openai` then tries again."""

    def look(response: httpx2.Response) -> None:
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            tell(f"{BUSY}; the client tries again")

    return openai.DefaultHttpxClient(event_hooks={"response": [look]})


def watch_bedrock(client: Any, tell: Tell) -> Any:
    """Let a client of Bedrock Runtime tell when a model wakes or AWS throttles, and return it."""

    def look(parsed_response: dict[str, Any] | None = None, **_: Any) -> None:
        code = (parsed_response or {}).get("Error", {}).get("Code")
        if code in (NOT_READY, THROTTLED):
            tell(f"{WAKING if code == NOT_READY else BUSY}; the client tries again for some two minutes")

    client.meta.events.register("response-received.bedrock-runtime", look)
    return client


def _cut(model: Model) -> NotAnswered:
    return NotAnswered(f"the answer of {model.id} was cut off before its end; ask again", "moment")


def _of_openai(model: Model, error: Exception) -> NotAnswered:
    """Return what an error of the OpenAI route means. docs/calling.md lists them."""
    if not isinstance(error, openai.APIStatusError):
        return _disconnected(model, error)
    body = error.body if isinstance(error.body, dict) else {}
    code, message = body.get("code"), str(body.get("message") or error)
    match error.status_code:
        case 401 | 403:
            return _refused_caller(model, f"the token for {model.id}", str(code), message)
        case 413:
            return NotAnswered("the text is longer than SageMaker takes (6 MB); shorten it", "text")
        case 429:
            return NotAnswered(_STILL_BUSY, "moment")
        case status if code == "model_error" and status != _TIMED_OUT:
            return _refused_text(model, message)
    gone = NotAnswered(model.gone(), "model") if code == "validation_error" else None
    return gone or _silent(model, f"{error.status_code}: {message}")


def _of_bedrock(model: Model, error: ClientError | BotoCoreError) -> NotAnswered:
    """Return what an error of Bedrock Runtime means (API reference, errors of ConverseStream)."""
    if not isinstance(error, ClientError) or isinstance(error, EventStreamError):
        return _disconnected(model, error)
    code, message = (str(error.response["Error"].get(key, "")) for key in ("Code", "Message"))
    if code == "ValidationException":
        return _refused_text(model, message)
    if error.response["ResponseMetadata"]["HTTPStatusCode"] in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        return _refused_caller(model, f"the signature of the call of {model.id}", code, message)
    if code == "ResourceNotFoundException":
        return NotAnswered(model.gone(), "model")
    passing = {NOT_READY: f"{WAKING}; ask again in a minute", THROTTLED: _STILL_BUSY}
    return NotAnswered(passing[code], "moment") if code in passing else _silent(model, f"{code}: {message}")


def _disconnected(model: Model, error: Exception) -> NotAnswered:
    return NotAnswered(f"the connection to {model.id} failed ({_quote(str(error))}); ask again", "moment")


def _refused_caller(model: Model, signed: str, code: str, message: str) -> NotAnswered:
    """Return why AWS refuses the caller: an action that its role lacks, or `signed`, which is the token or the signature.

    Code and message decide, because nobody has seen whether SageMaker's OpenAI route answers 401 or 403.
    """
    quote, words = _quote(message), f"{code} {message}"
    if found := _MISSING_ACTION.search(message):
        # The role may call the stack's models in Bedrock by their tag, and a model that is gone has none.
        perhaps = ", or the model is gone" if found[1].startswith("bedrock:") else ""
        line = f"the stack's role for callers may not do {found[1]}{perhaps} ({quote}); {_RESTORE}"
    elif _WRONG_TIME.search(words):
        line = f"{signed} has expired or is not valid yet ({quote}); set this machine's clock, and ask again"
    elif _BAD_SIGNATURE.search(words):
        line = f"{signed} is not valid ({quote}); make sure that no proxy changes the request's headers, and ask again"
    else:
        line = f"the call of {model.id} was refused ({quote}); {_RESTORE}"
    return NotAnswered(line, "model")


def _silent(model: Model, why: str) -> NotAnswered:
    return NotAnswered(f"{model.id} does not answer ({_quote(why)}); ask again later", "moment")


def _refused_text(model: Model, message: str) -> NotAnswered:
    if found := _CONTEXT.search(message):
        return NotAnswered(
            f"the text is longer than the model takes ({found[1]} tokens with {model.max_tokens} for the answer); shorten it, "
            "begin a new conversation, or serve the model with a higher endpoint.max_model_len",
            "text",
        )
    return NotAnswered(f"the model refuses the text ({_quote(message)}); reword it", "text")


def _quote(message: str) -> str:
    one_line = " ".join(message.split())
    return one_line if len(one_line) <= MESSAGE_CHARACTERS else quoted(one_line)
