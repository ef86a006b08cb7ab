"""The formats of rows as a batch of questions has them: what a row asks, without the answer.

A row of columns needs no summary, one of prompt and completion no completion, and an Alpaca row no output. A row of turns ends
with the user's turn, or with an answer that is left off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_prep.row_formats import Conversation, RowFormat, RowFormats, TurnLists, Unfit, conversation

if TYPE_CHECKING:
    from data_prep.row_formats import Row, Values
    from pipeline.contracts.data import Fields

_ANSWER = "-"
"""The text of an answer that a format wants and a question does not have."""

_ROLES = {"s": "system", "u": "user", "a": "assistant", "A": "assistant"}


class QuestionFormats(RowFormats):
    """The formats that the rows of a batch may have: the one that is set, or all of them."""

    def __init__(self, fields: Fields, format_: str = "auto", prompt: str | None = None) -> None:
        """Take the settings of the section `dataset`."""
        super().__init__(fields, format_, prompt)
        turns = RowFormats(fields, "messages").fallback
        assert isinstance(turns, TurnLists)
        self._formats = [_Question(one, turns) for one in self._formats]
        self.fallback = self._formats[0]


class _Question(RowFormat):
    """A format without the column of the answer."""

    def __init__(self, whole: RowFormat, turns: TurnLists) -> None:
        asked = whole.columns if isinstance(whole, TurnLists) else whole.columns[:-1]
        super().__init__(whole.name, asked, whole.settings[: len(asked)], whole.optional)
        self._whole, self.turn_keys = whole, whole.turn_keys
        # A prompt may be a text, or a list of messages.
        self._turns = whole if isinstance(whole, TurnLists) else turns

    def fits(self, values: Values) -> bool:
        if isinstance(self._whole, TurnLists):
            return self._whole.fits(values)
        if self.name == "columns":
            return super().fits(values)
        asked = values.get(self.columns[0])
        return isinstance(asked, str) or (self.name == "prompt_completion" and self._turns.are_turns(asked))

    def row(self, *values: Any) -> Row:
        """Return a row whose last text stands for the answer."""
        has_turns = self.name == "prompt_completion" and isinstance(values[0], list)
        if has_turns or isinstance(self._whole, TurnLists):
            return self._question(values[0])
        size = len(self.columns)
        return self._whole.row(*values[:size], _ANSWER, *values[size:])

    def _question(self, turns: list[Any]) -> Conversation | Unfit:
        read = self._turns.texts_and_marks(self.columns[0], turns)
        if isinstance(read, str):
            return None, None, read
        texts, marks = read
        if not marks:
            return None, None, "no turns"
        if marks[-1] in "aA":
            texts, marks = texts[:-1], marks[:-1]
        return conversation([*texts, _ANSWER], f"{marks}A")


def asked_turns(row: Conversation) -> list[dict[str, str]]:
    """Return the messages of a question, which end with the user's."""
    return [{"role": _ROLES[mark], "content": text} for text, mark in zip(row.texts[:-1], row.marks[:-1], strict=True)]
