"""What a line of each output file looks like, and the rules by which it is read back.

Sources: chat messages are TRL's and SageMaker's conversational format; Bedrock's are "Prepare data for
fine-tuning text-to-text models" in the Amazon Bedrock user guide, with the limits from `pipeline.catalogue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.catalogue import BaseModel

SCHEMA_VERSION = "bedrock-conversation-2024"
CHARS_PER_TOKEN = 6
"""Characters of a token, for telling what is too long without a tokenizer: Bedrock's own estimate (`pipeline.catalogue`).
English has about four, so that a row which is rejected for its length is too long for certain; what is a little too long,
training counts and leaves out."""
_CHAT_ROLES = ["system", "user", "assistant"]


class BadRecord(Exception):
    """A line that breaks a rule of its format."""


def chat_parts(instruction: str) -> tuple[bytes, bytes, bytes]:
    """What stands before the dialogue, between it and the summary, and after it in a line of the SageMaker files.

    Only these two differ from line to line, so the rest is serialised once: orjson takes twice the time for the whole.
    """
    before = b'{"messages":[{"role":"system","content":' + orjson.dumps(instruction) + b'},{"role":"user","content":'
    return before, b'},{"role":"assistant","content":', b"}]}\n"


def chat(instruction: str, dialogue: str, summary: str) -> bytes:
    """A line of the SageMaker files."""
    before, between, after = chat_parts(instruction)
    return before + orjson.dumps(dialogue) + between + orjson.dumps(summary) + after


def bedrock(model: BaseModel, instruction: str, dialogue: str, summary: str) -> bytes:
    """A line of the Bedrock files, in the format of `model`."""
    record: dict[str, Any]
    if model.format == "conversation":
        record = {
            "schemaVersion": SCHEMA_VERSION,
            "system": [{"text": instruction}],
            "messages": [
                {"role": "user", "content": [{"text": dialogue}]},
                {"role": "assistant", "content": [{"text": summary}]},
            ],
        }
    else:
        record = {"prompt": _prompt(instruction, dialogue), "completion": summary}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


class BedrockRules:
    """Why rows cannot go to a base model: a forbidden word, or their length."""

    def __init__(self, model: BaseModel, instruction: str) -> None:
        """The rules of `model`; the instruction is part of every record."""
        self._model, self._instruction = model, instruction
        self._most = model.max_tokens_per_record * model.chars_per_token - len(_prompt(instruction, ""))

    def problems(self, dialogues: Sequence[str], summaries: Sequence[str]) -> list[str | None]:
        """Of each row: the problem, or None."""
        rows = list(zip(dialogues, summaries, strict=True))
        # Asked of all rows at once: hardly ever is there any.
        if max(map(len, dialogues)) + max(map(len, summaries)) <= self._most:
            together = "\0".join((*dialogues, *summaries))
            if not any(word in together for word in self._model.forbidden):
                return [None] * len(rows)
        return [self._problem(*row) for row in rows]

    def _problem(self, dialogue: str, summary: str) -> str | None:
        if self._model.format == "conversation":
            return _problem(self._model, self._instruction, dialogue, summary)
        return _problem(self._model, _prompt(self._instruction, dialogue), summary)


def _prompt(instruction: str, dialogue: str) -> str:
    return f"{instruction}\n\n{dialogue}"


def _problem(model: BaseModel, *texts: str) -> str | None:
    for word in model.forbidden:
        for text in texts:
            if word in text:
                return f"holds {word}"
    if -(-sum(map(len, texts)) // model.chars_per_token) > model.max_tokens_per_record:
        return f"longer than {model.max_tokens_per_record} tokens (estimated)"
    return None


def read_chat(line: bytes, system: dict[str, str]) -> tuple[str, str]:
    """Dialogue and summary of a chat line; `system` is the message that it must begin with.

    Raises:
        BadRecord: it is not what `chat` writes for this instruction, or a text is blank.
    """
    # Not by the functions below: this runs for every row, and takes half the time so.
    try:
        record = orjson.loads(line)
        first, user, assistant = record["messages"]
        dialogue: str = user["content"]
        summary: str = assistant["content"]
        if (
            len(record) != 1
            or first != system
            or not len(user) == len(assistant) == 2
            or user["role"] != "user"
            or assistant["role"] != "assistant"
            or line[-1:] != b"\n"
        ):
            raise BadRecord(f"not messages of {_CHAT_ROLES}, the first with this instruction")
        if not dialogue or not summary or dialogue.isspace() or summary.isspace():
            raise BadRecord("a text is blank")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRecord(f"not an object of three messages ({error!r})") from error
    return dialogue, summary


def system_message(instruction: str) -> dict[str, str]:
    """The first message of every chat line."""
    return {"role": "system", "content": instruction}


def check_bedrock(line: bytes, model: BaseModel) -> None:
    """Hold a line of a Bedrock file against every rule of its format and of the base model.

    Raises:
        BadRecord: the rule that is broken.
    """
    if model.format == "conversation":
        record = _object(line, {"schemaVersion", "system", "messages"})
        if record["schemaVersion"] != SCHEMA_VERSION:
            raise BadRecord(f"schemaVersion is not {SCHEMA_VERSION}")
        texts = [_block(record["system"])]
        messages = _list(record["messages"])
        if [_object_keys(message, {"role", "content"})["role"] for message in messages] != _CHAT_ROLES[1:]:
            raise BadRecord(f"roles are not {_CHAT_ROLES[1:]}")
        texts += [_block(message["content"]) for message in messages]
    else:
        record = _object(line, {"prompt", "completion"})
        texts = [_text(record["prompt"]), _text(record["completion"])]
    problem = _problem(model, *texts)
    if problem:
        raise BadRecord(problem)


def _object(line: bytes, keys: set[str]) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise BadRecord("the line has no end")
    try:
        return _object_keys(orjson.loads(line), keys)
    except orjson.JSONDecodeError as error:
        raise BadRecord("not valid JSON") from error


def _object_keys(value: object, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise BadRecord(f"not an object of {', '.join(sorted(keys))}")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadRecord("not a list")
    return value


def _block(value: object) -> str:
    blocks = _list(value)
    if len(blocks) != 1:
        raise BadRecord("not exactly one content block")
    return _text(_object_keys(blocks[0], {"text"})["text"])


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRecord("a text is missing or blank")
    return value
