"""A question of `tuneway ask`: a text, or the messages of a conversation whose next answer is wanted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.questions import QuestionFormats, asked_turns
from data_prep.row_formats import Conversation
from pipeline.contracts.data import Fields
from pipeline.errors import Refused

if TYPE_CHECKING:
    from serving.models import ChatMessages

_MESSAGES = QuestionFormats(Fields("", ""), "messages").fallback

_FORM = '[{"role": "user", "content": "..."}]'


def user(text: str) -> ChatMessages:
    """Return the messages of a question that is one text."""
    return [{"role": "user", "content": text}]


def read(name: str) -> ChatMessages:
    """Return the question in a file or in standard input.

    The messages are a JSON file (its name ends in .json), or a JSON text of their form in standard input. All else is a text.

    Raises:
        Refused: the file cannot be read, is empty, or is JSON of another form.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise Refused(f"DIALOGUE {name}: {error.strerror}; name a text file, or - for standard input") from error
    except UnicodeDecodeError as error:
        raise Refused(f"DIALOGUE {name}: it is not UTF-8 text; save it as UTF-8") from error
    if not text.strip():
        raise Refused(f"DIALOGUE {name}: it has no text; write the dialogue into it")
    is_file = Path(name).suffix.lower() == ".json"
    if is_file or (name == "-" and text.lstrip()[0] in "[{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            if is_file:
                raise Refused(
                    f"DIALOGUE {name}: it is not valid JSON; write the messages as {_FORM}, or name the file .txt to ask "
                    "its text"
                ) from error
            value = None
        turns = value["messages"] if isinstance(value, dict) and "messages" in value else value
        if is_file or _MESSAGES.fits({"messages": turns}):
            return _conversation(name, turns)
    return user(text.replace("\r\n", "\n").strip("\n"))


def why_not_utf8(texts: list[str]) -> str | None:
    """Return why texts cannot be sent; None if they can."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "broken UTF-8 or a lone surrogate"
    return None


def _conversation(name: str, turns: object) -> ChatMessages:
    row = _MESSAGES.row(turns)
    why = None if isinstance(row, Conversation) else row[2]
    last = turns[-1].get("role") if why is None and isinstance(turns, list) else None
    if last == "assistant":
        why = "the last turn is the assistant's"
    elif isinstance(row, Conversation):
        why = why_not_utf8(row.texts)
    if not isinstance(row, Conversation) or why:
        raise Refused(f"DIALOGUE {name}: {why}; write the messages as {_FORM}, the user's turn at the end")
    return asked_turns(row)
