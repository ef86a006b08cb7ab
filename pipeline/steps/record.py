"""The Record step: writes the run's record again when its model serves, and when the run is through."""

from __future__ import annotations

from pipeline import aws, record
from pipeline.contracts.events import Recorded, RecordEvent


@aws.handler(RecordEvent)
def handler(event: RecordEvent) -> Recorded:
    """Write the record of a run whose model serves, or that is through."""
    return Recorded(record.write(*event))
