"""What a line of each output file looks like, and the rules by which it is read back.

Sources: a row (`training.messages`) is TRL's and SageMaker's conversational format with a mark; Bedrock's are "Prepare data for
fine-tuning text-to-text models" in the Amazon Bedrock user guide, with the limits from `pipeline.catalogue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from training.messages import BadRecord, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.catalogue import BaseModel
    from training.messages import Message, Messages

SCHEMA_VERSION = "bedrock-conversation-2024"
CHARS_PER_TOKEN = 6
"""Characters of a token, for telling what is too long without a tokenizer: Bedrock's own estimate (`pipeline.catalogue`).
English has about four, so that a row which is rejected for its length is too long for certain; what is a little too long,
training counts and leaves out."""
_BEDROCK_ROLES = ["user", "assistant"]


def row_of_columns(instruction: str, dialogue: str, summary: str) -> Messages:
    """The row that two columns make. The instruction is a message of it: nothing that reads rows knows the setting."""
    return [
        {"role": "system", "content": instruction},
        {"role": "user", "content": dialogue},
        {"role": "assistant", "content": summary, "learned": True},
    ]


def row_line(messages: Messages) -> bytes:
    """A line of the files for SageMaker."""
    return orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE)


def line_parts(instruction: str) -> tuple[bytes, bytes, bytes]:
    """What stands before the dialogue, between it and the summary, and after it in the line of a row of two columns.

    Only these two differ from line to line, so the rest is serialised once: orjson takes twice the time for the whole.
    """
    # The instruction may hold the same, but stands before both.
    before_summary, _, after = row_line(row_of_columns(instruction, "dialogue", "summary")).rpartition(b'"summary"')
    before, _, between = before_summary.rpartition(b'"dialogue"')
    return before, between, after


def bedrock(model: BaseModel, messages: Messages) -> bytes:
    """A line of the Bedrock files, in the format of `model`, of a row of two columns."""
    system, *turns = messages
    record: dict[str, Any]
    if model.format == "conversation":
        record = {
            "schemaVersion": SCHEMA_VERSION,
            "system": [{"text": system["content"]}],
            "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in turns],
        }
    else:
        question, answer = turns
        record = {"prompt": _prompt(system["content"], question["content"]), "completion": answer["content"]}
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


def read_row(line: bytes, system: Message) -> Messages:
    """The row of a line of the files for SageMaker; `system` is the message that it must begin with.

    Raises:
        BadRecord: it is not what two columns and this instruction make.
    """
    try:
        messages = check(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise BadRecord(f"not JSON ({error})") from error
    if messages[0] != system or len(messages) != 3 or line[-1:] != b"\n":
        raise BadRecord("not a line of this instruction, a question and an answer")
    return messages


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
        if [_object_keys(message, {"role", "content"})["role"] for message in messages] != _BEDROCK_ROLES:
            raise BadRecord(f"roles are not {_BEDROCK_ROLES}")
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
