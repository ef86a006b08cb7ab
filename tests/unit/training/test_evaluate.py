from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.conftest import make_chat
from training import model
from training.data import Encoder
from training.errors import InterruptedTrainingError
from training.evaluate import METRICS, SAMPLES, Answer, answer, bootstrap, is_copied, judge, lengths, rouge, words
from training.stop import StopSignal

if TYPE_CHECKING:
    from tests.unit.training.conftest import TinyModel
    from training.device import Device


def test_rouge_is_from_0_to_100_and_stemmed() -> None:
    scores = rouge(["the cat sat", "the cats sat", "one two three four"], ["the cat sat", "the cat sat", "one three"])
    assert scores[0].tolist() == [100, 100, 100]
    assert scores[1].tolist() == [100, 100, 100]
    # Two of two words found of four: precision 1, recall 1/2; no pair in common.
    assert scores[2].tolist() == pytest.approx([66.67, 0, 66.67], abs=0.01)


def test_the_interval_is_the_one_that_theory_gives() -> None:
    scores = np.random.default_rng(1).normal(50, 10, size=(400, 3))
    result = bootstrap(scores, seed=42)
    half = 1.96 * scores.std(axis=0) / np.sqrt(400)
    for column, metric in enumerate(METRICS):
        mean = scores[:, column].mean()
        assert result[metric]["mean"] == pytest.approx(mean)
        assert result[metric]["low"] == pytest.approx(mean - half[column], abs=0.15)
        assert result[metric]["high"] == pytest.approx(mean + half[column], abs=0.15)
    assert bootstrap(scores, seed=42) == result
    assert bootstrap(scores, seed=43) != result


def test_a_paired_difference_is_surer_than_two_means() -> None:
    base = np.random.default_rng(2).normal(50, 20, size=(40, 3))
    tuned = base + 1  # every row gains exactly 1
    assert bootstrap(tuned - base, 0)["rougeL"] == pytest.approx({"mean": 1, "low": 1, "high": 1})
    assert bootstrap(tuned, 0)["rougeL"]["low"] < bootstrap(base, 0)["rougeL"]["high"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 2**31))
def test_any_interval_holds_within_the_scores(values: list[float], seed: int) -> None:
    interval = bootstrap(np.repeat(np.array([values]).T, 3, axis=1), seed)["rouge1"]
    assert min(values) - 1e-9 <= interval["low"] <= interval["high"] <= max(values) + 1e-9


def said(*texts: str) -> list[Answer]:
    return [Answer(text, finished=True) for text in texts]


def test_the_judgement_holds_scores_and_samples() -> None:
    chats = [make_chat(number) for number in range(25)]
    references = [chat[-1]["content"] for chat in chats]
    found = judge(chats, said(*["nothing"] * 25), said(*references), seed=1)
    assert found["rows"] == 25
    assert found["base"]["rougeL"] == {"mean": 0, "low": 0, "high": 0}
    assert found["tuned"]["rougeL"] == found["difference"]["rougeL"] == {"mean": 100, "low": 100, "high": 100}
    assert set(found["difference"]) == set(METRICS)
    assert len(found["samples"]) == SAMPLES
    assert found["samples"][3] == {
        "dialogue": chats[3][1]["content"],
        "reference": references[3],
        "base": "nothing",
        "tuned": references[3],
    }


def test_the_judgement_counts_lengths_and_bad_habits() -> None:
    chats = [make_chat(number) for number in range(4)]
    dialogue = chats[1][1]["content"]
    base = [
        Answer("", finished=True),
        Answer(dialogue, finished=False),
        *said("One two.", "One two three four five six!"),
    ]
    found = judge(chats, base, said(*["Bob wants tea."] * 4), seed=1)
    assert found["base"]["shares"] == {"empty": 0.25, "truncated": 0.25, "copied": 0.25}
    assert found["tuned"]["shares"] == {"empty": 0, "truncated": 0, "copied": 0}
    assert found["tuned"]["words"] == {"mean": 3, "median": 3, "p90": 3}
    copied = len(dialogue.split())
    assert found["base"]["words"]["mean"] == pytest.approx((0 + copied + 2 + 6) / 4, abs=0.06)
    assert found["base"]["words"]["median"] == 4
    assert found["reference"]["words"] == lengths([chat[-1]["content"] for chat in chats])
    assert found["reference"]["shares"] == {"copied": 0}


def test_lengths_are_mean_median_and_ninetieth_percentile_of_the_words() -> None:
    texts = [" ".join(["word"] * count) for count in (1, 2, 3, 4, 100)]
    assert lengths(texts) == {"mean": 22, "median": 3, "p90": pytest.approx(61.6)}


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("Ann:  DON'T go -- at 8:30, \u00c9va!") == ["ann", "dont", "go", "at", "830", "\u00e9va"]


DIALOGUE = "Ann: Shall we meet at the station at eight?\nBob: Yes, I will bring the keys and a cake."


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("Shall we meet at the station at eight", True),
        ("shall we meet, at the STATION at eight!", True),
        # Across two turns: its words stand in the dialogue one after another, too.
        ("at eight? Bob: yes I will", True),
        ("Ann and Bob meet at the station at eight.", False),
        # Ten runs of four, of which eight stand there (80%), and eleven with nine (82%).
        ("no reply shall we meet at the station at eight bob yes i", False),
        ("no shall we meet at the station at eight bob yes i will", True),
        ("the keys", True),
        ("keys the", False),
        ("station", True),
        ("train", False),
        ("", False),
        ("...", False),
    ],
)
def test_an_answer_is_copied_if_most_of_its_runs_of_four_words_stand_in_the_dialogue(text: str, copied: bool) -> None:
    assert is_copied(text, DIALOGUE) is copied


@given(st.text(max_size=40), st.text(max_size=80))
def test_a_dialogue_is_a_copy_of_itself_whatever_it_holds(text: str, dialogue: str) -> None:
    assert is_copied(dialogue, dialogue) is bool(words(dialogue))
    assert is_copied(text, dialogue) in (True, False)


def test_answers_do_not_depend_on_the_batch_and_keep_their_order(tiny: TinyModel, device: Device) -> None:
    tokenizer = model.load_tokenizer(tiny.folder, "tiny")
    ends = model.end_ids(tiny.folder, tokenizer)
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


def test_an_answer_is_finished_if_it_came_to_an_end_by_itself(tiny: TinyModel, device: Device) -> None:
    tokenizer = model.load_tokenizer(tiny.folder, "tiny")
    ends = model.end_ids(tiny.folder, tokenizer)
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
    # Whatever a prompt is answered with first ends that answer, and no other without that token.
    with torch.inference_mode():
        first = int(base(torch.tensor([prompts[1]])).logits[0, -1].argmax())
    ended = ask([*never, first], 6)
    assert ended[1] == Answer(tokenizer.decode([first]).strip(), finished=True)
    assert not ended[2].finished
    assert ended[2] == cut[2]
