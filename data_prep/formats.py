"""What a line of each output file looks like, and the rules by which it is read back.

Sources: chat messages are TRL's and SageMaker's conversational format; Bedrock's are "Prepare data for
fine-tuning text-to-text models" in the Amazon Bedrock user guide, with the limits from `pipeline.catalogue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel

SCHEMA_VERSION = "bedrock-conversation-2024"
_CHAT_ROLES = ["system", "user", "assistant"]


class BadRecord(Exception):
    """A line that breaks a rule of its format."""


def chat(instruction: str, dialogue: str, summary: str) -> bytes:
    """A line of the SageMaker files."""
    return orjson.dumps(
        {
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": dialogue},
                {"role": "assistant", "content": summary},
            ]
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


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


def bedrock_problem(model: BaseModel, instruction: str, dialogue: str, summary: str) -> str | None:
    """Why a record of these texts cannot go to `model`: a forbidden word or its length; None if it can."""
    if model.format == "conversation":
        return _problem(model, instruction, dialogue, summary)
    return _problem(model, _prompt(instruction, dialogue), summary)


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


def read_chat(line: bytes) -> tuple[str, str, str]:
    """Instruction, dialogue and summary of a chat line.

    Raises:
        BadRecord: it is not what `chat` writes, or a text is blank.
    """
    record = _object(line, {"messages"})
    messages = _list(record["messages"])
    if [_object_keys(message, {"role", "content"})["role"] for message in messages] != _CHAT_ROLES:
        raise BadRecord(f"roles are not {_CHAT_ROLES}")
    instruction, dialogue, summary = (_text(message["content"]) for message in messages)
    return instruction, dialogue, summary


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
