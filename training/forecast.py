"""Forecasts the seconds of the phases after the training. Whoever follows the job's log then knows the time left.

Only the job itself can know them before they begin: they depend on its instance, and on the lengths of its rows. A short
measurement of the base model gives the pace of reading a prompt and of writing a token.
"""

from __future__ import annotations

import time
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch

from training.answering import READ_TOKENS, Prompts, greedy

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from transformers import PreTrainedModel

WRITTEN = 8
"""The tokens that the measurement writes per row."""

SHORT_PROMPT = 16
"""The tokens of the prompts for which they are written."""

EXPORT_LOADS = 2.0
"""The seconds of the export per second of loading the model: it merges, saves, loads again, and computes logits twice."""


class AnswerPace(NamedTuple):
    """The seconds per prompt token that is read, and per step that writes a token of every row."""

    read: float
    write: float


def measure(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_size: int, pad: int, ends: Collection[int]
) -> AnswerPace:
    """Read a few prompts of middle length, and write some tokens for a whole batch. Return the model's pace."""
    order = sorted(prompts, key=len)
    middle = max(0, (len(order) - batch_size) // 2)
    batch = order[middle : middle + batch_size][::-1]
    few = batch[: max(1, READ_TOKENS // len(batch[0]))]

    def seconds(tokens: int, rows: Sequence[Sequence[int]]) -> float:
        began = time.monotonic()
        Prompts(rows, pad).answers(model, greedy(tokens, ends, pad, min_new_tokens=tokens))
        return time.monotonic() - began

    with torch.inference_mode():
        seconds(1, few[:1])  # the first call is slower than the others
        read = seconds(1, few) / sum(map(len, few))
        # A token takes nearly the same time after a short prompt, and a short prompt is read at once.
        short = [prompt[-SHORT_PROMPT:] for prompt in batch]
        write = (seconds(1 + WRITTEN, short) - seconds(1, short)) / WRITTEN
    return AnswerPace(read, max(write, 0))


def answer_seconds(pace: AnswerPace, prompts: Sequence[int], answers: Sequence[int], batch_size: int) -> list[float]:
    """Return the seconds of answering each batch of `evaluate.answer`.

    Args:
        pace: the model's pace.
        prompts: the tokens of each row's prompt.
        answers: the tokens of each row's answer. A batch takes as long as its longest.
        batch_size: rows per batch.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index], reverse=True)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [
        pace.read * sum(prompts[index] for index in batch) + pace.write * max(answers[index] for index in batch)
        for batch in batches
    ]


class Forecast:
    """The seconds of the phases after the training.

    The base model often does not end an answer by itself, and the tuned model answers as the references do.
    """

    def __init__(
        self,
        pace: AnswerPace,
        prompts: Sequence[int],
        references: Sequence[int],
        batch_size: int,
        most: int,
        load: float,
    ) -> None:
        """Compute the seconds of each batch.

        Args:
            pace: the base model's pace.
            prompts: the tokens of each test row's prompt.
            references: the tokens of each test row's reference.
            batch_size: rows per batch of the evaluation.
            most: the most tokens of an answer.
            load: the seconds of loading the model.
        """
        self._load = load
        self._batches = {
            "base": answer_seconds(pace, prompts, [most] * len(prompts), batch_size),
            "tuned": answer_seconds(pace, prompts, [min(most, tokens) for tokens in references], batch_size),
        }

    def shares(self, name: str) -> list[float]:
        """Return which share of the evaluation of a model ("base" or "tuned") is done after each of its batches."""
        batches = self._batches[name]
        return [done / (sum(batches) or 1) for done in accumulate(batches)]

    def line(self, *, known: bool, eval_steps: int | None) -> str:
        """Return the line of the log.

        Args:
            known: whether an earlier run has left the base model's answers.
            eval_steps: the steps between two validations, which the training does beside the one at its end.
        """
        base = 0.0 if known else sum(self._batches["base"])
        tuned, export = sum(self._batches["tuned"]), EXPORT_LOADS * self._load
        phases = {"load_base": self._load, "evaluate_base": base, "export": export, "evaluate_tuned": tuned}
        every = f" eval_steps={eval_steps}" if eval_steps else ""
        return "forecast " + " ".join(f"{phase}_seconds={seconds:.1f}" for phase, seconds in phases.items()) + every
