"""The progress of a running job comes from the last lines of its log."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job_log import JobLog, last_line

STEP = "step={0}/300 epoch=0.50 loss={1:.4f} grad_norm=0.5000 learning_rate=1.0e-04 tokens_per_second=99.0 peak_memory_gib=9"


def events(*lines: tuple[float, str]) -> list[dict[str, object]]:
    """Return log events. The times are in seconds before now."""
    return [{"timestamp": int((time.time() - ago) * 1000), "message": line} for ago, line in lines]


def test_the_progress_has_step_loss_and_the_time_left_at_the_pace_so_far() -> None:
    seen = events(
        (400, STEP.format(10, 2.5)), (200, STEP.format(60, 1.7)), (100, "eval_loss=1.9"), (0, STEP.format(110, 1.25))
    )
    assert last_line(seen, time.time()) == "step 110 of 300, loss 1.250, about 13 min of training left"


def test_the_time_since_the_last_line_counts() -> None:
    assert last_line(events((700, STEP.format(100, 2)), (300, STEP.format(200, 1))), time.time()).endswith(
        "about 100 s of training left"
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


FORECAST = "forecast load_base_seconds={0} evaluate_base_seconds={1} export_seconds={2} evaluate_tuned_seconds={3}"


def job(
    pace: list[float], phases: list[float], rows: int = 8, forecast: list[float] | None = None
) -> list[dict[str, object]]:
    """Return the log of a job: the seconds of its steps, and those of the four phases after them."""
    at = 1000.0
    lines = [(at, "phase=load"), (at, "phase=load_quantized"), (at, FORECAST.format(*(forecast or phases)))]
    lines += [(at, "phase=train"), (at, "eval_loss=3.0 seconds=0.0")]
    for number, seconds in enumerate(pace, 1):
        at += seconds
        lines.append((at, STEP.format(number, 1.0).replace("/300", f"/{len(pace)}")))
    for phase, seconds in zip(("load_base", "evaluate_base", "export", "evaluate_tuned"), phases, strict=True):
        lines.append((at, f"phase={phase}"))
        if phase.startswith("evaluate"):
            model = phase.removeprefix("evaluate_")
            lines += [
                (at + seconds * done / rows, f"evaluated={done}/{rows} model={model}") for done in range(1, rows + 1)
            ]
        at += seconds
    lines.append((at, "load_seconds=1.0 train_seconds=2.0"))
    return [{"timestamp": int(time * 1000), "message": line} for time, line in lines]


@given(
    st.floats(0.5, 20),
    st.lists(st.floats(0.85, 1.15), min_size=6, max_size=60),
    st.lists(st.floats(1, 300), min_size=4, max_size=4),
    st.lists(st.floats(0.9, 1.1), min_size=4, max_size=4),
)
def test_from_a_third_of_the_training_on_the_time_left_is_within_a_third_of_the_truth(
    pace: float, noise: list[float], phases: list[float], wrong: list[float]
) -> None:
    lines = job([pace * one for one in noise], phases, forecast=[a * b for a, b in zip(phases, wrong, strict=True)])
    end = lines[-1]["timestamp"] / 1000  # type: ignore[operator]
    log = JobLog()
    for line in lines:
        now = line["timestamp"] / 1000  # type: ignore[operator]
        log.add([line])
        if log.steps and log.step >= max(log.steps / 3, 3):
            left = log.seconds_left(now)
            assert left is not None
            assert abs(left - (end - now)) <= 0.3 * (end - now) + 1, (now, line)
    assert log.seconds_left(end) == 0


@given(st.lists(st.floats(0.5, 20), min_size=3, max_size=30), st.lists(st.floats(1, 60), min_size=4, max_size=4))
def test_without_a_new_line_the_time_left_never_grows_and_is_never_below_zero(
    steps: list[float], phases: list[float]
) -> None:
    lines = job(steps, phases)
    for cut in range(8, len(lines)):
        log = JobLog()
        log.add(lines[:cut])
        now = lines[cut - 1]["timestamp"] / 1000  # type: ignore[operator]
        left = [log.seconds_left(now + later) for later in (0, 5, 50, 5000)]
        assert None not in left
        assert left == sorted(left, reverse=True)  # type: ignore[type-var]
        assert min(left) >= 0  # type: ignore[type-var]


def test_before_two_steps_and_without_a_forecast_the_time_left_is_not_known() -> None:
    lines = job([5, 5, 5], [1, 1, 1, 1])
    log = JobLog()
    log.add(lines[:6])
    assert log.seconds_left(1010) is None
    log = JobLog()
    log.add(line for line in lines if "forecast" not in str(line["message"]))
    assert log.phase == "evaluate_tuned"


def test_an_interrupted_job_begins_its_phases_anew_and_keeps_its_losses() -> None:
    log = JobLog()
    log.add([*job([5, 5, 5, 5], [1, 1, 1, 1])[:8]])
    assert (log.step, len(log.losses)) == (3, 3)
    log.add(job([5, 5, 5, 5], [1, 1, 1, 1])[:1])
    assert (log.phase, log.step, len(log.losses)) == ("load", 0, 3)
    log.add(job([5, 5, 5, 5], [1, 1, 1, 1])[1:8])
    assert log.step == 3
    # A job of this version begins with the download.
    log.add([{"timestamp": 2_000_000, "message": "phase=download"}])
    assert (log.phase, log.step, log.seconds, len(log.losses)) == ("download", 0, {}, 3)
    log.add([{"timestamp": 2_004_000, "message": "phase=load"}])
    assert (log.phase, log.seconds) == ("load", {"download": 4.0})


@pytest.mark.parametrize("first", ["load_seconds=1.0", "download_seconds=0.0 load_seconds=1.0", "install_seconds=2.0"])
def test_the_line_with_the_seconds_of_all_phases_ends_the_job(first: str) -> None:
    log = JobLog()
    log.add(job([5, 5, 5], [1, 1, 1, 1])[:-1])
    assert not log.published
    log.add([{"timestamp": 2_000_000, "message": f"{first} train_seconds=2.0"}])
    assert log.published


def test_the_tuned_model_is_paced_by_the_measured_batches_of_its_base() -> None:
    log = JobLog()
    lines = [(0, "phase=load"), (1, FORECAST.format(1, 40, 1, 40)), (2, "phase=evaluate_base")]
    lines += [(32, "evaluated=10/20 model=base share=0.5"), (42, "evaluated=20/20 model=base share=1.000")]
    lines += [(42, "phase=evaluate_tuned"), (72, "evaluated=10/20 model=tuned share=0.5")]
    log.add({"timestamp": at * 1000, "message": line} for at, line in lines)
    assert log.seconds_left(72) == pytest.approx(10)


def test_the_history_has_losses_rates_and_validations_and_keeps_its_steps_after_an_interruption() -> None:
    lines = [
        "phase=load",
        "eval_loss=2.5000",
        "step=1/9 epoch=0.1 loss=2.4 grad_norm=1.0 learning_rate=1.0e-04 tokens_per_second=9.0",
        "step=5/9 epoch=0.5 loss=nan learning_rate=x",
        "step=5/9 epoch=0.5 loss=..",
        "step=5/9 epoch=0.5 loss=2.2",
        "phase=load",
        "eval_loss=1.2 seconds=0.5",
    ]
    log = JobLog()
    log.add({"timestamp": at, "message": line} for at, line in enumerate(lines))
    assert log.history == [
        {"step": 0, "eval_loss": 2.5},
        {"step": 1, "loss": 2.4, "learning_rate": 1e-4},
        {"step": 5, "loss": 2.2},
        {"step": 5, "eval_loss": 1.2},
    ]
    assert (log.losses, log.eval_losses) == ({1: 2.4, 5: 2.2}, [2.5, 1.2])
