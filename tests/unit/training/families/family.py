"""A family of models and its chat template, and the conversation that all of them are given."""

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
ASKED = as_chat(CHAT[:-1])


@dataclass(frozen=True)
class Family:
    """One of them."""

    does: str
    template: str
    prompt: str
    answer: str
    special: tuple[str, ...]
    """Its special tokens, the one that ends a turn first."""
    added: tuple[str, ...] = ()
    """Added tokens that are not special."""


IM = ("<|im_end|>", "<|im_start|>")
THINK = ("<think>", "</think>")
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
