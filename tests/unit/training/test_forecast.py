"""The forecast of the phases after the training counts the batches of the evaluation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from pipeline.job_log import JobLog
from tests.unit.training.test_answering import make, make_prompts
from training import forecast
from training.forecast import AnswerPace, Forecast


def test_each_batch_takes_its_prompts_and_its_longest_answer() -> None:
    # Batches by length: [30, 20], [10].
    seconds = forecast.answer_seconds(AnswerPace(0.1, 2.0), [10, 30, 20], [9, 4, 5], 2)
    assert seconds == pytest.approx([0.1 * (30 + 20) + 2.0 * 5, 0.1 * 10 + 2.0 * 9])


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 300)), min_size=1, max_size=50),
    st.integers(1, 16),
    st.integers(1, 128),
)
def test_the_base_model_is_expected_to_take_at_least_as_long_as_the_tuned_one(
    rows: list[tuple[int, int]], batch_size: int, most: int
) -> None:
    prompts, references = [row[0] for row in rows], [row[1] for row in rows]
    made = Forecast(AnswerPace(0.001, 0.01), prompts, references, batch_size, most, 2.0)
    log = JobLog()
    log.add([{"timestamp": 0, "message": made.line(known=False, eval_steps=5)}])
    assert set(log.forecast) == {"load_base", "evaluate_base", "export", "evaluate_tuned"}
    assert log.forecast["evaluate_base"] >= log.forecast["evaluate_tuned"] >= 0
    assert log.eval_steps == 5
    assert " evaluate_base_seconds=0.0 " in made.line(known=True, eval_steps=None)
    assert "eval_steps" not in made.line(known=True, eval_steps=None)
    for name in ("base", "tuned"):
        shares = made.shares(name)
        assert len(shares) == -(-len(rows) // batch_size)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "published",
    [
        {"num_beams": 2},
        {"cache_implementation": "static"},
        {"stop_strings": ["a"]},
        {"return_dict_in_generate": True},
        {"use_cache": False},
    ],
)
def test_a_model_is_measured_whatever_settings_are_published_with_it(published: dict[str, Any]) -> None:
    model = make("llama")
    model.generation_config = settings = GenerationConfig(**published)  # type: ignore[no-untyped-call]
    pace = forecast.measure(model, make_prompts(), 4, 1, [0])
    assert pace.read > 0 <= pace.write
    assert model.generation_config is settings


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_that_is_larger_than_the_rows_is_measured(rows: int) -> None:
    assert forecast.measure(make("llama"), [[7]] * rows, 32, 1, [0]).read > 0
