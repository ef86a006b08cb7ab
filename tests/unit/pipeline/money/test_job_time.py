"""The time of a training job is told whole, and only if all of it is that of the job that has measured it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import money
from pipeline.contracts.money import Pace
from pipeline.money.job_time import ROUNDING

SECONDS = {
    "install": 2.0,
    "import": 8.0,
    "download": 0.0,
    "load": 10.0,
    "load_quantized": 5.0,
    "train": 71.0,
    "load_base": 1.0,
    "evaluate_base": 40.0,
    "export": 4.0,
    "evaluate_tuned": 36.0,
}
PACE = Pace("ml.g5.xlarge", 1, 1000, 150_000, 2000.0, SECONDS, 200, 200)


def test_the_parts_of_a_job_have_the_training_first_and_the_rest_last() -> None:
    found = money.job_time(PACE)
    assert found is not None
    assert (found.trained, found.is_billed_whole) == (71 / 200, True)
    assert {part.name: round(part.seconds, 6) for part in found.parts} == {
        "train": 71,
        "install": 2,
        "import": 8,
        "download": 0,
        "load": 16,
        "evaluate": 76,
        "export": 4,
        "rest": 23,
    }
    assert [part.name for part in found.parts][:: len(found.parts) - 1] == ["train", "rest"]


PHASES = st.dictionaries(
    st.sampled_from(["install", "load", "load_base", "evaluate_base", "evaluate_tuned", "export", "a new phase"]),
    st.floats(0, 1e5),
)


@given(PHASES, st.floats(0, 1e5), st.integers(1, 200_000), st.floats(0.1, 1))
def test_the_shares_are_whole_and_never_more_or_the_time_is_not_known(
    others: dict[str, float], trained: float, whole: int, discount: float
) -> None:
    seconds = others | {"train": trained}
    found = money.job_time(
        PACE._replace(seconds=seconds, job_seconds=whole, billed_seconds=max(1, int(whole * discount)))
    )
    measured = sum(seconds.values())
    assert (found is None) == (measured > whole + ROUNDING)
    if found:
        assert sum(part.share for part in found.parts) == pytest.approx(1)
        assert all(0 <= part.share <= 1 and part.seconds >= 0 for part in found.parts)
        assert sum(part.seconds for part in found.parts) == pytest.approx(whole, abs=ROUNDING + 1e-6)
        assert found.trained == pytest.approx(trained / max(whole, measured))


@pytest.mark.parametrize(
    "changes",
    [
        {"job_seconds": None},  # interrupted, or of an earlier version
        {"billed_seconds": None},  # redriven
        {"billed_seconds": None, "job_seconds": None},
        {"seconds": {}},
        {"seconds": {"load": 3.0}},
        {"seconds": SECONDS | {"train": 150.0}},  # longer than the job
        {"seconds": SECONDS | {"export": -4.0}},
        {"seconds": SECONDS | {"train": float("nan")}},
        {"seconds": SECONDS | {"load": float("nan")}},
    ],
)
def test_a_share_that_may_be_wrong_is_not_known(changes: dict[str, Any]) -> None:
    assert money.job_time(PACE._replace(**changes)) is None
    assert money.job_time(None) is None


def test_the_line_about_the_cost_has_the_share_of_the_training() -> None:
    prices = money.known("us-west-2")

    def how(pace: Pace, billed: int) -> str:
        use = money.TrainingUse({"ml.g5.xlarge": billed}, time=money.job_time(pace))
        return money.spent_so_far(prices, "us-west-2", use, None, None, 0).parts[0].how

    price = "ml.g5.xlarge at 1.408 dollars per hour"
    assert how(PACE, 200) == f"200 billed seconds of {price}; training took 36% of these seconds"
    # Each of several instances is billed for the same time.
    assert how(PACE, 400) == f"400 billed seconds of {price}; training took 36% of these seconds"
    spot = PACE._replace(billed_seconds=80)
    assert how(spot, 80) == f"80 billed seconds of {price}; training took 36% of the job's 200 seconds"
    assert how(PACE._replace(job_seconds=None), 200) == f"200 billed seconds of {price}"
