"""Judges base and tuned model by their greedy answers on the test rows: scores with intervals, lengths and bad habits.

`training.scores` is imported where it is used, so that `answer` needs none of its libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.answering import Prompts, greedy
from training.messages import as_chat
from training.model import padding_id
from training.template import answer_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from training.messages import Messages
    from training.recipe import Recipe
    from training.scores import Scores
    from training.stop import StopSignal

SAMPLES = 20

MOST_ANSWERS = 500
"""The most rows whose answers are kept, for a judge that compares the two models. The settings allow no more
(training.evaluation.judge_rows)."""

ANSWERS = "answers.jsonl"

FAULTY_SAMPLES = 5
"""Number of tuned answers with each fault that are always among the samples."""

COPIED_WORDS = 4

COPIED_SHARE = 0.8
"""An answer is copied if more than this share of its runs of `COPIED_WORDS` words stands in the dialogue."""

REPEATS = 3

REPEATED_CHARACTERS = 12
"""Characters of the shortest loop (`is_repeating`). No summary in data/ has such a long run. Shorter runs are often laughter
or cries."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one prompt."""

    text: str
    finished: bool
    """Whether the answer has its own end, and was not cut by max_new_tokens."""


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    stop: StopSignal,
    name: str,
    shares: Sequence[float] = (),
) -> list[Answer]:
    """Return the model's greedy answers, in the order of `prompts`.

    Prompts of similar length are answered together.
    The log gets a line per batch, with the batch's element of `shares`: how much of the work is done (`training.forecast`).
    """
    model.train(False)
    pad = padding_id(tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    ends = torch.tensor(sorted(end_ids))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch_size):
        stop.check(f"evaluating the {name} model")
        batch = order[start : start + batch_size]
        with torch.inference_mode():
            answer_ids = Prompts([prompts[index] for index in batch], pad).answers(
                model, greedy(max_new_tokens, end_ids, pad)
            )
        # Padding may be the same token as an end, but it always follows an end.
        finished = torch.isin(answer_ids, ends).any(dim=1).tolist()
        for index, ids, end in zip(batch, answer_ids.tolist(), finished, strict=True):
            answers[index] = Answer(answer_text(tokenizer, ids), end)
        share = f" share={shares[start // batch_size]:.3f}" if shares else ""
        print(f"evaluated={min(start + batch_size, len(order))}/{len(order)} model={name}{share}", flush=True)
    return [answers[index] for index in range(len(prompts))]


def is_copied(text: str, dialogue: str) -> bool:
    """Return whether an answer is copied from its dialogue. With fewer than `COPIED_WORDS` words it is compared as a whole."""
    from training.scores import words

    answer_words, source = words(text), words(dialogue)
    size = min(COPIED_WORDS, len(answer_words))
    if size == 0:
        return False
    runs, source_runs = _runs(answer_words, size), set(_runs(source, size))
    return sum(run in source_runs for run in runs) > COPIED_SHARE * len(runs)


def is_repeating(text: str, reference: str = "") -> bool:
    """Return whether an answer loops.

    It loops if some piece of it stands in it `REPEATS` times or more in a row, with `REPEATED_CHARACTERS` characters or more
    in total. A piece has from one character to a third of the answer. White space and case do not count. If the reference has
    such a run, too (the ruler of a table, laughter), the answer's run must be more than twice as long.
    """
    longest = _longest_loop(text)
    return longest >= REPEATED_CHARACTERS and longest > 2 * _longest_loop(reference)


def _longest_loop(text: str) -> int:
    """Return the length of the longest run of a piece that stands `REPEATS` times or more in a row; 0 if there is none."""
    characters = np.array([ord(character) for character in "".join(text.casefold().split())])
    longest = 0
    for period in range(1, len(characters) // REPEATS + 1):
        differs = np.flatnonzero(characters[period:] != characters[:-period])
        # Between two such places, each character is the same as `period` characters before.
        equal = int(np.diff(differs, prepend=-1, append=len(characters) - period).max()) - 1
        if equal + period >= REPEATS * period:
            longest = max(longest, equal + period)
    return longest


def _runs(of: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(of[start : start + size]) for start in range(len(of) - size + 1)]


def lengths(texts: Sequence[str]) -> dict[str, float]:
    """Return mean, median and 90th percentile of the texts' numbers of words."""
    from training.scores import words

    counts = [len(words(text)) for text in texts]
    return {
        "mean": round(float(np.mean(counts)), 1),
        "median": round(float(np.median(counts)), 1),
        "p90": round(float(np.percentile(counts, 90)), 1),
    }


def evaluation(
    chats: Sequence[Messages], base: Sequence[Answer], tuned: Sequence[Answer], recipe: Recipe
) -> dict[str, Any]:
    """Return the content of evaluation.json: the scores and habits of both models, and some texts side by side.

    A conversation is judged at its last answer.

    - `metrics` has the names of the scores of the recipe's metrics (`scores.NAMES`), and `deciding` the one that decides.
    - `base` and `tuned` have each score with its interval, `words` (`lengths`), and `shares` of the rows, from 0 to 1:
      `empty` (no text), `truncated` (not finished), `copied` (`is_copied`), `repeating` (`is_repeating`).
    - `reference` has `words` and the share `copied`.
    - `difference` has the scores, and `differing` the number of rows on which each score differs.
    - `samples` has the first `SAMPLES` rows, the first `FAULTY_SAMPLES` rows whose tuned answer repeats itself, and the first
      `FAULTY_SAMPLES` whose tuned answer was cut. Each has the `prompt` (messages), the `reference`, both answers, the
      `scores` of both that a row can have, and the `faults` of the tuned answer (`repeating`, `truncated`).
    """
    from training import scores

    references = [chat[-1]["content"] for chat in chats]
    # All turns before the answer. A system message is an instruction, whose words an answer may well have.
    dialogues = ["\n".join(turn["content"] for turn in chat[:-1] if turn["role"] != "system") for chat in chats]
    repeating = [is_repeating(answer.text, reference) for answer, reference in zip(tuned, references, strict=True)]
    faults = {"repeating": repeating, "truncated": [not answer.finished for answer in tuned]}
    faulty = [row for fault in faults.values() for row in np.flatnonzero(fault)[:FAULTY_SAMPLES].tolist()]
    base_scores, tuned_scores = (
        scores.score(recipe.metrics, references, [answer.text for answer in answers]) for answers in (base, tuned)
    )
    compared = scores.compare(base_scores, tuned_scores, recipe.seed)
    return {
        "rows": len(chats),
        "metrics": scores.names(recipe.metrics),
        # The judge model has no score yet. Until it has one, the first metric stands there.
        "deciding": scores.DECIDING[recipe.metrics[0] if recipe.promote_by == "judge" else recipe.promote_by],
        "base": compared["base"] | _habits(base, dialogues, references),
        "tuned": compared["tuned"] | _habits(tuned, dialogues, references),
        "reference": {"words": lengths(references), "shares": {"copied": _copied(references, dialogues)}},
        "difference": compared["difference"],
        "differing": scores.differing(base_scores, tuned_scores),
        "samples": [
            {
                "prompt": as_chat(chats[row][:-1]),
                "reference": references[row],
                "base": base[row].text,
                "tuned": tuned[row].text,
                "scores": {"base": _row_scores(base_scores, row), "tuned": _row_scores(tuned_scores, row)},
                "faults": [fault for fault, rows in faults.items() if rows[row]],
            }
            for row in sorted({*range(min(SAMPLES, len(chats))), *faulty})
        ],
    }


def answer_rows(chats: Sequence[Messages], base: Sequence[Answer], tuned: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the rows of `ANSWERS`, at most `MOST_ANSWERS`: the number of the row, its prompt (messages) and all answers.

    The order is random, and the same for the same number of rows. So each beginning of the file is a sample of all rows.
    """
    order = np.random.default_rng(0).permutation(len(chats))[:MOST_ANSWERS].tolist()
    return [
        {
            "row": row,
            "prompt": as_chat(chats[row][:-1]),
            "reference": chats[row][-1]["content"],
            "base": base[row].text,
            "tuned": tuned[row].text,
        }
        for row in order
    ]


def _row_scores(found: Scores, row: int) -> dict[str, float]:
    return {name: round(float(values[row]), 1) for name, values in found.by_row.items()}


def _habits(
    answers: Sequence[Answer], dialogues: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, float]]:
    texts = [answer.text for answer in answers]
    shares = {
        "empty": round(float(np.mean([not text.strip() for text in texts])), 3),
        # Not rounded, because one answer in thousands is more than a training.evaluation.max_faulty_share of 0.
        "truncated": float(np.mean([not answer.finished for answer in answers])),
        "copied": _copied(texts, dialogues),
        "repeating": float(np.mean([is_repeating(*pair) for pair in zip(texts, references, strict=True)])),
    }
    return {"words": lengths(texts), "shares": shares}


def _copied(texts: Sequence[str], dialogues: Sequence[str]) -> float:
    return round(float(np.mean([is_copied(*pair) for pair in zip(texts, dialogues, strict=True)])), 3)
