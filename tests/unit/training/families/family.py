"""The class for a model family and its chat template, and the conversation that all templates render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.messages import as_chat

if TYPE_CHECKING:
    from training.messages import Messages

INSTRUCTION, DIALOGUE, SUMMARY = "Summarize.", "Ann: hi\nBob: ho\n", "Ann greets Bob."
CHAT: Messages = [
    {"role": "system", "content": INSTRUCTION},
    {"role": "user", "content": DIALOGUE},
    {"role": "assistant", "content": SUMMARY, "learned": True},
]
REQUEST = as_chat(CHAT[:-1])


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        does: what its template does that others do not.
        template: the chat template.
        prompt: the prompt that the template makes from `REQUEST`.
        answer: the answer of `CHAT` with its end.
        special: the special tokens. The first one ends a turn.
        added: added tokens that are not special.
    """

    does: str
    template: str
    prompt: str
    answer: str
    special: tuple[str, ...]
    added: tuple[str, ...] = ()


IM = ("<|im_end|>", "<|im_start|>")
THINK = ("<think>", "</think>")
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
