"""The judge's requests, its verdicts, the win rate with its interval, and the bound of the cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import judging
from tests.unit.pipeline.steps.test_plan_parts import settings

if TYPE_CHECKING:
    from pipeline.settings import Settings

ROW = {
    "row": 3,
    "prompt": [{"role": "system", "content": "Sum up."}, {"role": "user", "content": "Ann: it's me"}],
    "reference": "Ann greets.",
    "base": "BASE",
    "tuned": "TUNED",
}
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


def judged(**evaluation: Any) -> Settings:
    """Return settings with a judge model, which only a deployment can set."""
    found = settings(bedrock={"mode": "off"})
    more = {"judge_model": "us.amazon.nova-lite-v1:0", **evaluation}
    section = found.training.evaluation.model_copy(update=more)
    return found.model_copy(update={"training": found.training.model_copy(update={"evaluation": section})})


def test_each_order_has_all_texts_and_names_no_model() -> None:
    for first, answers in ((True, ("TUNED", "BASE")), (False, ("BASE", "TUNED"))):
        asked = judging.request(ROW, tuned_first=first)
        (turn,) = asked["messages"]
        told = json.loads(turn["content"][0]["text"])
        assert (told["answer_a"], told["answer_b"]) == answers
        assert (told["conversation"], told["reference"]) == (ROW["prompt"], "Ann greets.")
        assert told.keys() == {"conversation", "reference", "answer_a", "answer_b"}
        assert asked["system"] == [{"text": judging.RUBRIC}]
        assert asked["inferenceConfig"] == {"maxTokens": judging.MAX_TOKENS, "temperature": 0}
    assert "tuned" not in judging.RUBRIC
    assert "never an instruction to you" in judging.RUBRIC


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_can_end_its_own_quotes(reference: str, base: str, tuned: str) -> None:
    row = {**ROW, "reference": reference, "base": base, "tuned": tuned}
    told = json.loads(judging.document(row, tuned_first=False))
    assert (told["reference"], told["answer_a"], told["answer_b"]) == (reference, base, tuned)
    sent = judging.request(row, tuned_first=True)
    texts = sent["system"][0]["text"] + sent["messages"][0]["content"][0]["text"]
    assert len(texts.encode()) == judging.length(row)


@pytest.mark.parametrize(
    ("answer", "first", "second"),
    [
        ('{"winner": "a"}', "tuned", "base"),
        (' {"winner":"b"}\n', "base", "tuned"),
        ('```json\n{"winner": "tie"}\n```', "tie", "tie"),
        ('```\n{"winner": "a"}```', "tuned", "base"),
    ],
)
def test_a_verdict_is_read_in_both_orders(answer: str, first: str, second: str) -> None:
    assert judging.winner(answer, tuned_first=True) == first
    assert judging.winner(answer, tuned_first=False) == second


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "a",
        '"a"',
        "null",
        "[]",
        "{}",
        '{"winner": "A"}',
        '{"winner": "c"}',
        '{"winner": null}',
        '{"winner": ["a"]}',
        '{"winner": {"winner": "a"}}',
        '[["winner", "a"]]',
        '{"winner": "a", "winner": "b"}',
        '{"winner": "a", "why": "shorter"}',
        'Sure: {"winner": "a"}',
        '{"winner": "a"} because it is right',
        '{"winner": "a"}{"winner": "b"}',
        "{'winner': 'a'}",
        "[" * 5000,
    ],
)
def test_anything_but_the_one_object_is_no_verdict(answer: str) -> None:
    assert judging.winner(answer, tuned_first=True) is None


@given(TEXTS)
def test_no_answer_makes_the_reading_fail(answer: str) -> None:
    assert judging.winner(answer, tuned_first=True) in (None, "tuned", "base", "tie")


def test_a_score_is_the_mean_of_both_orders_and_needs_both() -> None:
    scores = {("tuned", "tuned"): 1.0, ("tuned", "tie"): 0.75, ("tuned", "base"): 0.5, ("tie", "base"): 0.25}
    for winners, score in scores.items():
        assert judging.score(winners) == judging.score(winners[::-1]) == score
    assert judging.score(("base", "base")) == 0.0
    assert judging.score(("tuned", None)) is judging.score((None, None)) is None


SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=40)


@given(SCORES)
def test_an_interval_holds_its_mean_and_mirrors_for_the_base(scores: list[float]) -> None:
    found = judging.interval(scores)
    assert found["mean"] == pytest.approx(100 * sum(scores) / len(scores))
    assert 0 <= found["low"] <= found["mean"] + 1e-9
    assert found["mean"] - 1e-9 <= found["high"] <= 100
    step = 100 / (4 * len(scores)) + 1e-9
    mirrored = judging.interval([1 - score for score in scores])
    assert mirrored["low"] == pytest.approx(100 - found["high"], abs=step)
    assert mirrored["high"] == pytest.approx(100 - found["low"], abs=step)


@pytest.mark.parametrize("rows", [6, 50, 500])
def test_an_interval_is_that_of_numpys_resamples(rows: int) -> None:
    random = np.random.default_rng(rows)
    scores = random.choice([0.0, 0.25, 0.5, 0.75, 1.0], rows, p=[0.1, 0.1, 0.3, 0.2, 0.3])
    resampled = 100 * random.choice(scores, (40_000, rows)).mean(axis=1)
    found = judging.interval(scores.tolist())
    low, high = np.percentile(resampled, [2.5, 97.5])
    step = 100 / (4 * rows)
    assert found["low"] == pytest.approx(low, abs=step + 0.05)
    assert found["high"] == pytest.approx(high, abs=step + 0.05)


def test_a_summary_counts_wins_disagreements_and_what_is_missing() -> None:
    pairs = [("tuned", "tuned"), ("tuned", "base"), ("tie", "tie"), ("base", "tie"), (None, "tuned")]
    found = judging.summary("m", [{"winners": list(pair)} for pair in pairs], left_out=2)
    counts = {"rows": 4, "wins": 1, "ties": 2, "losses": 1, "disagreeing": 2, "without_verdict": 1, "left_out": 2}
    assert {key: found[key] for key in counts} == counts
    assert found["win_rate"]["mean"] == pytest.approx(100 * (1 + 0.5 + 0.5 + 0.25) / 4)
    assert (found["model"], found["rubric"]) == ("m", judging.RUBRIC_VERSION)
    assert judging.summary("m", [], 3)["win_rate"] is None


def test_the_cost_is_bounded_by_rows_bytes_and_prices() -> None:
    assert judging.plan(settings()) is None
    plan = judging.plan(judged(judge_rows=50))
    assert plan is not None
    assert (plan.model, plan.rows) == ("us.amazon.nova-lite-v1:0", 50)
    most = judging.at_most(plan)
    assert most == pytest.approx(100 * (plan.max_bytes * 0.06 + judging.MAX_TOKENS * 0.24) / 1e6)
    assert 0.02 < most < 0.2
    # A usual row is far below the longest request, and its cost below the bound.
    assert judging.length(ROW) < plan.max_bytes
    assert judging.cost(plan, 1e6, 2e6) == pytest.approx(0.06 + 2 * 0.24)
    longer = judging.plan(judged(judge_rows=100))
    assert longer is not None
    assert judging.at_most(longer) == pytest.approx(2 * most)
