"""A row as data prep writes it and all others read it: the messages of a chat, with the answers that are learned marked.

It lies in this folder since the training job gets no other. It needs the standard library alone, for it is part of the
functions' packages, too.
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
    """Of each of the assistant's messages, and of no other: whether it is learned, or in a held-out row whether its loss
    counts."""


Messages = list[Message]
"""A row. The last message is an answer that is learned."""
Chat = list[dict[str, str]]
"""Messages without the marks, each with its role and content."""

_NOT_THE_FORM = (
    'not {"messages": [{"role": ..., "content": ...}, ...]} of a system message or none, then the user\'s and the assistant\'s '
    'in turn, each of the assistant\'s with "learned"'
)


class BadRecord(Exception):
    """A line that breaks a rule of its format. One line that says which."""


def read_row(line: str | bytes) -> Messages:
    """Returns the row that a line of `train.jsonl`, `validation.jsonl` or `test.jsonl` is.

    Raises:
        BadRecord: it is of another form.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadRecord(f"not JSON ({error})") from None
    return check(record)


def check(record: object) -> Messages:
    """Returns the messages of a line's JSON value.

    They are a system message or none; then the user's and the assistant's in turn, the last an answer that is learned.

    Raises:
        BadRecord: they are not, or a text is blank.
    """
    # Written out in one loop, since data prep asks it of every row: 0.6 microseconds.
    before, learned = "", False
    try:
        messages: Messages = record["messages"]  # type: ignore[index]  # whatever it raises
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
    """Returns the messages without their marks, as chat templates and endpoints take them."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]
