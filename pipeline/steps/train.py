"""The Train step: makes the run's one training job, finds it again, and follows it to its end.

The state machine calls the function in a loop. Each call returns the progress of the job in one line.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, jobs, money, names
from pipeline.contracts.events import TrainEvent, Training
from pipeline.job_log import last_line, newest_events
from pipeline.jobs import Job
from pipeline.times import duration

if TYPE_CHECKING:
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

_EVENTS = 100


class TrainingFailed(Exception):
    """The training job ended without a model. The line has SageMaker's status and reason."""


class TrainingJobs:
    """SageMaker's training jobs of one run (`jobs.JobService`)."""

    def __init__(self, request: AwsRequest) -> None:
        """Keep the request of CreateTrainingJob, which has no name yet."""
        self._request = request
        self._client = aws.client("sagemaker")

    def describe(self, name: str) -> Job | None:
        """Return the job of this name, or None if there is none."""
        try:
            found = self._client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if not aws.is_absent(error):
                raise
            return None
        return Job(name, found["TrainingJobArn"], found["TrainingJobStatus"], found["CreationTime"], found)

    def create(self, name: str) -> None:
        """Make the job of this name."""
        self._client.create_training_job(TrainingJobName=name, **self._request)

    def stop(self, job: Job) -> None:
        """Ask SageMaker to stop the job."""
        self._client.stop_training_job(TrainingJobName=job.name)

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""
        return {tag["Key"]: tag["Value"] for tag in self._client.list_tags(ResourceArn=job.arn)["Tags"]}


@aws.handler(TrainEvent)
def handler(event: TrainEvent) -> Training:
    """Look at the run's training job, and make it if there is none.

    Raises:
        TrainingFailed: the job has failed or was stopped.
        money.MaxCostReached: a new job may go beyond max_cost.
        jobs.NotOurs: a job that is not the run's has its name.
    """
    tags = {tag["Key"]: tag["Value"] for tag in event.request["Tags"]}
    job, made = jobs.ensure(
        TrainingJobs(event.request),
        event.name,
        event.redrive,
        names.own(tags),
        lambda earlier: money.check_training(event.record, (one.description for one in earlier)),
    )
    logger.info("%s is %s", job.name, job.status)
    if job.status == "Completed":
        # An uncompressed model is a prefix, and an endpoint takes a prefix only with a slash at its end.
        model = job.description["ModelArtifacts"]["S3ModelArtifacts"].rstrip("/") + "/"
        kind = money.instance_type(job.description["ResourceConfig"])
        progress = f"completed after {duration(job.description['TrainingTimeInSeconds'])} on {kind}"
        billed = money.training_use((one.description for one in made), time.time()).seconds
        seconds = _uninterrupted(job) if len(made) == 1 else None
        return Training("completed", job.name, progress, 0, model, billed, seconds)
    if job.status not in ("InProgress", "Stopping"):
        raise TrainingFailed(_ending(job))
    return Training("working", job.name, _progress(job), jobs.wait(job.age))


def _uninterrupted(job: Job) -> int | None:
    """Return the seconds of a completed job on its instances. None if they are those of several starts.

    A spot job that loses its instances is "Interrupted", and starts again (service model, SecondaryStatus).
    """
    statuses = [one["Status"] for one in job.description.get("SecondaryStatusTransitions", [])]
    once = statuses.count("Training") == 1 and "Interrupted" not in statuses
    return int(job.description["TrainingTimeInSeconds"]) if once else None


def _ending(job: Job) -> str:
    status, reason = job.description["SecondaryStatus"], job.description.get("FailureReason")
    return f"training job {job.name} {status}: {reason or 'SageMaker gives no reason'}; its log group is {names.TRAINING_LOGS}"


def _progress(job: Job) -> str:
    phase = job.description.get("SecondaryStatus", "Starting")
    if phase != "Training":
        return f"{phase} for {duration(_in_phase(job))}"
    try:
        line = last_line(_newest_events(job.name), time.time())
    except (ClientError, BotoCoreError) as error:
        # An unreadable log must not end the job. The progress then shows only the phase.
        logger.warning("the log of %s cannot be read: %s", job.name, error)
        line = "its log cannot be read"
    return f"{phase} for {duration(_in_phase(job))}{f': {line}' if line else ''}"


def _in_phase(job: Job) -> float:
    transitions = job.description.get("SecondaryStatusTransitions", [])
    return time.time() - transitions[-1]["StartTime"].timestamp() if transitions else job.age


def _newest_events(job: str) -> list[dict[str, Any]]:
    client = aws.client("logs", read_timeout=5, retries={"total_max_attempts": 1})
    try:
        return newest_events(client, job, _EVENTS)
    except client.exceptions.ResourceNotFoundException:
        return []
