"""Scores answers against their references by the metrics of a task, with confidence intervals.

ROUGE and chrF work for any script. `words` defines what a word is.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import regex
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer
from sacrebleu.metrics.chrf import CHRF

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROUGE = ("rouge1", "rouge2", "rougeL")

NAMES = {
    "rouge": ROUGE,
    "chrf": ("chrF",),
    "exact": ("exact",),
    "json": ("json_valid", "json_fields"),
    "label": ("accuracy", "macro_f1"),
}
"""The scores of each metric of training.evaluation.metrics, by their names in evaluation.json."""

DECIDING = {"rouge": "rougeL", "chrf": "chrF", "exact": "exact", "json": "json_fields", "label": "accuracy"}
"""The score of each metric that decides if training.evaluation.promote_by names the metric."""

RESAMPLES = 2000
"""How often rows are drawn for an interval."""

ENGLISH_SHARE = 0.99
"""Share of a to z among the letters of the references from which `rouge` takes the references for English."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts without spaces between words."""

_WORD = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{N}}]&&[{_UNSPACED}]]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]*"
)
_LETTER, _ENGLISH_LETTER = regex.compile(r"\p{L}"), regex.compile(r"[a-zA-Z]")
_PLAIN, _LATIN = regex.compile(r"[a-z0-9]+"), regex.compile(r"[\p{Latin}\p{Common}\p{Inherited}]+")


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


def parse(text: str) -> object:
    """Return the value of a JSON text. NaN and Infinity, which Python takes, are no JSON.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def check_references(metrics: Sequence[str], references: Sequence[str]) -> None:
    """Refuse a test row whose reference a metric cannot compare.

    Raises:
        TrainingError: `json` is a metric, and a reference is not JSON. The message has the number of the first such row.
    """
    if "json" not in metrics:
        return
    for number, reference in enumerate(references, start=1):
        try:
            parse(reference)
        except ValueError:
            raise TrainingError(
                f"row {number} of channel test has an answer that is not JSON, and training.evaluation.metrics has json: "
                "correct the row, or leave json out of training.evaluation.metrics"
            ) from None


def json_scores(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Return two scores of each row, [rows, 2]: 100 if the answer is JSON, else 0; and the percentage of right fields.

    The fields are the reference's values that have no values inside, each with its path. A field is right if the answer has
    an equal value at this path. The order of an object's keys does not matter, and that of a list's items does. Further fields
    of the answer do not count.
    """
    return np.array([_json_scores(*pair) for pair in zip(references, answers, strict=True)])


def _json_scores(reference: str, text: str) -> tuple[float, float]:
    wanted = _fields(parse(reference))
    try:
        found = _fields(parse(text))
    except ValueError:
        return 0.0, 0.0
    right = sum(path in found and _is_equal(value, found[path]) for path, value in wanted.items())
    return 100.0, 100 * right / len(wanted)


def _fields(value: object) -> dict[tuple[str | int, ...], object]:
    """Return the values that have no values inside, by their paths. An empty object or list is such a value."""
    found: dict[tuple[str | int, ...], object] = {}
    left: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while left:
        path, one = left.pop()
        inner = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        if parts := [((*path, key), part) for key, part in inner]:
            left += parts
        else:
            found[path] = one
    return found


def _is_equal(one: object, other: object) -> bool:
    # In Python, True equals 1. In JSON it does not.
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def exact(references: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Return 100 for each row whose answer is the reference but for white space at its ends, else 0: [rows, 1]."""
    return np.array([[100.0 * (a.strip() == b.strip())] for a, b in zip(references, answers, strict=True)])


def label(text: str) -> str:
    """Return the label that a text names. Case, the amount of white space and decomposed characters do not matter."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


@dataclass(frozen=True)
class Scores:
    """The scores of one model's answers."""

    by_row: dict[str, NDArray[np.float64]]
    """The score of each row, from 0 to 100, by the score's name."""
    labels: NDArray[np.int_] | None = None
    """With the metric `label`: for each row, the numbers of the reference's label and of the answer's, [rows, 2]. The latter is
    -1 if no reference has that label."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.by_row.values())))


def names(metrics: Sequence[str]) -> list[str]:
    """Return the names of the scores of these metrics, in the order of `NAMES`."""
    return [name for metric, names in NAMES.items() if metric in metrics for name in names]


def score(metrics: Sequence[str], references: Sequence[str], answers: Sequence[str]) -> Scores:
    """Return the scores of answers by these metrics of `NAMES`."""
    by_row: dict[str, NDArray[np.float64]] = {}
    kinds = {"rouge": rouge, "chrf": chrf, "exact": exact, "json": json_scores}
    for metric, function in kinds.items():
        if metric in metrics:
            by_row |= dict(zip(NAMES[metric], function(references, answers).T, strict=True))
    if "label" not in metrics:
        return Scores(by_row)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(map(label, references)))}
    pairs = zip(references, answers, strict=True)
    labels = np.array([[numbers[label(reference)], numbers.get(label(text), -1)] for reference, text in pairs])
    return Scores(by_row | {"accuracy": 100.0 * (labels[:, 0] == labels[:, 1])}, labels)


def compare(base: Scores, tuned: Scores, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean and 95% percentile bootstrap interval of each score: of `base`, `tuned` and their `difference`.

    Each resample draws rows, and takes both models' answers to them. So the interval of the difference is paired. The macro F1
    is computed anew from the rows of each resample.

    Args:
        base: the scores of the base model.
        tuned: the scores of the tuned model on the same rows.
        seed: the same seed draws the same rows for any scores.
    """
    rows = base.rows
    drawn = np.random.default_rng(seed).integers(0, rows, size=(RESAMPLES, rows))
    # How often each resample has each row.
    flat = np.bincount((drawn + rows * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * rows)
    weights = flat.reshape(RESAMPLES, rows).astype(float)
    once = np.ones((1, rows))
    # The differences are taken by row, so that rows with equal scores differ by exactly 0, in any sum.
    difference = {name: tuned.by_row[name] - base.by_row[name] for name in base.by_row}
    sides = {"base": base.by_row, "tuned": tuned.by_row, "difference": difference}
    found = {
        side: {name: _interval(once @ values / rows, weights @ values / rows) for name, values in scores.items()}
        for side, scores in sides.items()
    }
    if base.labels is not None and tuned.labels is not None:
        f1 = {
            side: (_macro_f1(labels, once), _macro_f1(labels, weights))
            for side, labels in (("base", base.labels), ("tuned", tuned.labels))
        }
        f1["difference"] = f1["tuned"][0] - f1["base"][0], f1["tuned"][1] - f1["base"][1]
        for side, pair in f1.items():
            found[side]["macro_f1"] = _interval(*pair)
    return found


def differing(base: Scores, tuned: Scores) -> dict[str, int]:
    """Return on how many rows both models have different scores, by the score's name."""
    # Equal scores of different texts may differ by a rounding.
    return {name: int((abs(tuned.by_row[name] - base.by_row[name]) > 1e-9).sum()) for name in base.by_row}


def _interval(whole: NDArray[np.float64], resampled: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"mean": float(whole[0]), "low": float(low), "high": float(high)}


def _macro_f1(labels: NDArray[np.int_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean F1 of the references' labels, from 0 to 100, for each line of `weights`.

    Args:
        labels: as in `Scores`.
        weights: how often each row counts, [lines, rows]. A label that no reference of a line has does not count in it.
    """
    total, present = np.zeros(len(weights)), np.zeros(len(weights))
    for number in range(int(labels[:, 0].max()) + 1):
        wanted, answered = labels[:, 0] == number, labels[:, 1] == number
        # F1 is 2 TP / (2 TP + FP + FN), which is 2 TP / (references + answers with the label).
        references, hits = weights[:, wanted].sum(axis=1), weights[:, wanted & answered].sum(axis=1)
        either = references + weights[:, answered].sum(axis=1)
        has = references > 0
        total += np.divide(200 * hits, either, out=np.zeros(len(weights)), where=has)
        present += has
    return total / present
