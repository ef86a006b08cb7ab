"""Turns chats into token ids: the tokenizer of a base model, and what of a row is learned.

It needs no torch, so that `tuneway plan` shows rows with the training's own code on a machine that cannot train.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from transformers import AutoTokenizer, GenerationConfig

from training import unfit_models
from training.errors import TrainingError, one_line
from training.messages import as_chat
from training.template import settle
from training.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from training.messages import Messages


def load_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the base model `name`.

    Raises:
        TrainingError: the tokenizer has no chat template or no end-of-sequence token.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    # Command R and Hermes 3 have one template for chats, and others for tools or documents.
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if not tokenizer.chat_template:
        raise unfit_models.no_chat_template(name)
    if tokenizer.eos_token_id is None:
        raise unfit_models.no_end(name)
    return tokenizer


def end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return all tokens that end an answer: those of the tokenizer and of generation_config.json (Llama has three).

    Raises:
        TrainingError: transformers does not take generation_config.json.
    """
    ends = {int(tokenizer.eos_token_id)}
    if (folder / "generation_config.json").exists():
        try:
            configured = GenerationConfig.from_pretrained(folder).eos_token_id
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"training.base_model: transformers does not take its generation_config.json ({one_line(str(error))[:200]}); "
                "take that setting out and upload the model to uploads/models/FOLDER/, or choose another one"
            ) from error
        ends.update(configured if isinstance(configured, list) else [] if configured is None else [configured])
    return sorted(ends)


class TokenizedChat(TypedDict):
    """One tokenized chat."""

    input_ids: list[int]
    spans: list[list[int]]
    """The learned tokens: start and end (exclusive) of each learned answer with its end-of-turn token, in their order.

    All other tokens are context and are not learned. The last span ends with the row.
    """
    length: int


class Tokenized(NamedTuple):
    """The rows of a split that a training uses.

    Attributes:
        rows: the tokenized rows.
        left_out: the numbers (from 1) of the rows that are left out, because they are too long.
        cut: the numbers (from 1) of the rows that have lost their first turns.
    """

    rows: Dataset
    left_out: list[int]
    cut: list[int]


def _without_first_turns(messages: Messages, fits: Callable[[Messages], bool]) -> Messages:
    """Return the messages without as few of the first pairs of turns as needed. System message and last pair stay."""
    start = 1 if messages[0]["role"] == "system" else 0
    pairs = (len(messages) - start) // 2

    def rest(lost: int) -> Messages:
        return messages[:start] + messages[start + 2 * lost :]

    return rest(bisect_left(range(pairs - 1), True, key=lambda lost: fits(rest(lost))))


class Encoder:
    """Turns chats into token ids by the model's own chat template (`template.settle`)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]) -> None:
        """Decide how the tokenizer's chat template is used.

        Args:
            tokenizer: the base model's tokenizer.
            end_ids: tokens that end an answer. Generation stops at each of them.

        Raises:
            TrainingError: the template takes no dialogue with an answer.
        """
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        template = settle(tokenizer)
        self.template = template if self._has_end(template.tail) else replace(template, tail="")
        self._turns = Turns(tokenizer, self.template, self._has_end)

    def prompt(self, messages: Messages) -> list[int]:
        """Return the ids up to the beginning of the last answer. An endpoint gives the model the same ids."""
        return self._ids(self._prompt(messages))

    def answer(self, messages: Messages) -> list[int]:
        """Return the ids of the last answer with its end-of-turn token."""
        row = self._row([self._prompt(messages), self.template.answer(messages[-1]["content"])])
        return row["input_ids"][row["spans"][0][0] :]

    def row(self, messages: Messages) -> TokenizedChat:
        """Return the row with its learned answers. Each ends with its end-of-turn token.

        The context of a learned answer ends as the prompt of a request does, even if the template writes another text there
        when the chat has an answer. If the last answer alone is learned, the context is the prompt of `prompt`.

        Raises:
            TrainingError: several answers are learned, and the template does not tell the turns apart.
        """
        return self._row(self._turns.split(messages))

    def _row(self, pieces: Sequence[str]) -> TokenizedChat:
        """Return the row of a prompt, and of pieces that begin with an answer."""
        first, *answers = self._parts(pieces)
        ids, spans = list(first), []
        for part in answers:
            end = next((number for number, token in enumerate(part, 1) if token in self.end_ids), 0)
            if not end:  # only the last answer, because `Turns` looks at the others
                part.append(int(self.tokenizer.eos_token_id))
                end = len(part)
            spans.append([len(ids), len(ids) + end])
            ids += part
        # The text that a template writes after the end of the last turn goes, because the model never writes it.
        del ids[spans[-1][1] :]
        return {"input_ids": ids, "spans": spans, "length": len(ids)}

    def _parts(self, pieces: Sequence[str]) -> list[list[int]]:
        """Return the ids of each piece.

        To tokenize a long conversation up to each of its answers takes the square of its length. So each answer is first
        tokenized from the end of the answer before it on. That counts if all parts together are the ids of the whole text.
        """
        if len(pieces) > 2:
            parts = self._continued(pieces, from_the_last_end=True)
            if [token for part in parts for token in part] == self._ids("".join(pieces)):
                return parts
        return self._continued(pieces, from_the_last_end=False)

    def _continued(self, pieces: Sequence[str], *, from_the_last_end: bool) -> list[list[int]]:
        """Return the ids of each piece, tokenized together with the pieces before it.

        They are tokenized together, because some tokenizers begin every text with a space. If a token spans the end of a prompt
        and its answer, the answer is tokenized alone, because the model cannot answer with such a token.
        """
        text, *others = pieces
        before = self._ids(text)
        parts = [before]
        for piece in others:
            whole = self._ids(text + piece)
            if whole[: len(before)] == before:
                part, text, before = whole[len(before) :], text + piece, whole
            else:
                part, text = self._ids(piece), piece
                before = part
            parts.append(list(part))
            end = next((index for index, token in enumerate(part) if token in self.end_ids), None)
            if from_the_last_end and end is not None:
                _, mark, rest = piece.partition(str(self.tokenizer.convert_ids_to_tokens(part[end])))
                text, before = (mark + rest, part[end:]) if mark else (text, before)
        return parts

    def fit(self, messages: Messages, max_length: int, *, cut: bool) -> tuple[TokenizedChat | None, int]:
        """Return the row if it has at most `max_length` tokens, or None, and the number of turns that it has lost.

        With `cut`, a longer row loses as few turns as needed: the first ones, in pairs of the user's and the assistant's turn.
        The system message stays, and so does the last pair.
        """
        row = self.row(messages)
        if row["length"] <= max_length:
            return row, 0
        if not cut:
            return None, 0
        rest = _without_first_turns(messages, lambda fewer: self.row(fewer)["length"] <= max_length)
        row = self.row(rest)
        return (row, len(messages) - len(rest)) if row["length"] <= max_length else (None, 0)

    def shorten(self, messages: Messages, max_length: int) -> Messages:
        """Return the messages without as many of the first turns as needed for `max_length` tokens, as `fit` cuts a row.

        The system message and the last pair are returned also if they are longer.
        """
        return _without_first_turns(
            messages, lambda fewer: len(self.prompt(fewer)) + len(self.answer(fewer)) <= max_length
        )

    def dataset(self, chats: Sequence[Messages], name: str, max_length: int, *, cut: bool = False) -> Tokenized:
        """Tokenize a split. Leave out the rows that have more than `max_length` tokens, or cut them (`fit`).

        A text is never cut: a cut dialogue with the summary of the whole would teach the model to invent.

        Raises:
            TrainingError: every row is too long.
        """
        from datasets import Dataset

        fitted = [self.fit(chat, max_length, cut=cut) for chat in chats]
        rows = [dict(row) for row, _ in fitted if row is not None]
        left_out = [number for number, (row, _) in enumerate(fitted, 1) if row is None]
        shorter = [number for number, (row, lost) in enumerate(fitted, 1) if row is not None and lost]
        if shorter:
            print(
                f"{name}: cut {len(shorter)} of {len(chats)} rows to {max_length} tokens, at their first turns",
                flush=True,
            )
        if left_out:
            print(
                f"{name}: left out {len(left_out)} of {len(chats)} rows, longer than {max_length} tokens",
                flush=True,
            )
        if not rows:
            raise TrainingError(
                f"every row of channel {name} is longer than training.max_length {max_length} tokens: raise it, or "
                "shorten the rows"
            )
        return Tokenized(Dataset.from_list(rows), left_out, shorter)

    def _prompt(self, messages: Messages) -> str:
        return self.template.render(self.tokenizer, as_chat(messages[:-1]), ask=True)

    def _has_end(self, text: str) -> bool:
        return any(token in self.end_ids for token in self._ids(text))

    def _ids(self, text: str) -> list[int]:
        # The template has written the special tokens already.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
