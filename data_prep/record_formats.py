"""Writes the lines of each output file, and has the rules by which they are read back.

Sources: a row (`training.messages`) has TRL's and SageMaker's conversational format with a mark. Bedrock's formats stand in
"Prepare data for fine-tuning text-to-text models" in the Amazon Bedrock user guide. `pipeline.catalogue` has the limits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from training.messages import BadRecord, check

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pipeline.catalogue import BaseModel
    from training.messages import Message, Messages

SCHEMA_VERSION = "bedrock-conversation-2024"

CHARS_PER_TOKEN = 6
"""Characters per token, by which a row's length is estimated without a tokenizer. It is Bedrock's own estimate
(`pipeline.catalogue`). English has about four, so a row that is rejected for its length is certainly too long. Training counts
the tokens and leaves out a row that is a little too long."""

_BEDROCK_ROLES = ("user", "assistant")


def row_of_columns(instruction: str, dialogue: str, summary: str) -> Messages:
    """Return the row that two columns make. The instruction is a message of the row: no reader of rows knows the setting."""
    return [
        {"role": "system", "content": instruction},
        {"role": "user", "content": dialogue},
        {"role": "assistant", "content": summary, "learned": True},
    ]


def row_line(messages: Messages) -> bytes:
    """Return the row's line in the files for SageMaker."""
    return orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE)


def line_parts(instruction: str) -> tuple[bytes, bytes, bytes]:
    """Return the parts of the line of a row of two columns: before the dialogue, between the texts, after the summary.

    Lines differ only in the two texts, so these parts are serialised once. To serialise whole lines takes orjson twice the
    time.
    """
    # The instruction may contain the same words, but it stands before both texts.
    before_summary, _, after = row_line(row_of_columns(instruction, "dialogue", "summary")).rpartition(b'"summary"')
    before, _, between = before_summary.rpartition(b'"dialogue"')
    return before, between, after


@lru_cache(maxsize=4096)
def line_template(marks: str) -> bytes:
    """Return the line of a conversation with these marks, with %b in the place of each text.

    Conversations of the same marks differ only in their texts, so the rest is serialised once (`line_parts`).
    """
    messages: Messages = [_message(mark, "") for mark in marks]
    return row_line(messages).replace(b'""', b"%b")  # only the texts are empty strings, and no key has a percent sign


def _message(mark: str, text: str) -> Message:
    match mark:
        case "s":
            return {"role": "system", "content": text}
        case "u":
            return {"role": "user", "content": text}
    return {"role": "assistant", "content": text, "learned": mark == "A"}


def bedrock(model: BaseModel, messages: Messages) -> bytes:
    """Return the line of a row in the Bedrock files, in the format of `model`. `BedrockRules` has found that it fits."""
    has_system = messages[0]["role"] == "system"
    system, turns = (messages[0]["content"], messages[1:]) if has_system else ("", messages)
    record: dict[str, Any]
    if model.format == "conversation":
        record = {
            "schemaVersion": SCHEMA_VERSION,
            **({"system": [{"text": system}]} if has_system else {}),
            "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in turns],
        }
    else:
        question, answer = turns
        record = {"prompt": _prompt(system, question["content"]), "completion": answer["content"]}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


class BedrockRules:
    """Finds the rows that a base model does not take: they hold a forbidden word, or are too long."""

    def __init__(self, model: BaseModel, instruction: str) -> None:
        """Take the rules of `model`. The instruction is part of every record."""
        self._model, self._instruction = model, instruction
        self._most = model.max_tokens_per_record * model.chars_per_token - len(_prompt(instruction, ""))

    def problems(self, dialogues: Sequence[str], summaries: Sequence[str]) -> list[str | None]:
        """Return the problem of each row, or None."""
        rows = list(zip(dialogues, summaries, strict=True))
        # Checks the whole batch at once, because almost no batch has a problem.
        if max(map(len, dialogues)) + max(map(len, summaries)) <= self._most:
            together = "\0".join((*dialogues, *summaries))
            if not any(word in together for word in self._model.forbidden):
                return [None] * len(rows)
        return [self._problem(*row) for row in rows]

    def _problem(self, dialogue: str, summary: str) -> str | None:
        if self._model.format == "conversation":
            return _problem(self._model, self._instruction, dialogue, summary)
        return _problem(self._model, _prompt(self._instruction, dialogue), summary)

    def length_without_problem(self, texts: Sequence[str]) -> int:
        """Return how many characters a conversation of these texts may have to be fit for certain; -1 if all must be looked at.

        One call for the texts of a whole batch saves a look at each conversation, because almost none has a problem.
        """
        model, together = self._model, "\0".join(texts)
        if model.format != "conversation" or any(word in together for word in model.forbidden):
            return -1
        return model.max_tokens_per_record * model.chars_per_token

    def problem(self, texts: Sequence[str], marks: str) -> str | None:
        """Return the problem of a conversation with these marks (`row_formats.Conversation`), or None."""
        if self._model.format == "conversation":
            return _problem(self._model, *texts)
        if len(marks.removeprefix("s")) > 2:
            return "more than one exchange"
        system = texts[0] if marks[0] == "s" else ""
        return _problem(self._model, _prompt(system, texts[-2]), texts[-1])


def _prompt(system: str, question: str) -> str:
    return f"{system}\n\n{question}" if system else question


def _problem(model: BaseModel, *texts: str) -> str | None:
    together = "\0".join(texts)  # NUL is in no text and in no word
    for word in model.forbidden:
        if word in together:
            return f"holds {word}"
    if -(-sum(map(len, texts)) // model.chars_per_token) > model.max_tokens_per_record:
        return f"longer than {model.max_tokens_per_record} tokens (estimated)"
    return None


def read_row(line: bytes) -> Messages:
    """Return the row of a line of the files for SageMaker.

    Raises:
        BadRecord: the line is no row.
    """
    try:
        messages = check(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise BadRecord(f"not JSON ({error})") from error
    if line[-1:] != b"\n":
        raise BadRecord("the line has no end")
    return messages


def check_bedrock(line: bytes, model: BaseModel) -> None:
    """Check a line of a Bedrock file against every rule of its format and of the base model.

    Raises:
        BadRecord: the line breaks a rule, which the message names.
    """
    if model.format == "conversation":
        record = _object(line, {"schemaVersion", "messages"}, {"system"})
        if record["schemaVersion"] != SCHEMA_VERSION:
            raise BadRecord(f"schemaVersion is not {SCHEMA_VERSION}")
        texts = [_block(record["system"])] if "system" in record else []
        messages = _list(record["messages"])
        roles = [_object_keys(message, {"role", "content"})["role"] for message in messages]
        if len(roles) < 2 or len(roles) % 2 or tuple(roles) != _BEDROCK_ROLES * (len(roles) // 2):
            raise BadRecord("roles are not user and assistant in turn")
        texts += [_block(message["content"]) for message in messages]
    else:
        record = _object(line, {"prompt", "completion"})
        texts = [_text(record["prompt"]), _text(record["completion"])]
    problem = _problem(model, *texts)
    if problem:
        raise BadRecord(problem)


def _object(line: bytes, keys: set[str], optional: Collection[str] = ()) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise BadRecord("the line has no end")
    try:
        return _object_keys(orjson.loads(line), keys, optional)
    except orjson.JSONDecodeError as error:
        raise BadRecord("not valid JSON") from error


def _object_keys(value: object, keys: set[str], optional: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or (value.keys() != keys and set(value).difference(optional) != keys):
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
