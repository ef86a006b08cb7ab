"""The metrics of an ended run: the time of each step, and the share of rejected rows, each told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack.embedded_metrics import read
from report import measures
from tests.unit.report.stories import GOOD, span

if TYPE_CHECKING:
    from report.story import Story

STACK = "tuneway-0a1b2c3d"
MANIFEST = {"files": [{"read": 150, "rejected": 3}, {"read": 50, "rejected": 0}]}
RUN = [span("Plan", 0, 1), span("PrepareData", 1, 4), span("Train", 4, 34)]


def written(story: Story, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, ...], float]:
    """Return the values by metric and step."""
    measures.write(story)
    found: dict[tuple[str, ...], float] = {}
    for line in capsys.readouterr().out.splitlines():
        (datum,) = read(line)
        assert datum.dimensions.pop("Stack") == STACK
        key = (datum.name, *datum.dimensions.values())
        found[key] = datum.value
    return found


def test_each_step_has_its_seconds_and_the_rows_their_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(GOOD._replace(phases=RUN, manifest=MANIFEST), capsys) == {
        ("StepTime", "Plan"): 60.0,
        ("StepTime", "PrepareData"): 180.0,
        ("StepTime", "Train"): 1800.0,
        ("RejectedRows",): 1.5,
    }


@pytest.mark.parametrize(
    ("phases", "manifest", "metrics"),
    [
        # The end before the redrive has told the steps before it.
        (
            [*RUN, span("Train", 90, 100, 2, 1), span("Assess", 100, 101, 1, 1)],
            MANIFEST,
            {("StepTime", "Train"), ("StepTime", "Assess")},
        ),
        ([*RUN, span("Train", 90, 100, 2, 1), span("Train", 200, 201, 3, 2)], MANIFEST, {("StepTime", "Train")}),
        # A redrive of the preparation tells its rows.
        (
            [span("Plan", 0, 1), span("MergeData", 1, 4), span("MergeData", 60, 70, 2, 1)],
            MANIFEST,
            {("StepTime", "MergeData"), ("RejectedRows",)},
        ),
        # A run also comes back to a step without a redrive, as to Deploy when the endpoint is lost.
        (
            [*RUN, span("Deploy", 34, 40), span("SmokeTest", 40, 41), span("Deploy", 41, 50, 2)],
            MANIFEST,
            {
                *(("StepTime", step) for step in ("Plan", "PrepareData", "Train", "Deploy", "SmokeTest")),
                ("RejectedRows",),
            },
        ),
        # A run that serves an earlier model has that one's manifest.
        ([span("Plan", 0, 1), span("Deploy", 1, 9)], MANIFEST, {("StepTime", "Plan"), ("StepTime", "Deploy")}),
        # Nothing is known of the rows.
        ([span("Plan", 0, 1), span("PrepareData", 1, 4)], None, {("StepTime", "Plan"), ("StepTime", "PrepareData")}),
        ([span("PrepareData", 1, 4)], {"files": []}, {("StepTime", "PrepareData")}),
        # It goes on: its time is not known.
        ([span("Plan", 0, None)], None, set()),
        ([], None, set()),
    ],
)
def test_nothing_of_before_a_redrive_is_told_again_and_nothing_unknown(
    phases: list[Any], manifest: Any, metrics: set[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(GOOD._replace(phases=phases, manifest=manifest), capsys).keys() == metrics
