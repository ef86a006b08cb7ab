"""The scores of answers: ROUGE, chrF, exact match, JSON and labels, their intervals and paired differences."""

# ruff: noqa: RUF001  # letters of other scripts look like Latin ones
from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from pipeline import scores as read_scores
from training.errors import TrainingError
from training.scores import (
    DECIDING,
    NAMES,
    ROUGE,
    Scores,
    _macro_f1,
    check_references,
    chrf,
    compare,
    differing,
    exact,
    json_scores,
    label,
    names,
    rouge,
    score,
    words,
)


def test_rouge_is_stemmed_and_from_0_to_100() -> None:
    scores = rouge(["the cat sat", "the cats sat", "one two three four"], ["the cat sat", "the cat sat", "one three"])
    assert scores[0].tolist() == [100, 100, 100]
    assert scores[1].tolist() == [100, 100, 100]
    # Both words of the answer are among the reference's four (precision 1, recall 1/2). They have no pair in common.
    assert scores[2].tolist() == pytest.approx([66.67, 0, 66.67], abs=0.01)


DATA = Path(__file__).parents[3] / "data" / "dialogues"
SAMPLE_ROWS = list(csv.DictReader((DATA / "test.csv").open(encoding="utf-8")))
DIALOGUES, SUMMARIES = ([row[column] for row in SAMPLE_ROWS] for column in ("dialogue", "summary"))
OTHERS = SUMMARIES[1:] + SUMMARIES[:1]


@pytest.mark.parametrize(
    ("answers", "means", "mean_square"),
    [
        (DIALOGUES, [32.78722489398799, 10.30377510853807, 22.841976340532646], 611.5308607538318),
        (OTHERS, [16.610237653478528, 0.7535970637639474, 10.913445995970212], 146.64950158764466),
    ],
)
def test_rouge_of_english_texts_is_that_of_rouge_score(
    answers: list[str], means: list[float], mean_square: float
) -> None:
    # The names of Tromsoe and Sigrun are written with letters at which rouge_score ends a word.
    assert any(not character.isascii() for text in SUMMARIES for character in text)
    scores = rouge(SUMMARIES, answers)
    assert scores.mean(axis=0) == pytest.approx(means, rel=0, abs=1e-9)
    assert (scores**2).mean() == pytest.approx(mean_square, rel=0, abs=1e-9)
    own = RougeScorer(list(ROUGE), use_stemmer=True)
    for row, reference, text in zip(scores, SUMMARIES, answers, strict=True):
        found = own.score(reference, text)
        assert row == pytest.approx([100 * found[metric].fmeasure for metric in ROUGE], rel=0, abs=1e-9)


SCRIPTS = {
    "Latin": "Noor trifft Ívo um acht am Fluß, wie gewöhnlich.",
    "Cyrillic": "Нина встретит Иво в восемь у реки.",
    "Greek": "Η Νίνα θα συναντήσει τον Ίβο στις οκτώ.",
    "Arabic": "نور تلتقي سامر غدًا عند النهر",
    "Hebrew": "נור תפגוש את עידו בשמונה ליד הנהר",
    "Devanagari": "नूर और समीर कल नदी के पास मिलेंगे।",
    "Thai": "นุชจะพบอีโว่ตอนแปดโมงที่แม่น้ำ",
    "Chinese": "阿宁和小许八点在河边见面。",
    "Japanese": "ノアとイボは八時に川のコーヒー店で会う。",
    "Korean": "누르는 여덟 시에 강가에서 이보를 만난다.",
    "Amharic": "ኑር፡ኢቮን፡በስምንት፡ሰዓት፡ታገኛለች።",
    "Khmer": "នូរជួបអ៊ីវ៉ូនៅម៉ោងប្រាំបី",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_identical_texts_score_100_in_any_script_and_others_less(script: str) -> None:
    text = SCRIPTS[script]
    half = text[: len(text) // 2]
    for function in (rouge, chrf):
        assert function([text], [text]) == pytest.approx(100)
        (parts,) = function([text], [half])
        assert (parts > 10).all()
        assert (parts < 90).all()
        assert (function([text], ["?"]) == 0).all()
    assert len(words(text)) > len(words(half)) > 1


@pytest.mark.parametrize("text", ["½", "١٢٣", "１２３", "①②", "Ⅳ", "ø", "5"])
def test_any_text_with_a_word_in_it_scores_100_against_itself(text: str) -> None:
    # rouge_score finds a word only in the last of these. None of them may score 0, neither alone nor among English texts.
    assert rouge([text], [text])[0, [0, 2]].tolist() == [100, 100]
    among = [*SUMMARIES, text]
    assert rouge(among, among)[-1, [0, 2]].tolist() == [100, 100]
    assert rouge(among, [*SUMMARIES, "?"])[-1].tolist() == [0, 0, 0]


def test_composed_and_decomposed_texts_are_the_same() -> None:
    composed, decomposed = "한국어는 Việt", unicodedata.normalize("NFD", "한국어는 Việt")
    assert composed != decomposed
    for function in (rouge, chrf):
        assert function([composed], [decomposed])[0, 0] == pytest.approx(100)


def test_words_with_other_vowels_or_accents_are_different() -> None:
    # In rouge_score's own tokens, these words are the same: t and r, or nothing.
    for reference, other in (("tôi bán xe đạp rồi", "tời bẩn xẹ đáp rởi"), ("नदी", "नाद")):
        assert rouge([reference], [other])[0].tolist() == [0, 0, 0]
    # Composed and decomposed characters are the same.
    assert rouge(["Việt Nam"], ["Vie\u0302\u0323t Nam"])[0, 0] == 100


def test_chrf_is_that_of_the_paper() -> None:
    # For runs of one and of two characters, the precision is 1 and 1, and the recall 2/3 and 1/2.
    precision, recall = 1, (2 / 3 + 1 / 2) / 2
    assert chrf(["abc"], ["ab"])[0, 0] == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert chrf(["好"], ["好"])[0, 0] == 100
    assert chrf(["abc"], [""])[0, 0] == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann:  DON'T go -- at 8:30, \u00c9va!", "ann don t go at 8 30 \u00e9va"),
        ("阿宁：1点去GPT-4店。", "阿 宁 1 点 去 gpt 4 店"),
        ("コーヒーを", "コ ー ヒ ー を"),
        ("กิน น้ำ", "กิ น น้ ำ"),
        ("नूर और समीर।", "नूर और समीर"),
        ("ሰላም፡ዓለም", "ሰላም ዓለም"),
        ("l'e\u0301te\u0301", "l \u00e9t\u00e9"),
        ("1\ufe0f\u20e3 \N{THUMBS UP SIGN}\ufe0f _ \u0301", "1\ufe0f\u20e3"),
        ("", ""),
    ],
)
def test_words_have_no_upper_case_or_punctuation_and_are_characters_in_scripts_without_spaces(
    text: str, expected: str
) -> None:
    assert words(text) == expected.split()


def test_rows_of_many_scripts_are_scored_together() -> None:
    texts = list(SCRIPTS.values())
    assert rouge(texts, texts) == pytest.approx(100)
    # One row of another script among English rows is scored in the same way.
    assert rouge([*SUMMARIES, *texts[7:8]], [*SUMMARIES, *texts[7:8]]) == pytest.approx(100)
    found = compare(*(score(("rouge", "chrf"), texts, answers) for answers in (["?"] * len(texts), texts)), seed=1)
    for name in names(("rouge", "chrf")):
        assert found["difference"][name] == pytest.approx({"mean": 100, "low": 100, "high": 100})


def test_an_exact_answer_is_the_reference_but_for_white_space_at_its_ends() -> None:
    answers = ["  Refund \n", "refund", "Refund.", "Re fund", ""]
    assert exact(["Refund"] * 5, answers)[:, 0].tolist() == [100, 0, 0, 0, 0]


REFERENCE = '{"name": "Ann", "items": [{"id": 1, "new": true}, {"id": 2.5, "new": null}], "notes": []}'


@pytest.mark.parametrize(
    ("text", "valid", "fields"),
    [
        (REFERENCE, 100, 100),
        ('\n {"notes":[],"items":[{"new":true,"id":1.0},{"new":null,"id":2.5}],"name":"Ann"} ', 100, 100),
        (REFERENCE.replace('"Ann"', '"Ann", "more": {"a": 1}'), 100, 100),
        (REFERENCE.replace('"Ann"', '"ann"'), 100, 100 * 5 / 6),
        (REFERENCE.replace("true", "1"), 100, 100 * 5 / 6),  # Python's True equals 1
        (REFERENCE.replace('"id": 1,', '"id": true,'), 100, 100 * 5 / 6),
        (REFERENCE.replace("null", '"null"'), 100, 100 * 5 / 6),
        (REFERENCE.replace("[]", "{}"), 100, 100 * 5 / 6),
        (REFERENCE.replace("[]", "[1]"), 100, 100 * 5 / 6),
        ('{"items": [{"id": 2.5, "new": null}, {"id": 1, "new": true}]}', 100, 0),  # the order of a list counts
        ('{"items": {"0": {"id": 1}}, "notes": []}', 100, 100 / 6),  # an object is no list
        ('"Ann"', 100, 0),
        (f"```json\n{REFERENCE}\n```", 0, 0),
        (REFERENCE[:-1], 0, 0),
        (REFERENCE.replace("2.5", "NaN"), 0, 0),
        (REFERENCE.replace("2.5", "-Infinity"), 0, 0),
        ("[" * 100_000, 0, 0),
        ("9" * 5000, 0, 0),  # Python takes no longer whole number than 4,300 digits
        ("", 0, 0),
    ],
)
def test_json_is_valid_or_not_and_has_right_fields(text: str, valid: float, fields: float) -> None:
    assert json_scores([REFERENCE], [text])[0].tolist() == pytest.approx([valid, fields])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(one) for one in value] if isinstance(value, list) else value


@given(VALUES, VALUES, st.text())
def test_any_json_is_right_against_itself_in_any_order_of_keys(value: Any, other: Any, text: str) -> None:
    reference = json.dumps(value)
    same = json.dumps(reordered(value), ensure_ascii=False, indent=1)
    assert json_scores([reference], [same])[0].tolist() == [100, 100]
    valid, fields = json_scores([reference], [json.dumps(other)])[0]
    assert valid == 100
    assert 0 <= fields <= 100
    assert (json_scores([reference], [text])[0] <= 100).all()


def test_a_reference_that_is_not_json_is_refused_if_json_is_a_metric() -> None:
    references = ["{}", "[1]", "no JSON"]
    check_references(("rouge", "label"), references)
    check_references(("json",), references[:2])
    with pytest.raises(
        TrainingError, match=r"^row 3 of channel test has an answer that is not JSON, .* leave json out of"
    ):
        check_references(("exact", "json"), references)


def test_a_label_has_no_case_and_no_further_white_space() -> None:
    assert label(" Very\n GOOD ") == label("very good") != label("verygood")
    assert label("Größe") == label(unicodedata.normalize("NFD", "GRÖSSE"))
    assert label("good.") != label("good")


REFERENCES = ["yes", "yes", "yes", "no", "no", "Perhaps"]
ANSWERS = ["Yes", "yes", "no", "no", "so", "yes"]


def test_accuracy_and_macro_f1_are_those_of_the_references_labels() -> None:
    found = score(("label",), REFERENCES, ANSWERS)
    assert found.by_row["accuracy"].tolist() == [100, 100, 0, 100, 0, 0]
    interval = compare(found, found, seed=1)["tuned"]
    # yes: 2 hits of 3 references and 3 answers; no: 1 of 2 and 2; perhaps: 0 of 1 and 0. "so" is no label.
    assert interval["macro_f1"]["mean"] == pytest.approx(100 * (4 / 6 + 2 / 4 + 0) / 3)
    assert interval["accuracy"]["mean"] == pytest.approx(50)


def plain_macro_f1(pairs: list[tuple[str, str]]) -> float:
    """Macro F1 by its definition, from precision and recall."""
    found = []
    for one in {reference for reference, _ in pairs}:
        hits = sum(reference == answer == one for reference, answer in pairs)
        precision = hits / max(sum(answer == one for _, answer in pairs), 1)
        recall = hits / sum(reference == one for reference, _ in pairs)
        found.append(2 * precision * recall / (precision + recall) if hits else 0)
    return 100 * sum(found) / len(found)


@given(st.lists(st.tuples(st.sampled_from("abc"), *[st.sampled_from("abcx")] * 2), min_size=1, max_size=12))
def test_the_interval_of_macro_f1_is_that_of_rows_drawn_again(rows: list[tuple[str, str, str]]) -> None:
    references, base, tuned = (list(texts) for texts in zip(*rows, strict=True))
    found = compare(score(("label",), references, base), score(("label",), references, tuned), seed=7)
    pairs = {"base": list(zip(references, base, strict=True)), "tuned": list(zip(references, tuned, strict=True))}
    drawn = np.random.default_rng(7).integers(0, len(rows), size=(2000, len(rows)))
    resampled = [plain_macro_f1([pairs["tuned"][row] for row in line]) for line in drawn[:40]]
    for side, of in pairs.items():
        assert found[side]["macro_f1"]["mean"] == pytest.approx(plain_macro_f1(of))
    mean = plain_macro_f1(pairs["tuned"]) - plain_macro_f1(pairs["base"])
    assert found["difference"]["macro_f1"]["mean"] == pytest.approx(mean)
    one = score(("label",), references, tuned).labels
    assert one is not None
    weights = np.array([np.bincount(line, minlength=len(rows)) for line in drawn[:40]], dtype=float)
    assert _macro_f1(one, weights) == pytest.approx(np.array(resampled))


def made(values: Any) -> Scores:
    """Scores of one metric, whose rows have these values."""
    return Scores({"chrF": np.array(values, dtype=float)})


def test_the_interval_is_close_to_the_one_of_theory() -> None:
    values = np.random.default_rng(1).normal(50, 10, size=400)
    result = compare(made(values), made(values + 1), seed=42)
    mean, half = values.mean(), 1.96 * values.std() / np.sqrt(400)
    expected = {"mean": mean, "low": mean - half, "high": mean + half}
    assert result["base"]["chrF"] == pytest.approx(expected, abs=0.15)
    assert result["base"]["chrF"]["mean"] == pytest.approx(mean)
    assert compare(made(values), made(values + 1), seed=42) == result
    assert compare(made(values), made(values + 1), seed=43) != result


def test_the_interval_of_a_paired_difference_is_narrower_than_those_of_two_means() -> None:
    base = np.random.default_rng(2).normal(50, 20, size=40)
    found = compare(made(base), made(base + 1), seed=0)  # every row gains exactly 1
    assert found["difference"]["chrF"] == pytest.approx({"mean": 1, "low": 1, "high": 1})
    assert found["tuned"]["chrF"]["low"] < found["base"]["chrF"]["high"]


def test_few_rows_that_differ_are_counted_because_their_interval_may_be_above_0_by_chance() -> None:
    base, tuned = made([0] * 10), made([100] * 4 + [0] * 5 + [1e-12])
    assert compare(base, tuned, seed=1)["difference"]["chrF"]["low"] > 0
    assert differing(base, tuned) == {"chrF": 4}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 2**31))
def test_any_interval_is_within_the_scores(values: list[float], seed: int) -> None:
    found = compare(made(values), made(values), seed)
    interval = found["base"]["chrF"]
    assert min(values) - 1e-9 <= interval["low"] <= interval["high"] <= max(values) + 1e-9
    # Two equal models do not differ, not even by a rounding.
    assert found["difference"]["chrF"] == {"mean": 0, "low": 0, "high": 0}


@given(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, unique=True))
def test_only_the_chosen_metrics_have_scores(chosen: list[str]) -> None:
    texts = ['{"a": 1}', "[2]"]
    found = compare(score(chosen, texts, texts), score(chosen, texts, ["no", "[2]"]), seed=1)
    for side in ("base", "tuned", "difference"):
        assert set(found[side]) == set(names(chosen))
    assert (names(chosen) == names(chosen[::-1])) and set(names(chosen)) == {n for one in chosen for n in NAMES[one]}


def test_the_readers_know_all_scores() -> None:
    assert list(read_scores.NAMES) == [*(name for of in NAMES.values() for name in of), read_scores.WIN_RATE]
    assert DECIDING.keys() == NAMES.keys()
    assert all(DECIDING[metric] in NAMES[metric] for metric in NAMES)
