"""Judging: greedy answers of base and tuned on the held-out rows, ROUGE and chrF, how sure the difference is, and bad habits.

All of it holds for any script: what counts as a word is said in `words`.
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
"""Tuned answers of each fault that are among the samples, wherever they stand."""
COPIED_WORDS = 4
COPIED_SHARE = 0.8
"""An answer is copied if more than this share of its runs of `COPIED_WORDS` words stands in the dialogue."""
REPEATS = 3
REPEATED_CHARACTERS = 12
"""See `is_repeating`. No summary in data/ has so long a run; shorter ones are often laughter or cries."""
ENGLISH_SHARE = 0.99
"""Share of a to z among the letters of the references from which on ROUGE takes them for English (`rouge`)."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no space between words."""
_WORD = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{N}}]&&[{_UNSPACED}]]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]*"
)
_LETTER, _ENGLISH_LETTER = regex.compile(r"\p{L}"), regex.compile(r"[a-zA-Z]")
_PLAIN, _LATIN = regex.compile(r"[a-z0-9]+"), regex.compile(r"[\p{Latin}\p{Common}\p{Inherited}]+")


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt."""

    text: str
    finished: bool
    """Whether it came to an end by itself, and was not cut by max_new_tokens."""


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
) -> list[Answer]:
    """Returns the model's greedy answers, in the order of `prompts`.

    Prompts of like length are answered together, padded on the left so that every answer begins right after its prompt.
    """
    causal_lm: Any = model.train(False)  # transformers leaves generate() untyped
    pad = padding_id(tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    ends = torch.tensor(sorted(end_ids))
    answers: dict[int, Answer] = {}
    # All that vLLM takes of it for a request with temperature 0 (ModelConfig.get_diff_sampling_param). Other settings, such as
    # num_beams, give other answers than are served, and some end generate(): stop_strings, return_dict_in_generate.
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
        said = output[:, longest:].cpu()
        # Padding, which may be the same token, only ever follows an end.
        finished = torch.isin(said, ends).any(dim=1).tolist()
        for index, ids, end in zip(batch, said.tolist(), finished, strict=True):
            answers[index] = Answer(answer_text(tokenizer, ids), end)
        print(f"evaluated={min(start + batch_size, len(order))}/{len(order)} model={name}", flush=True)
    causal_lm.generation_config = published  # it is exported
    return [answers[index] for index in range(len(prompts))]


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case and composed (Unicode's NFC).

    A word is a run of letters, digits and their marks (Unicode's categories L, N, M) that begins with a letter or digit. In
    Chinese, Japanese, Thai, Lao, Khmer and Burmese, which have no spaces, it is one character with its marks.
    """
    found: list[str] = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return found


class _AnyScript(Tokenizer):  # type: ignore[misc]  # rouge_score is untyped
    """ROUGE's tokens of any script: `words`, but rouge_score's own of those that fully match `own`.

    A text of which rouge_score leaves nothing (a lone half, or Arabic or full-width digits) is taken by its words all the same.
    """

    def __init__(self, own: regex.Pattern[str]) -> None:
        self._own, self._rouge_score = own, DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Returns the tokens in their order."""
        tokenize, is_own = self._rouge_score.tokenize, self._own.fullmatch
        found = words(text)
        return [token for word in found for token in (tokenize(word) if is_own(word) else [word])] or found


def rouge(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Returns the F-measures of `ROUGE` for each row, [rows, 3], from 0 to 100.

    rouge_score's own tokens are runs of a to z and digits, stemmed: identical texts of another script would score 0. So its
    tokens are taken for words of nothing else, and all other words as they are. Where the references are English (told by
    their letters, all together: `ENGLISH_SHARE`), words in any Latin letters are left to it, too: it counts Tromsoe with its
    Norwegian letter as `troms`, and so the numbers compare with published ones.
    """
    letters, english = (sum(len(kind.findall(text)) for text in references) for kind in (_LETTER, _ENGLISH_LETTER))
    tokenizer = _AnyScript(_LATIN if english >= ENGLISH_SHARE * letters else _PLAIN)
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    scores = [scorer.score(reference, text) for reference, text in zip(references, answers, strict=True)]
    return np.array([[100 * score[metric].fmeasure for metric in ROUGE] for score in scores])


def chrf(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Returns chrF (chrF2: runs of one to six characters, recall counting twice) of each row, [rows, 1], from 0 to 100.

    It needs no rule about words (Popovic 2015, https://aclanthology.org/W15-3049); sacrebleu's defaults, of composed texts.
    """
    scorer = CHRF()
    composed = ([unicodedata.normalize("NFC", text) for text in texts] for texts in (references, answers))
    pairs = zip(*composed, strict=True)
    return np.array([[scorer.sentence_score(text, [reference]).score] for reference, text in pairs])


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


def is_copied(text: str, dialogue: str) -> bool:
    """Tells whether an answer is cut out of its dialogue. One of fewer than `COPIED_WORDS` words counts as a whole."""
    said, source = words(text), words(dialogue)
    size = min(COPIED_WORDS, len(said))
    if size == 0:
        return False
    runs, there = _runs(said, size), set(_runs(source, size))
    return sum(run in there for run in runs) > COPIED_SHARE * len(runs)


def is_repeating(text: str, reference: str = "") -> bool:
    """Tells whether an answer loops.

    It does if some piece of it stands there `REPEATS` times or more in a row, in all `REPEATED_CHARACTERS` characters or more.
    A piece is anything from one character to a third of the answer; white space and case do not count. Where the reference
    has such a run itself (the ruler of a table, laughter), the answer's must be more than twice as long.
    """
    longest = _longest_loop(text)
    return longest >= REPEATED_CHARACTERS and longest > 2 * _longest_loop(reference)


def _longest_loop(text: str) -> int:
    """Returns the characters of the longest run of a piece that stands there `REPEATS` times or more in a row; 0: none."""
    said = np.array([ord(character) for character in "".join(text.casefold().split())])
    longest = 0
    for period in range(1, len(said) // REPEATS + 1):
        differs = np.flatnonzero(said[period:] != said[:-period])
        # Between two such places the text is what it was `period` characters before.
        equal = int(np.diff(differs, prepend=-1, append=len(said) - period).max()) - 1
        if equal + period >= REPEATS * period:
            longest = max(longest, equal + period)
    return longest


def _runs(of: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(of[start : start + size]) for start in range(len(of) - size + 1)]


def lengths(texts: Sequence[str]) -> dict[str, float]:
    """Returns mean, median and 90th percentile of the texts' words."""
    counts = [len(words(text)) for text in texts]
    return {
        "mean": round(float(np.mean(counts)), 1),
        "median": round(float(np.median(counts)), 1),
        "p90": round(float(np.percentile(counts, 90)), 1),
    }


def judge(chats: Sequence[Messages], base: Sequence[Answer], tuned: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Returns what evaluation.json holds: what both models score and how they answer, and some texts side by side.

    Of `base` and `tuned`: each metric of `METRICS` with its interval, `words` (`lengths`), and `shares` of the rows, from
    0 to 1: `empty` (no text), `truncated` (not finished), `copied` (`is_copied`), `repeating` (`is_repeating`). Of
    `reference`: `words` and the share `copied`. Of `difference`: the metrics. `samples`: the first `SAMPLES` rows, and the
    first `FAULTY_SAMPLES` whose tuned answer repeats itself and the first that were cut; of each the `prompt` (messages), the
    `reference` and both answers.
    """
    references = [chat[-1]["content"] for chat in chats]
    dialogues = [chat[-2]["content"] for chat in chats]
    repeating = [is_repeating(answer.text, reference) for answer, reference in zip(tuned, references, strict=True)]
    faults = (repeating, [not answer.finished for answer in tuned])
    faulty = [row for fault in faults for row in np.flatnonzero(fault)[:FAULTY_SAMPLES].tolist()]
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
            }
            for row in sorted({*range(min(SAMPLES, len(chats))), *faulty})
        ],
    }


def _scores(references: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    return np.hstack([rouge(references, texts), chrf(references, texts)])


def _habits(
    answers: Sequence[Answer], dialogues: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, float]]:
    texts = [answer.text for answer in answers]
    shares = {
        "empty": round(float(np.mean([not text.strip() for text in texts])), 3),
        # Not rounded: one in thousands is more than a training.evaluation.max_faulty_share of 0.
        "truncated": float(np.mean([not answer.finished for answer in answers])),
        "copied": _copied(texts, dialogues),
        "repeating": float(np.mean([is_repeating(*pair) for pair in zip(texts, references, strict=True)])),
    }
    return {"words": lengths(texts), "shares": shares}


def _copied(texts: Sequence[str], dialogues: Sequence[str]) -> float:
    return round(float(np.mean([is_copied(*pair) for pair in zip(texts, dialogues, strict=True)])), 3)
