"""The error of a question. It is apart from `serving.models`, because the `openai` package takes half a second to import."""

from __future__ import annotations

from typing import Literal


class NotAnswered(Exception):
    """A model gave no answer. The line says why, and what to do.

    `about` is "text" if the same text would fail again, "moment" if it may be answered later, and "model" if no text would be
    answered now.
    """

    def __init__(self, line: str, about: Literal["text", "moment", "model"]) -> None:
        """Keep the line on one line."""
        super().__init__(" ".join(line.split()))
        self.about = about
