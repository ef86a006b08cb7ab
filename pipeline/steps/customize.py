"""The Bedrock job of a run: started in its place without waiting, and followed to its end when the model already serves.

Nothing that happens to it holds the tuned model back: what refuses its start is kept and told, and the last state of the run
asks again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, jobs, names
from pipeline.contracts.events import Customization, CustomizeEvent
from pipeline.jobs import Job

if TYPE_CHECKING:
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


STOPPING_WAIT_SECONDS = 60


class CustomizationFailed(Exception):
    """The customization job ended without a model: one line with Bedrock's status and message."""


class CustomizationJobs:
    """Bedrock's customization jobs of one run (`jobs.Service`)."""

    def __init__(self, request: AwsRequest) -> None:
        """Take CreateModelCustomizationJob's request without the names and the token."""
        self._request = request
        self._client = aws.client("bedrock")

    def describe(self, name: str) -> Job | None:
        """Return the job of that name, which GetModelCustomizationJob takes as well as the ARN, if there is one."""
        try:
            told = self._client.get_model_customization_job(jobIdentifier=name)
        except ClientError as error:
            # The service model has both for a name that Bedrock does not know, and no page says which. Were it another
            # fault, the job of that name could not be made either, and CreateModelCustomizationJob would say so.
            if not aws.is_absent(error) and aws.code(error) != "ValidationException":
                raise
            return None
        return Job(name, told["jobArn"], told["status"], told["creationTime"], told)

    def create(self, name: str) -> None:
        """Make the job of that name; its custom model has the same."""
        self._client.create_model_customization_job(
            jobName=name, customModelName=name, clientRequestToken=name, **self._request
        )

    def stop(self, job: Job) -> None:
        """Ask the job to end."""
        self._client.stop_model_customization_job(jobIdentifier=job.arn)

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""
        return {tag["key"]: tag["value"] for tag in self._client.list_tags_for_resource(resourceARN=job.arn)["tags"]}


@aws.handler(CustomizeEvent)
def handler(event: CustomizeEvent) -> Customization:
    """Look at the run's customization job, make it if it has to be made, and stop it when its time is over.

    Raises:
        CustomizationFailed: the job has failed or was stopped.
        jobs.NotOurs: another's job has its name.
    """
    try:
        return _look(event)
    except (ClientError, BotoCoreError, jobs.NotOurs, CustomizationFailed) as error:
        if event.follow:
            raise
        logger.warning("refused: %s", error)
        line = f"refused the job, which is tried again at the end of the run: {error}"
        return Customization("refused", None, 0, line)


def _look(event: CustomizeEvent) -> Customization:
    hours, request = event.timeout_hours, event.request
    tags = {tag["key"]: tag["value"] for tag in request["jobTags"]}
    service = CustomizationJobs(request)
    job, made = jobs.ensure(service, event.name, event.redrive, names.own(tags))
    logger.info("%s is %s", job.name, job.status)
    if job.status == "Completed":
        custom_model = job.description.get("outputModelArn")
        return Customization("completed", job.name, len(made), "completed", custom_model=custom_model)
    late = job.age > hours * 3600
    if job.status not in ("InProgress", "Stopping"):
        raise CustomizationFailed(_ending(job, hours))
    if job.status == "InProgress" and late:
        service.stop(job)
    progress = f"{_stage(job)} for {job.age / 3600:.1f} h of at most {hours} h{', being stopped' if late else ''}"
    # Neither its end in time nor that of a stop is waited for much longer than it takes.
    left = STOPPING_WAIT_SECONDS if job.status == "Stopping" else round(hours * 3600 - job.age)
    wait_seconds = max(jobs.FIRST_WAIT_SECONDS, min(jobs.wait(job.age), left))
    return Customization("working", job.name, len(made), progress, wait_seconds)


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
            "redrive the execution for a new job with as much time, or start a new one with more or with fewer records"
        )
    why = job.description.get("failureMessage") or "Bedrock gives no reason"
    return f"customization job {job.name} {job.status}: {why}"
