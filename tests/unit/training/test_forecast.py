"""The forecast of the phases after the training counts the batches of the evaluation, and measures without a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job_log import JobLog
from training import forecast
from training.forecast import AnswerPace


def test_each_batch_takes_its_padded_prompts_and_its_longest_answer() -> None:
    # Batches by length: [30, 20], [10].
    assert forecast.answering(AnswerPace(0.1, 2.0), [10, 30, 20], [9, 4, 5], 2) == pytest.approx(
        0.1 * (2 * 30 + 10) + 2.0 * (5 + 9)
    )


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 300)), min_size=1, max_size=50),
    st.integers(1, 16),
    st.integers(1, 128),
)
def test_the_base_model_is_expected_to_take_at_least_as_long_as_the_tuned_one(
    rows: list[tuple[int, int]], batch_size: int, most: int
) -> None:
    prompts, references = [row[0] for row in rows], [row[1] for row in rows]
    line = forecast.line(
        AnswerPace(0.001, 0.01), prompts, references, batch_size, most, load=2.0, known=False, eval_steps=5
    )
    log = JobLog()
    log.add([{"timestamp": 0, "message": line}])
    expected = log.forecast
    assert set(expected) == {"load_base", "evaluate_base", "export", "evaluate_tuned"}
    assert expected["evaluate_base"] >= expected["evaluate_tuned"] >= 0
    assert log.eval_steps == 5
    known = forecast.line(
        AnswerPace(0.001, 0.01), prompts, references, batch_size, most, load=2.0, known=True, eval_steps=None
    )
    assert " evaluate_base_seconds=0.0 " in known
    assert "eval_steps" not in known
