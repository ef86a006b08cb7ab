"""Remembers a SIGTERM (StopTrainingJob, or a spot instance that is taken back), so that the job ends between two steps."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from training.errors import InterruptedTrainingError

if TYPE_CHECKING:
    from types import FrameType


class StopSignal:
    """Remembers that SageMaker asked the job to end. SageMaker kills the job 120 seconds later."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.requested = False

    def install(self) -> None:
        """Listen for SIGTERM. Call this from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def check(self, doing: str) -> None:
        """End the job if a stop was requested.

        Args:
            doing: the job's current work, for the message.

        Raises:
            InterruptedTrainingError: a stop was requested.
        """
        if self.requested:
            raise InterruptedTrainingError(
                f"interrupted: asked to stop (SIGTERM) while {doing}; no model was published. Redrive the execution: training "
                "goes on from its last checkpoint, if it has one"
            )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
