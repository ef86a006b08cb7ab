"""The Bedrock job of a run. A run starts it without waiting, and follows it to its end when the tuned model already serves.

No error of the job delays the tuned model. An error at its start becomes a line in the answer, and the last state of the run
starts the job again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from pipeline import aws, bedrock_jobs, jobs, money, names
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.events import CustomizeEvent
from pipeline.jobs import Job

if TYPE_CHECKING:
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

STOPPING_WAIT_SECONDS = 60


class CustomizationFailed(Exception):
    """The customization job ended without a model. The line has Bedrock's status and message."""


class CustomizationJobs:
    """Bedrock's customization jobs of one run (`jobs.JobService`)."""

    def __init__(self, request: AwsRequest) -> None:
        """Keep the request of CreateModelCustomizationJob, which has no names and no token yet."""
        self._request = request
        self._client = aws.client("bedrock")

    def describe(self, name: str) -> Job | None:
        """Return the job of this name, or None. GetModelCustomizationJob takes a name as well as an ARN."""
        try:
            found = self._client.get_model_customization_job(jobIdentifier=name)
        except ClientError as error:
            # The service model has both errors, and no page says which of them stands for an unknown name. If the error has
            # another cause, CreateModelCustomizationJob fails with it too, and shows it.
            if not aws.is_absent(error) and aws.code(error) != "ValidationException":
                raise
            return None
        return Job(name, found["jobArn"], found["status"], found["creationTime"], found)

    def create(self, name: str) -> None:
        """Make the job of this name. Its custom model has the same name."""
        self._client.create_model_customization_job(
            jobName=name, customModelName=name, clientRequestToken=name, **self._request
        )

    def stop(self, job: Job) -> None:
        """Ask Bedrock to stop the job."""
        self._client.stop_model_customization_job(jobIdentifier=job.arn)

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""
        return bedrock_jobs.tags(self._client.list_tags_for_resource(resourceARN=job.arn)["tags"])


@aws.handler(CustomizeEvent)
def handler(event: CustomizeEvent) -> BedrockJob:
    """Look at the run's customization job, make it if there is none, and stop it when its time is over.

    Raises:
        CustomizationFailed: the job has failed or was stopped.
        money.MaxCostReached: a new job may go beyond max_cost.
        jobs.NotOurs: a job that is not the run's has its name.
    """
    if not event.follow:
        return bedrock_jobs.started(lambda: _look(event), CustomizationFailed)
    return _look(event)


def _look(event: CustomizeEvent) -> BedrockJob:
    hours, request = event.timeout_hours, event.request
    tags = bedrock_jobs.tags(request["jobTags"])
    service = CustomizationJobs(request)
    job, made = jobs.ensure(
        service,
        event.name,
        event.redrive,
        names.own(tags),
        lambda earlier: money.check_bedrock(event.record, event.training, event.deployed, len(earlier)),
    )
    logger.info("%s is %s", job.name, job.status)
    if job.status == "Completed":
        return BedrockJob("completed", job.name, len(made), "completed", model=job.description["outputModelArn"])
    late = job.age > hours * 3600
    if job.status not in ("InProgress", "Stopping"):
        raise CustomizationFailed(_ending(job, hours))
    if job.status == "InProgress" and late:
        service.stop(job)
    progress = f"{_stage(job)} for {job.age / 3600:.1f} h of at most {hours} h{', being stopped' if late else ''}"
    # The wait ends soon after the job's time limit or after its stop.
    remaining = STOPPING_WAIT_SECONDS if job.status == "Stopping" else round(hours * 3600 - job.age)
    wait_seconds = max(jobs.FIRST_WAIT_SECONDS, min(jobs.wait(job.age), remaining))
    return BedrockJob("working", job.name, len(made), progress, wait_seconds)


def _stage(job: Job) -> str:
    """Return the stage that is in progress (GetModelCustomizationJob, statusDetails), such as training."""
    details = job.description.get("statusDetails", {})
    found = (name.removesuffix("Details") for name, stage in details.items() if stage.get("status") == "InProgress")
    return next(found, job.status)


def _ending(job: Job, hours: int) -> str:
    ended = job.description.get("endTime") or datetime.now(UTC)
    if job.status == "Stopped" and (ended - job.created).total_seconds() >= hours * 3600:
        return (
            f"customization job {job.name} was stopped because it was not completed within bedrock.timeout_hours ({hours}); "
            "redrive the execution for a new job with the same time, or start a new one with a higher limit or fewer records"
        )
    why = job.description.get("failureMessage") or "Bedrock gives no reason"
    return f"customization job {job.name} {job.status}: {why}"
