"""Writes the metrics of an ended run: how long its steps took, and the share of its rows that were rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import embedded_metrics

if TYPE_CHECKING:
    from report.story import Story

_READS_ROWS = ("PrepareData", "MergeData")


def write(story: Story) -> None:
    """Write what the run did since its start, or since its last redrive. The end before has told the rest."""
    stack = story.state_machine.rpartition(":")[2]
    last = max((phase.redrives for phase in story.phases), default=0)
    phases = [phase for phase in story.phases if phase.redrives == last]
    for phase in phases:
        if phase.end is not None:
            seconds = (phase.end - phase.start).total_seconds()
            embedded_metrics.write(stack, embedded_metrics.STEP_TIME, seconds, "Seconds", phase.name)
    files = (story.manifest or {}).get("files") or []
    read = sum(file["read"] for file in files)
    if read and any(phase.name in _READS_ROWS for phase in phases):
        share = 100 * sum(file["rejected"] for file in files) / read
        embedded_metrics.write(stack, embedded_metrics.REJECTED_ROWS, share, "Percent")
