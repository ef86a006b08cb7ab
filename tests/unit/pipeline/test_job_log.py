"""The progress of a running job comes from the last lines of its log."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job_log import last_line

STEP = "step={0}/300 epoch=0.50 loss={1:.4f} grad_norm=0.5000 learning_rate=1.0e-04 tokens_per_second=99.0 peak_memory_gib=9"


def events(*lines: tuple[float, str]) -> list[dict[str, object]]:
    """Return log events. The times are in seconds before now."""
    return [{"timestamp": int((time.time() - ago) * 1000), "message": line} for ago, line in lines]


def test_the_progress_has_step_loss_and_the_time_left_at_the_pace_so_far() -> None:
    seen = events(
        (400, STEP.format(10, 2.5)), (200, STEP.format(60, 1.7)), (100, "eval_loss=1.9"), (0, STEP.format(110, 1.25))
    )
    assert last_line(seen, time.time()) == "step 110 of 300, loss 1.250, about 12 min of training left"


def test_the_time_since_the_last_line_counts() -> None:
    assert last_line(events((700, STEP.format(100, 2)), (300, STEP.format(200, 1))), time.time()).endswith(
        "about 1 min 40 s of training left"
    )


def test_one_step_gives_no_time_left() -> None:
    assert last_line(events((3, STEP.format(1, 2.345678))), time.time()) == "step 1 of 300, loss 2.346"


def test_the_progress_of_scoring_has_the_answered_rows_of_the_current_model() -> None:
    lines = [(90, STEP.format(300, 1)), (80, "evaluated=32/200 model=base"), (60, "evaluated=200/200 model=base")]
    assert last_line(events(*lines), time.time()) == "base model has answered 200 of 200 rows"
    lines += [(40, "evaluated=50/200 model=tuned"), (20, "evaluated=100/200 model=tuned")]
    assert (
        last_line(events(*lines), time.time()) == "tuned model has answered 100 of 200 rows, about 20 s of these left"
    )


@pytest.mark.parametrize("lines", [[], ["Installing"], ["step=one/two loss=x", "evaluated=3 model=base"]])
def test_other_lines_give_no_progress(lines: list[str]) -> None:
    assert last_line(events(*((1.0, line) for line in lines)), time.time()) == ""


@given(st.lists(st.text()))
def test_no_other_text_of_the_log_is_in_the_progress(texts: list[str]) -> None:
    secret = "Amanda: I baked cookies"
    lines = [(1.0, f"{text} {secret}") for text in texts] + [(0.5, f"{STEP.format(5, 1)} {secret}")]
    assert last_line(events(*lines), time.time()) == "step 5 of 300, loss 1.000"
