"""The line of a metric keeps to AWS's embedded metric format, as local AWS reads it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local_aws.ministack.embedded_metrics import read
from pipeline import embedded_metrics

if TYPE_CHECKING:
    import pytest


def test_a_value_is_one_line_with_its_dimensions_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    embedded_metrics.write("tuneway-0a1b2c3d", embedded_metrics.STEP_TIME, 12.5, "Seconds", "Train")
    embedded_metrics.write("tuneway-0a1b2c3d", embedded_metrics.REJECTED_ROWS, 0.0, "Percent")
    lines = capsys.readouterr().out.splitlines()
    (step,), (rejected,) = (list(read(line)) for line in lines)
    assert step[:3] == ("Tuneway", "StepTime", {"Stack": "tuneway-0a1b2c3d", "Step": "Train"})
    assert (step.value, step.unit) == (12.5, "Seconds")
    assert abs(step.time - time.time()) < 60
    assert rejected[:3] == ("Tuneway", "RejectedRows", {"Stack": "tuneway-0a1b2c3d"})
    assert (rejected.value, rejected.unit) == (0.0, "Percent")
