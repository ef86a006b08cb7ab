"""A job that a run needs, made once and found again by its name, whatever became of the call that made it.

A job's name ends in the count of redrives, and never in that of retries: a function that is called again finds the job of
the call before. A redrive adopts a job that still runs or is completed, waits for one that is stopping, and makes one of its
own only when all before it have ended badly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from botocore.exceptions import ClientError

FIRST_WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 600
WAITED_SHARE = 0.05
"""Share of a job's age that is waited until the next look: an end is seen late by 5% of the job's time at most."""

_FOLLOWED = ("Completed", "InProgress", "Stopping")
"""Statuses of a job that is followed, the best first."""


class Job(NamedTuple):
    """A job of SageMaker's or Bedrock's.

    Attributes:
        name: its name.
        arn: its ARN.
        status: InProgress, Completed, Failed, Stopping or Stopped, which both services call alike.
        created: when it was made.
        description: what the service tells of it.
    """

    name: str
    arn: str
    status: str
    created: datetime
    description: dict[str, Any]

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return (datetime.now(UTC) - self.created).total_seconds()


class JobService(Protocol):
    """What makes one kind of job."""

    def describe(self, name: str) -> Job | None:
        """Return the job of that name, if there is one."""

    def create(self, name: str) -> None:
        """Make the job of that name."""

    def stop(self, job: Job) -> None:
        """Ask the job to end."""

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""


class NotOurs(Exception):
    """A job with the run's name is not the run's. One line."""


def ensure(service: JobService, run: str, redrive: int, tags: dict[str, str]) -> tuple[Job, list[Job]]:
    """Return the job to follow, made now if it has to be, and all jobs of the run, in the order of its redrives.

    One that has ended badly is returned only if it is the redrive's own.

    Args:
        service: what makes the job.
        run: what the names of the run's jobs begin with.
        redrive: how often the execution has been redriven.
        tags: what each job of the run is tagged with.

    Raises:
        NotOurs: another's job has the name.
        botocore.exceptions.ClientError: the service refuses the job.
    """
    own = f"{run}-{redrive}"
    jobs = _all(service, run, redrive)
    well = sorted(
        (job for job in jobs if job.status in _FOLLOWED), key=lambda job: (_FOLLOWED.index(job.status), job.created)
    )
    # Two run at once only if a call of an aborted attempt came too late. They share checkpoints: the younger one goes.
    for twin in well[1:]:
        if twin.status == "InProgress":
            service.stop(twin)
    followed = well[0] if well else None
    if followed is None and (not jobs or jobs[-1].name != own):
        try:
            service.create(own)
        except ClientError:
            # The name may be in use by a call whose answer was lost; an error may also be the answer of one that was obeyed.
            if service.describe(own) is None:
                raise
        jobs = _all(service, run, redrive)
        if not jobs or jobs[-1].name != own:  # A service may not see at once what it has made.
            jobs.append(Job(own, "", "InProgress", datetime.now(UTC), {}))
            return jobs[-1], jobs
    followed = followed or jobs[-1]
    if not tags.items() <= service.tags(followed).items():
        raise NotOurs(
            f"{followed.arn} has the name of this run's job and not its tags; delete it, or start a new execution"
        )
    return followed, jobs


def _all(service: JobService, run: str, redrive: int) -> list[Job]:
    # By name and not by a list, which may show a job late.
    return [job for attempt in range(redrive + 1) if (job := service.describe(f"{run}-{attempt}"))]


def wait(age: float, first: int = FIRST_WAIT_SECONDS) -> int:
    """Return the seconds until the next look at what is `age` seconds old."""
    return round(max(first, min(MAX_WAIT_SECONDS, WAITED_SHARE * age)))
