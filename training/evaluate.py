"""Judges base and tuned model by their greedy answers on the test rows: ROUGE, chrF, confidence intervals and bad habits.

Everything works for any script. `words` defines what a word is.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
import torch
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer
from sacrebleu.metrics.chrf import CHRF
from transformers import GenerationConfig

from training.messages import as_chat
from training.model import padding_id
from training.template import answer_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from training.messages import Messages
    from training.stop import StopSignal

ROUGE = ("rouge1", "rouge2", "rougeL")
METRICS = (*ROUGE, "chrF")
RESAMPLES = 2000
SAMPLES = 20

FAULTY_SAMPLES = 5
"""Number of tuned answers with each fault that are always among the samples."""

COPIED_WORDS = 4

COPIED_SHARE = 0.8
"""An answer is copied if more than this share of its runs of `COPIED_WORDS` words stands in the dialogue."""

REPEATS = 3

REPEATED_CHARACTERS = 12
"""Characters of the shortest loop (`is_repeating`). No summary in data/ has such a long run. Shorter runs are often laughter
or cries."""

ENGLISH_SHARE = 0.99
"""Share of a to z among the letters of the references from which `rouge` takes the references for English."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts without spaces between words."""

_WORD = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{N}}]&&[{_UNSPACED}]]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]*"
)
_LETTER, _ENGLISH_LETTER = regex.compile(r"\p{L}"), regex.compile(r"[a-zA-Z]")
_PLAIN, _LATIN = regex.compile(r"[a-z0-9]+"), regex.compile(r"[\p{Latin}\p{Common}\p{Inherited}]+")


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

    Prompts of similar length are answered together. They are padded on the left, so that each answer follows directly.
    The log gets a line per batch, with the batch's element of `shares`: how much of the work is done (`training.forecast`).
    """
    causal_lm: Any = model.train(False)  # transformers leaves generate() untyped
    pad = padding_id(tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    ends = torch.tensor(sorted(end_ids))
    answers: dict[int, Answer] = {}
    # vLLM takes only this setting for a request with temperature 0 (ModelConfig.get_diff_sampling_param). With other settings,
    # such as num_beams, the answers would not be those that are served. Some make generate() fail: stop_strings,
    # return_dict_in_generate.
    published = causal_lm.generation_config
    penalty = published.repetition_penalty
    causal_lm.generation_config = GenerationConfig(repetition_penalty=penalty)  # type: ignore[no-untyped-call]
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
        answer_ids = output[:, longest:].cpu()
        # Padding may be the same token as an end, but it always follows an end.
        finished = torch.isin(answer_ids, ends).any(dim=1).tolist()
        for index, ids, end in zip(batch, answer_ids.tolist(), finished, strict=True):
            answers[index] = Answer(answer_text(tokenizer, ids), end)
        share = f" share={shares[start // batch_size]:.3f}" if shares else ""
        print(f"evaluated={min(start + batch_size, len(order))}/{len(order)} model={name}{share}", flush=True)
    causal_lm.generation_config = published  # because the model is exported with it
    return [answers[index] for index in range(len(prompts))]


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case and composed form (Unicode's NFC).

    A word is a run of letters, digits and their marks (Unicode's categories L, N, M) that begins with a letter or digit. In
    Chinese, Japanese, Thai, Lao, Khmer and Burmese, which have no spaces, it is one character with its marks.
    """
    found: list[str] = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return found


class _AnyScript(Tokenizer):  # type: ignore[misc]  # rouge_score is untyped
    """Makes ROUGE's tokens for any script: `words`, and for words that fully match `own` the tokens of rouge_score.

    If rouge_score leaves no token of a text (a lone half, or Arabic or full-width digits), the words are the tokens.
    """

    def __init__(self, own: regex.Pattern[str]) -> None:
        self._own, self._rouge_score = own, DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens in their order."""
        tokenize, is_own = self._rouge_score.tokenize, self._own.fullmatch
        found = words(text)
        return [token for word in found for token in (tokenize(word) if is_own(word) else [word])] or found


def rouge(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Return the F-measures of `ROUGE` for each row, [rows, 3], from 0 to 100.

    rouge_score's own tokens are stemmed runs of a to z and digits, so identical texts in another script would score 0.
    Therefore rouge_score tokenizes only words of these characters, and every other word is one token. If the references are
    English (by all their letters together: `ENGLISH_SHARE`), rouge_score tokenizes all words in Latin letters: it counts
    Tromsoe with its Norwegian letter as `troms`, so that the numbers compare with published ones.
    """
    letters, english = (sum(len(kind.findall(text)) for text in references) for kind in (_LETTER, _ENGLISH_LETTER))
    tokenizer = _AnyScript(_LATIN if english >= ENGLISH_SHARE * letters else _PLAIN)
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    scores = [scorer.score(reference, text) for reference, text in zip(references, answers, strict=True)]
    return np.array([[100 * score[metric].fmeasure for metric in ROUGE] for score in scores])


def chrf(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Return chrF of each row, [rows, 1], from 0 to 100.

    This is chrF2: runs of one to six characters, where recall counts twice. It needs no rule about words (Popovic 2015,
    https://aclanthology.org/W15-3049). It is computed with sacrebleu's defaults on composed texts.
    """
    scorer = CHRF()
    composed = ([unicodedata.normalize("NFC", text) for text in texts] for texts in (references, answers))
    pairs = zip(*composed, strict=True)
    return np.array([[scorer.sentence_score(text, [reference]).score] for reference, text in pairs])


def bootstrap(scores: NDArray[np.float64], seed: int) -> dict[str, dict[str, float]]:
    """Return mean and 95% percentile bootstrap interval of each metric.

    Args:
        scores: one line per row, one column per metric. For differences per row, the interval is that of the paired
            difference.
        seed: the same seed draws the same rows for any scores.
    """
    rows = len(scores)
    drawn = np.random.default_rng(seed).integers(0, rows, size=(RESAMPLES, rows))
    means = scores[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        metric: {"mean": float(scores[:, column].mean()), "low": float(low[column]), "high": float(high[column])}
        for column, metric in enumerate(METRICS)
    }


def is_copied(text: str, dialogue: str) -> bool:
    """Return whether an answer is copied from its dialogue. With fewer than `COPIED_WORDS` words it is compared as a whole."""
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
    counts = [len(words(text)) for text in texts]
    return {
        "mean": round(float(np.mean(counts)), 1),
        "median": round(float(np.median(counts)), 1),
        "p90": round(float(np.percentile(counts, 90)), 1),
    }


def judge(chats: Sequence[Messages], base: Sequence[Answer], tuned: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Return the content of evaluation.json: the scores and habits of both models, and some texts side by side.

    - `base` and `tuned` have each metric of `METRICS` with its interval, `words` (`lengths`), and `shares` of the rows, from
      0 to 1: `empty` (no text), `truncated` (not finished), `copied` (`is_copied`), `repeating` (`is_repeating`).
    - `reference` has `words` and the share `copied`.
    - `difference` has the metrics.
    - `samples` has the first `SAMPLES` rows, the first `FAULTY_SAMPLES` rows whose tuned answer repeats itself, and the first
      `FAULTY_SAMPLES` whose tuned answer was cut. Each has the `prompt` (messages), the `reference`, both answers, the
      `scores` of both in each metric, and the `faults` of the tuned answer (`repeating`, `truncated`).
    """
    references = [chat[-1]["content"] for chat in chats]
    dialogues = [chat[-2]["content"] for chat in chats]
    repeating = [is_repeating(answer.text, reference) for answer, reference in zip(tuned, references, strict=True)]
    faults = {"repeating": repeating, "truncated": [not answer.finished for answer in tuned]}
    faulty = [row for fault in faults.values() for row in np.flatnonzero(fault)[:FAULTY_SAMPLES].tolist()]
    base_scores, tuned_scores = (_scores(references, [answer.text for answer in answers]) for answers in (base, tuned))
    return {
        "rows": len(chats),
        "base": bootstrap(base_scores, seed) | _habits(base, dialogues, references),
        "tuned": bootstrap(tuned_scores, seed) | _habits(tuned, dialogues, references),
        "reference": {"words": lengths(references), "shares": {"copied": _copied(references, dialogues)}},
        "difference": bootstrap(tuned_scores - base_scores, seed),
        "samples": [
            {
                "prompt": as_chat(chats[row][:-1]),
                "reference": references[row],
                "base": base[row].text,
                "tuned": tuned[row].text,
                "scores": {"base": _row_scores(base_scores[row]), "tuned": _row_scores(tuned_scores[row])},
                "faults": [fault for fault, rows in faults.items() if rows[row]],
            }
            for row in sorted({*range(min(SAMPLES, len(chats))), *faulty})
        ],
    }


def _row_scores(scores: NDArray[np.float64]) -> dict[str, float]:
    return {metric: round(float(score), 1) for metric, score in zip(METRICS, scores, strict=True)}


def _scores(references: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    return np.hstack([rouge(references, texts), chrf(references, texts)])


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
