from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.conftest import make_chat
from training import model
from training.data import Encoder
from training.errors import InterruptedTrainingError
from training.evaluate import METRICS, SAMPLES, answer, bootstrap, judge, rouge
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


def test_the_judgement_holds_scores_and_samples() -> None:
    chats = [make_chat(number) for number in range(25)]
    references = [chat[-1]["content"] for chat in chats]
    found = judge(chats, ["nothing"] * 25, references, seed=1)
    assert found["rows"] == 25
    assert found["base"]["rougeL"] == {"mean": 0, "low": 0, "high": 0}
    assert found["tuned"]["rougeL"] == found["difference"]["rougeL"] == {"mean": 100, "low": 100, "high": 100}
    assert len(found["samples"]) == SAMPLES
    assert found["samples"][3] == {
        "dialogue": chats[3][1]["content"],
        "reference": references[3],
        "base": "nothing",
        "tuned": references[3],
    }


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
    assert len(set(answers[0])) > 1
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(InterruptedTrainingError, match="while evaluating the base model"):
        answer(base, tokenizer, prompts, end_ids=ends, max_new_tokens=8, batch_size=2, stop=stop, name="base")
