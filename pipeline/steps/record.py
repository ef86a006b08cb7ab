"""The Record step: writes the run's record again when its model serves, and at the end of the run."""

from __future__ import annotations

from pipeline import aws, record
from pipeline.contracts.events import Recorded, RecordEvent


@aws.handler(RecordEvent)
def handler(event: RecordEvent) -> Recorded:
    """Write the run's record, when its model serves or at the end of the run."""
    return Recorded(record.write(*event))
