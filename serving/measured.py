"""An answer with its measures: the time to the first token, tokens per second, and the cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.models import ChatMessages, Model, Usage


BURST_SECONDS = 0.02
"""An answer whose last piece came so soon after the first one has come in one burst, and has no rate."""


class MeasuredAnswer:
    """The answer of a model to a question.

    Attributes:
        text: the pieces that have come.
        first_seconds: the time to the first piece; None before it.
        last_seconds: the time to the last piece so far; None before the first one.
        seconds: the time to the end; None before it.
        usage: the tokens, at the end.
    """

    def __init__(self, model: Model, question: ChatMessages) -> None:
        """Take model and question. Nothing is asked yet."""
        self._model, self._question = model, question
        self.text = ""
        self.first_seconds: float | None = None
        self.last_seconds: float | None = None
        self.seconds: float | None = None
        self.usage: Usage | None = None

    def pieces(self) -> Iterator[str]:
        """Ask, and yield the pieces of the text as they come. Raises NotAnswered."""
        started = time.monotonic()
        for piece in self._model.answer(self._question):
            self.usage = piece.usage or self.usage
            if piece.text:
                self.last_seconds = time.monotonic() - started
                self.first_seconds = self.first_seconds or self.last_seconds
                self.text += piece.text
                yield piece.text
        self.seconds = time.monotonic() - started

    def dollars(self) -> float | None:
        """Return the cost of the answer's seconds, or None if it is not known. The same seconds may answer others, too."""
        rate = self._model.usd_per_second
        return None if rate is None or self.seconds is None else rate * self.seconds

    def line(self) -> str:
        """Return the measures in one line."""
        if self.seconds is None or self.usage is None:
            return ""
        parts = [f"first token {self.first_seconds:.2f} s"] if self.first_seconds is not None else ["empty answer"]
        tokens = self.usage.answer_tokens
        # The time to the first token is that of the prompt, and the rate is that of the tokens after it. What comes after the
        # last piece is the end of the stream, which says nothing of the model's speed.
        writing = (self.last_seconds or 0) - (self.first_seconds or 0)
        if tokens > 1 and writing > BURST_SECONDS:
            parts.append(f"{(tokens - 1) / writing:.1f} tokens/s")
        parts.append(f"{self.usage.prompt_tokens} + {tokens} tokens in {self.seconds:.2f} s")
        cost = self.dollars()
        parts.append(self._model.price if cost is None else f"${cost:.6f} ({self._model.price})")
        if self.usage.cut:
            parts.append(f"cut at {self._model.max_tokens} tokens")
        return " · ".join(parts)
