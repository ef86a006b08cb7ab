"""Generated answers and their scores: ROUGE, chrF, the intervals, the lengths and the shares of faulty answers."""

# ruff: noqa: RUF001  # letters of other scripts look like Latin ones
from __future__ import annotations

import csv
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from transformers import GenerationConfig

from tests.unit.training.conftest import make_chat
from training import model
from training.encoder import Encoder, end_ids, load_tokenizer
from training.errors import InterruptedTrainingError
from training.evaluate import (
    METRICS,
    ROUGE,
    SAMPLES,
    Answer,
    answer,
    bootstrap,
    chrf,
    judge,
    lengths,
    rouge,
    words,
)
from training.stop import StopSignal

if TYPE_CHECKING:
    from tests.unit.training.conftest import TinyModel
    from training.device import Device
    from training.messages import Messages


def test_rouge_is_stemmed_and_from_0_to_100() -> None:
    scores = rouge(["the cat sat", "the cats sat", "one two three four"], ["the cat sat", "the cat sat", "one three"])
    assert scores[0].tolist() == [100, 100, 100]
    assert scores[1].tolist() == [100, 100, 100]
    # Both words of the answer are among the reference's four (precision 1, recall 1/2). They have no pair in common.
    assert scores[2].tolist() == pytest.approx([66.67, 0, 66.67], abs=0.01)


DATA = Path(__file__).parents[3] / "data"
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
    for score in (rouge, chrf):
        assert score([text], [text]) == pytest.approx(100)
        (parts,) = score([text], [half])
        assert (parts > 10).all()
        assert (parts < 90).all()
        assert (score([text], ["?"]) == 0).all()
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
    for score in (rouge, chrf):
        assert score([composed], [decomposed])[0, 0] == pytest.approx(100)


def test_rows_of_many_scripts_are_judged_together() -> None:
    texts = list(SCRIPTS.values())
    assert rouge(texts, texts) == pytest.approx(100)
    # One row of another script among English rows is scored in the same way.
    assert rouge([*SUMMARIES, *texts[7:8]], [*SUMMARIES, *texts[7:8]]) == pytest.approx(100)
    chats: list[Messages] = [
        [{"role": "user", "content": "Ann: hi"}, {"role": "assistant", "content": text, "learned": True}]
        for text in texts
    ]
    found = judge(chats, finished(*["?"] * len(texts)), finished(*texts), seed=1)
    for metric in METRICS:
        assert found["difference"][metric] == pytest.approx({"mean": 100, "low": 100, "high": 100})


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


def test_the_interval_is_close_to_the_one_of_theory() -> None:
    scores = np.random.default_rng(1).normal(50, 10, size=(400, 4))
    result = bootstrap(scores, seed=42)
    half = 1.96 * scores.std(axis=0) / np.sqrt(400)
    for column, metric in enumerate(METRICS):
        mean = scores[:, column].mean()
        assert result[metric]["mean"] == pytest.approx(mean)
        assert result[metric]["low"] == pytest.approx(mean - half[column], abs=0.15)
        assert result[metric]["high"] == pytest.approx(mean + half[column], abs=0.15)
    assert bootstrap(scores, seed=42) == result
    assert bootstrap(scores, seed=43) != result


def test_the_interval_of_a_paired_difference_is_narrower_than_those_of_two_means() -> None:
    base = np.random.default_rng(2).normal(50, 20, size=(40, 4))
    tuned = base + 1  # every row gains exactly 1
    assert bootstrap(tuned - base, 0)["rougeL"] == pytest.approx({"mean": 1, "low": 1, "high": 1})
    assert bootstrap(tuned, 0)["rougeL"]["low"] < bootstrap(base, 0)["rougeL"]["high"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 2**31))
def test_any_interval_is_within_the_scores(values: list[float], seed: int) -> None:
    interval = bootstrap(np.repeat(np.array([values]).T, len(METRICS), axis=1), seed)["rouge1"]
    assert min(values) - 1e-9 <= interval["low"] <= interval["high"] <= max(values) + 1e-9


def finished(*texts: str) -> list[Answer]:
    return [Answer(text, finished=True) for text in texts]


def test_the_evaluation_has_scores_and_samples() -> None:
    chats = [make_chat(number) for number in range(25)]
    references = [chat[-1]["content"] for chat in chats]
    found = judge(chats, finished(*["nothing"] * 25), finished(*references), seed=1)
    assert found["rows"] == 25
    assert found["base"]["rougeL"] == {"mean": 0, "low": 0, "high": 0}
    assert found["tuned"]["rougeL"] == found["difference"]["rougeL"] == {"mean": 100, "low": 100, "high": 100}
    assert set(found["difference"]) == set(METRICS)
    assert len(found["samples"]) == SAMPLES
    scores = {**dict.fromkeys(ROUGE, 0), "chrF": round(float(chrf([references[3]], ["nothing"])[0, 0]), 1)}
    assert found["samples"][3] == {
        "prompt": [{"role": "system", "content": "Summarize."}, {"role": "user", "content": chats[3][1]["content"]}],
        "reference": references[3],
        "base": "nothing",
        "tuned": references[3],
        "scores": {"base": scores, "tuned": dict.fromkeys(METRICS, 100)},
        "faults": [],
    }


def test_the_evaluation_has_lengths_and_shares_of_faulty_answers() -> None:
    chats = [make_chat(number) for number in range(4)]
    dialogue = chats[1][1]["content"]
    base = [
        Answer("", finished=True),
        Answer(dialogue, finished=False),
        *finished("One two.", "One two three four five six!"),
    ]
    found = judge(chats, base, finished(*["Bob wants tea."] * 4), seed=1)
    assert found["base"]["shares"] == {"empty": 0.25, "truncated": 0.25, "copied": 0.25, "repeating": 0}
    assert found["tuned"]["shares"] == {"empty": 0, "truncated": 0, "copied": 0, "repeating": 0}
    assert found["tuned"]["words"] == {"mean": 3, "median": 3, "p90": 3}
    copied = len(words(dialogue))
    assert found["base"]["words"]["mean"] == pytest.approx((0 + copied + 2 + 6) / 4, abs=0.06)
    assert found["base"]["words"]["median"] == 4
    assert found["reference"]["words"] == lengths([chat[-1]["content"] for chat in chats])
    assert found["reference"]["shares"] == {"copied": 0}


def test_answers_that_loop_or_are_cut_are_among_the_samples() -> None:
    chats = [make_chat(number) for number in range(300)]
    tuned = finished(*[f"Answer {row}." for row in range(300)])
    tuned[250] = Answer("no " * 12, finished=True)
    tuned[260:290] = [Answer(f"Cut {row}", finished=False) for row in range(260, 290)]
    found = judge(chats, finished(*[""] * 300), tuned, seed=1)
    texts = [sample["tuned"] for sample in found["samples"]]
    assert texts == [*(f"Answer {row}." for row in range(20)), "no " * 12, *(f"Cut {row}" for row in range(260, 265))]
    assert found["samples"][20]["reference"] == chats[250][-1]["content"]
    faults = [sample["faults"] for sample in found["samples"]]
    assert faults == [[]] * 20 + [["repeating"]] + [["truncated"]] * 5
    # The share is not rounded, because one answer in thousands must be more than 0.
    assert found["tuned"]["shares"]["repeating"] == pytest.approx(1 / 300)


def test_lengths_are_mean_median_and_ninetieth_percentile_of_the_words() -> None:
    texts = [" ".join(["word"] * count) for count in (1, 2, 3, 4, 100)]
    assert lengths(texts) == {"mean": 22, "median": 3, "p90": pytest.approx(61.6)}


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


def test_answers_do_not_depend_on_the_batch_and_keep_their_order(tiny: TinyModel, device: Device) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in (2, 0, 7, 1, 8)]
    assert len({len(prompt) for prompt in prompts}) > 2
    base = model.load_base(tiny.folder, device)
    answers = [
        answer(
            base,
            tokenizer,
            prompts,
            end_ids=ends,
            max_new_tokens=8,
            batch_size=size,
            stop=StopSignal(),
            name="base",
        )
        for size in (1, 2, 5)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len({each.text for each in answers[0]}) > 1
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(InterruptedTrainingError, match="while evaluating the base model"):
        answer(base, tokenizer, prompts, end_ids=ends, max_new_tokens=8, batch_size=2, stop=stop, name="base")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"stop_strings": ["e"], "no_repeat_ngram_size": 2, "min_new_tokens": 9},
        {"return_dict_in_generate": True, "output_scores": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_the_published_sampling_settings_do_not_change_the_answers(
    tiny: TinyModel, device: Device, settings: dict[str, Any]
) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in range(3)]
    base = model.load_base(tiny.folder, device)

    def ask(published: GenerationConfig) -> list[Answer]:
        base.generation_config = published
        options: Any = {"end_ids": ends, "max_new_tokens": 8, "batch_size": 3, "stop": StopSignal(), "name": "base"}
        answers = answer(base, tokenizer, prompts, **options)
        assert base.generation_config is published
        return answers

    plain = ask(GenerationConfig())
    assert ask(GenerationConfig(**settings)) == plain
    assert ask(GenerationConfig(repetition_penalty=9.0)) != plain  # vLLM uses this setting, so evaluation must, too


def test_an_answer_is_finished_if_the_model_ends_it(tiny: TinyModel, device: Device) -> None:
    tokenizer = load_tokenizer(tiny.folder, "tiny")
    ends = end_ids(tiny.folder, tokenizer)
    prompts = [Encoder(tokenizer, ends).prompt(make_chat(number)) for number in range(3)]
    base = model.load_base(tiny.folder, device)

    def ask(ends: list[int], longest: int) -> list[Answer]:
        return answer(
            base,
            tokenizer,
            prompts,
            end_ids=ends,
            max_new_tokens=longest,
            batch_size=3,
            stop=StopSignal(),
            name="base",
        )

    never = [len(tokenizer) + 1]
    cut = ask(never, 6)
    assert [each.finished for each in cut] == [False] * 3
    # The first token of one answer becomes an end token. It ends that answer, and no answer that does not have it.
    with torch.inference_mode():
        first = int(base(torch.tensor([prompts[1]])).logits[0, -1].argmax())
    ended = ask([*never, first], 6)
    assert ended[1] == Answer(tokenizer.decode([first]).strip(), finished=True)
    assert not ended[2].finished
    assert ended[2] == cut[2]
