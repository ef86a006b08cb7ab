"""Makes a job that a run needs once, and finds it again by its name, even if the answer of the call that made it was lost.

A job's name ends in the count of redrives, and not in the count of retries. A function that is called again thus finds the
job of the earlier call. A redrive continues with a job that still runs or is completed, and waits for one that is stopping.
It makes a new job only when all earlier ones have failed or were stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_WAIT_SECONDS = 2
"""The shortest wait between two looks at a job or a deployment: some are done after seconds.

A look is one call of a function and three transitions of the state machine, 0.008 cents in all. With this wait a job of an hour
is looked at 114 times (81 with a first wait of 10 seconds) and one of three hours 137 times (103): 0.3 cents more. From an age
of 200 seconds on, the first wait makes no difference.
"""
MAX_WAIT_SECONDS = 600
WAITED_SHARE = 0.05
"""The wait until the next look, as a share of the job's age. A job's end is seen at most 5% of its time too late."""

_FOLLOWED = ("Completed", "InProgress", "Stopping")
"""The statuses of a job that a run continues with, the best first."""


class Job(NamedTuple):
    """A job of SageMaker or Bedrock.

    Attributes:
        name: its name.
        arn: its ARN.
        status: InProgress, Completed, Failed, Stopping or Stopped. Both services use these words.
        created: when it was made.
        description: the service's answer to the describe call.
    """

    name: str
    arn: str
    status: str
    created: datetime
    description: dict[str, Any]

    @property
    def age(self) -> float:
        """The seconds since the job was made."""
        return (datetime.now(UTC) - self.created).total_seconds()


class JobService(Protocol):
    """The calls for one kind of job."""

    def describe(self, name: str) -> Job | None:
        """Return the job of this name, or None if there is none."""

    def create(self, name: str) -> None:
        """Make the job of this name."""

    def stop(self, job: Job) -> None:
        """Ask the service to stop the job."""

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""


class NotOurs(Exception):
    """A job has the run's name but does not belong to the run. The text is one line."""


def ensure(
    service: JobService,
    run: str,
    redrive: int,
    tags: dict[str, str],
    check: Callable[[list[Job]], None] = lambda _: None,
) -> tuple[Job, list[Job]]:
    """Return the job that the run continues with, and make it if there is none.

    A job that failed or was stopped is returned only if it is the job of this redrive.

    Args:
        service: the calls for this kind of job.
        run: the beginning of the names of the run's jobs.
        redrive: how often the execution has been redriven.
        tags: the tags that each job of the run has.
        check: gets the run's earlier jobs before a job is made, and raises an exception if it must not be made.

    Returns:
        The job, and all jobs of the run in the order of its redrives.

    Raises:
        NotOurs: a job that is not the run's has the name.
        botocore.exceptions.ClientError: the service refuses the job.
    """
    own = f"{run}-{redrive}"
    jobs = _all(service, run, redrive)
    well = sorted(
        (job for job in jobs if job.status in _FOLLOWED), key=lambda job: (_FOLLOWED.index(job.status), job.created)
    )
    # Two jobs run at once only if a call of an aborted attempt came too late. They share checkpoints, so the younger one is
    # stopped.
    for twin in well[1:]:
        if twin.status == "InProgress":
            service.stop(twin)
    followed = well[0] if well else None
    if followed is None and (not jobs or jobs[-1].name != own):
        check(jobs)
        try:
            service.create(own)
        except ClientError:
            # An earlier call whose answer was lost may have made the job. The service may also have made it now, and still have
            # answered with an error.
            if service.describe(own) is None:
                raise
        jobs = _all(service, run, redrive)
        if not jobs or jobs[-1].name != own:  # A service may not find a new job at once.
            jobs.append(Job(own, "", "InProgress", datetime.now(UTC), {}))
            return jobs[-1], jobs
    followed = followed or jobs[-1]
    if not tags.items() <= service.tags(followed).items():
        raise NotOurs(
            f"{followed.arn} has the name of this run's job but not its tags; delete it, or start a new execution"
        )
    return followed, jobs


def _all(service: JobService, run: str, redrive: int) -> list[Job]:
    # The jobs are described by name, because a listing may show a new job late.
    return [job for attempt in range(redrive + 1) if (job := service.describe(f"{run}-{attempt}"))]


def wait(age: float, first: int = FIRST_WAIT_SECONDS) -> int:
    """Return the seconds to wait until the next look at a job or a deployment that is `age` seconds old."""
    return round(max(first, min(MAX_WAIT_SECONDS, WAITED_SHARE * age)))
