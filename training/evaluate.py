"""Judging: greedy answers of base and tuned on the held-out rows, ROUGE, and how sure the difference is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer

from training.model import padding_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from training.data import Chat
    from training.stop import StopSignal

METRICS = ("rouge1", "rouge2", "rougeL")
RESAMPLES = 2000
SAMPLES = 20


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
) -> list[str]:
    """Returns the model's greedy answers, in the order of `prompts`.

    Prompts of like length are answered together, padded on the left so that every answer begins right after its prompt.
    """
    causal_lm: Any = model.train(False)  # transformers leaves generate() untyped
    pad = padding_id(tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        stop.check(f"evaluating the {name} model")
        batch = order[start : start + batch_size]
        longest = max(len(prompts[index]) for index in batch)
        input_ids = torch.full((len(batch), longest), pad)
        attention_mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for line, index in enumerate(batch):
            input_ids[line, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
            attention_mask[line, longest - len(prompts[index]) :] = 1
        with torch.inference_mode():
            output = causal_lm.generate(
                input_ids=input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=list(end_ids),
                pad_token_id=pad,
            )
        texts = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text.strip()
        print(f"evaluated={min(start + batch_size, len(order))}/{len(order)} model={name}", flush=True)
    return answers


def rouge(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Returns the F-measures of `METRICS` for each row, [rows, 3], from 0 to 100, of stemmed words as is usual."""
    scorer = RougeScorer(list(METRICS), use_stemmer=True)
    scores = [scorer.score(reference, text) for reference, text in zip(references, answers, strict=True)]
    return np.array([[100 * score[metric].fmeasure for metric in METRICS] for score in scores])


def bootstrap(scores: NDArray[np.float64], seed: int) -> dict[str, dict[str, float]]:
    """Returns mean and 95% percentile bootstrap interval of each metric.

    Args:
        scores: one line a row, one column a metric. Of differences row by row, the interval is that of the paired
        difference.
        seed: the same seed draws the same rows, whatever the scores.
    """
    rows = len(scores)
    drawn = np.random.default_rng(seed).integers(0, rows, size=(RESAMPLES, rows))
    means = scores[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        metric: {"mean": float(scores[:, column].mean()), "low": float(low[column]), "high": float(high[column])}
        for column, metric in enumerate(METRICS)
    }


def judge(chats: Sequence[Chat], base: Sequence[str], tuned: Sequence[str], seed: int) -> dict[str, Any]:
    """Returns what evaluation.json holds: scores of both models, of their difference, and some texts side by side."""
    references = [chat[-1]["content"] for chat in chats]
    base_scores, tuned_scores = rouge(references, base), rouge(references, tuned)
    return {
        "rows": len(chats),
        "base": bootstrap(base_scores, seed),
        "tuned": bootstrap(tuned_scores, seed),
        "difference": bootstrap(tuned_scores - base_scores, seed),
        "samples": [
            {"dialogue": chat[-2]["content"], "reference": reference, "base": base_text, "tuned": tuned_text}
            for chat, reference, base_text, tuned_text in zip(chats, references, base, tuned, strict=True)
        ][:SAMPLES],
    }
