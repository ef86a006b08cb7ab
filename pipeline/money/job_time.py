"""Where the seconds of a training job went. SageMaker bills them all, also those in which nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline.contracts.money import Pace

TRAIN, REST = "train", "rest"

_PART_OF = {
    "evaluate_base": "evaluate",
    "evaluate_tuned": "evaluate",
    "load_quantized": "load",
    "load_base": "load",
}
"""The part of the phases of a job that do the same. Another phase is a part of its own name."""

ROUNDING = 1.0
"""The most seconds by which the phases may be longer than the job, because SageMaker tells whole seconds."""


class JobPart(NamedTuple):
    """A part of a job's time: its name, its seconds on each instance, and its share of the job from 0 to 1."""

    name: str
    seconds: float
    share: float


class JobTime(NamedTuple):
    """The time of a run's only training job.

    Attributes:
        seconds: the seconds from the start of its instances to their end.
        billed: the seconds that SageMaker bills for each instance. Less than `seconds` with spot's discount.
        parts: all of its time: the training first, the other phases in their order, and last "rest", which the job cannot
            measure: the image and the channels before it, and the model's way to S3 after it.
    """

    seconds: int
    billed: int
    parts: list[JobPart]

    @property
    def trained(self) -> float:
        """The share of the training."""
        return self.parts[0].share

    @property
    def is_billed_whole(self) -> bool:
        """Whether each second of the job is a billed second, so that a share of the time is that share of the seconds."""
        return self.billed == self.seconds


def job_time(pace: Pace | None) -> JobTime | None:
    """Return where the job's time went. None if it is not known.

    It is not known if the run needed several jobs, or if the job was interrupted: then all starts are billed, and the job has
    measured the last one. Of several instances each is billed for the same time, and the first one measures.
    """
    if pace is None or not pace.job_seconds or not pace.billed_seconds or TRAIN not in pace.seconds:
        return None
    seconds = {TRAIN: 0.0}
    for phase, took in pace.seconds.items():
        part = _PART_OF.get(phase, phase)
        seconds[part] = seconds.get(part, 0.0) + took
    measured = sum(seconds.values())
    # Two clocks that differ by more than the rounding are a mistake of one of them. A sum that is not a number is no time.
    if min(seconds.values()) < 0 or not measured <= pace.job_seconds + ROUNDING:
        return None
    whole = max(measured, pace.job_seconds)
    seconds[REST] = whole - measured
    parts = [JobPart(name, took, took / whole) for name, took in seconds.items()]
    return JobTime(pace.job_seconds, pace.billed_seconds, parts)
