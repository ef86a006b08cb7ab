"""SIGTERM (StopTrainingJob, a spot instance taken back): remember it, act on it between steps."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from training.errors import InterruptedTrainingError

if TYPE_CHECKING:
    from types import FrameType


class StopSignal:
    """Remembers that SageMaker asked the job to end; it kills the job 120 seconds after asking."""

    def __init__(self) -> None:
        """Starts with no request."""
        self.requested = False

    def install(self) -> None:
        """Listens for SIGTERM; call it from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def check(self, doing: str) -> None:
        """Ends the job if it was asked to.

        Raises:
            InterruptedTrainingError: a stop was requested; `doing` tells how far the job had come.
        """
        if self.requested:
            raise InterruptedTrainingError(
                f"interrupted: asked to stop (SIGTERM) while {doing}; no model was published. Redrive the execution: training "
                "goes on from its last checkpoint, if it has one"
            )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
