"""The row that data prep writes and the others read: the messages of a chat, with marks on the answers that are learned.

The module is in this folder because the training job gets no other folder. It needs the standard library alone, because it is
part of the functions' packages, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Message(TypedDict):
    """One message of a row."""

    role: Literal["system", "user", "assistant"]
    content: str
    learned: NotRequired[bool]
    """Whether the message is learned; in a held-out row, whether its loss counts. Only the assistant's messages have it, and
    each of them does."""


Messages = list[Message]
"""A row. Its last message is an answer that is learned."""

Chat = list[dict[str, str]]
"""Messages without the marks. Each has its role and content."""

_NOT_THE_FORM = (
    'not {"messages": [{"role": ..., "content": ...}, ...]} of a system message or none, then the user\'s and the assistant\'s '
    'in turn, each of the assistant\'s with "learned"'
)


class BadRecord(Exception):
    """A line breaks a rule of its format. The message is one line that names the rule."""


def read_row(line: str | bytes) -> Messages:
    """Return the row in a line of `train.jsonl`, `validation.jsonl` or `test.jsonl`.

    Raises:
        BadRecord: the line has another form.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadRecord(f"not JSON ({error})") from None
    return check(record)


def check(record: object) -> Messages:
    """Return the messages of a line's JSON value.

    They begin with at most one system message. The user's and the assistant's messages follow in turn, and the last one is an
    answer that is learned.

    Raises:
        BadRecord: the value has another form, or a text is blank.
    """
    # One loop without calls, because data prep checks every row with it: 0.6 microseconds.
    before, learned = "", False
    try:
        messages: Messages = record["messages"]  # type: ignore[index]  # another form raises
        for message in messages:
            role, content = message["role"], message["content"]
            if role == "assistant":
                learned = message["learned"]
                follows = before == "user" and len(message) == 3 and (learned is True or learned is False)
            elif role == "user":
                follows = before != "user" and len(message) == 2
            else:
                follows = role == "system" and not before and len(message) == 2
            if not follows:
                raise BadRecord(_NOT_THE_FORM)
            if not content or content.isspace():
                raise BadRecord("a text is blank")
            before = role
        if len(record) != 1:  # type: ignore[arg-type]
            raise BadRecord(_NOT_THE_FORM)
    except (AttributeError, LookupError, TypeError) as error:
        raise BadRecord(_NOT_THE_FORM) from error
    if before != "assistant" or not learned:
        raise BadRecord("no answer that is learned at the end")
    return messages


def as_chat(messages: Sequence[Message]) -> Chat:
    """Return the messages without their marks, in the form that chat templates and endpoints take."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]
