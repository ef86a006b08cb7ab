"""Turns chats into token ids: the tokenizer of a base model, and what of a row is learned.

It needs no torch, so that `tuneway plan` shows rows with the training's own code on a machine that cannot train.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from transformers import AutoTokenizer, GenerationConfig

from training import unfit_models
from training.errors import TrainingError, one_line
from training.messages import as_chat
from training.template import settle

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
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
    prompt_length: int
    """Number of tokens before the assistant's answer. They are context and are not learned."""
    length: int


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
        ends = any(token in end_ids for token in self._ids(template.tail))
        self.template = template if ends else replace(template, tail="")

    def prompt(self, messages: Messages) -> list[int]:
        """Return the ids up to the beginning of the last answer. An endpoint gives the model the same ids."""
        return self._ids(self._prompt(messages))

    def row(self, messages: Messages) -> TokenizedChat:
        """Return prompt and last answer. The answer ends with its end-of-turn token.

        The prompt is that of `prompt`, even if the template writes another one when the chat has an answer.
        """
        prompt = self._prompt(messages)
        answer_text = self.template.answer(messages[-1]["content"])
        prompt_ids, whole = self._ids(prompt), self._ids(prompt + answer_text)
        # Prompt and answer are tokenized together, because some tokenizers begin every text with a space. If a token spans
        # both, the answer is tokenized alone, because the model cannot answer with such a token.
        together = whole[: len(prompt_ids)] == prompt_ids
        answer = whole[len(prompt_ids) :] if together else self._ids(answer_text)
        end = next((index for index, token in enumerate(answer) if token in self.end_ids), None)
        if end is not None:
            # The text that a template writes after the end of the turn goes, because the model never writes it.
            answer = answer[: end + 1]
        else:
            answer.append(int(self.tokenizer.eos_token_id))
        ids = prompt_ids + answer
        return {"input_ids": ids, "prompt_length": len(prompt_ids), "length": len(ids)}

    def dataset(self, chats: Sequence[Messages], name: str, max_length: int) -> tuple[Dataset, list[int]]:
        """Tokenize a split, and leave out the rows with more than `max_length` tokens.

        A long row is not cut: a cut dialogue with the summary of the whole would teach the model to invent.

        Returns:
            The rows, and the numbers (from 1) of the rows that are left out.

        Raises:
            TrainingError: every row is too long.
        """
        from datasets import Dataset

        rows = [self.row(chat) for chat in chats]
        left_out = [number for number, row in enumerate(rows, 1) if row["length"] > max_length]
        if left_out:
            print(
                f"{name}: left out {len(left_out)} of {len(rows)} rows, longer than {max_length} tokens",
                flush=True,
            )
        if len(left_out) == len(rows):
            raise TrainingError(
                f"every row of channel {name} is longer than training.max_length {max_length} tokens: raise it, or "
                "shorten the rows"
            )
        return Dataset.from_list([dict(row) for row in rows if row["length"] <= max_length]), left_out

    def _prompt(self, messages: Messages) -> str:
        return self.template.render(self.tokenizer, as_chat(messages[:-1]), ask=True)

    def _ids(self, text: str) -> list[int]:
        # The template has written the special tokens already.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
