"""The Bedrock import job of a run: it brings the tuned model that SageMaker has trained to Bedrock.

A run starts the job without waiting, and follows it to its end when the endpoint already serves, like a customization job.
Bedrock has no call that stops an import job.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from pipeline import aws, bedrock_jobs, jobs, money, names
from pipeline.contracts.bedrock import BedrockJob
from pipeline.contracts.events import ImportEvent
from pipeline.jobs import Job

if TYPE_CHECKING:
    from pipeline.contracts.values import AwsRequest

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


class ModelImportFailed(Exception):
    """The import job ended without a model, or takes too long. The line has Bedrock's status and message."""


class ImportJobs:
    """Bedrock's import jobs of one run (`jobs.JobService`)."""

    def __init__(self, request: AwsRequest, model: str) -> None:
        """Keep the request of CreateModelImportJob, and the S3 prefix of the model."""
        self._request = request
        self._source = {"s3DataSource": {"s3Uri": model}}
        self._client = aws.client("bedrock")

    def describe(self, name: str) -> Job | None:
        """Return the job of this name, or None. GetModelImportJob takes a name as well as an ARN."""
        try:
            found = self._client.get_model_import_job(jobIdentifier=name)
        except ClientError as error:
            # As of a customization job: no page says which of the two errors stands for an unknown name.
            if not aws.is_absent(error) and aws.code(error) != "ValidationException":
                raise
            return None
        return Job(name, found["jobArn"], found["status"], found["creationTime"], found)

    def create(self, name: str) -> None:
        """Make the job of this name. Its imported model has the same name."""
        self._client.create_model_import_job(
            jobName=name,
            importedModelName=name,
            clientRequestToken=name,
            modelDataSource=self._source,
            **self._request,
        )

    def stop(self, job: Job) -> None:
        """Leave the job alone, because Bedrock has no call that stops it. Its model is one of the stack's older models."""
        logger.info("%s cannot be stopped", job.name)

    def tags(self, job: Job) -> dict[str, str]:
        """Return the job's tags."""
        return bedrock_jobs.tags(self._client.list_tags_for_resource(resourceARN=job.arn)["tags"])


@aws.handler(ImportEvent)
def handler(event: ImportEvent) -> BedrockJob:
    """Look at the run's import job, and make it if there is none.

    Raises:
        ModelImportFailed: the job has failed, or is not completed in time.
        money.MaxCostReached: a new model may go beyond max_cost.
        jobs.NotOurs: a job that is not the run's has its name.
    """
    if not event.follow:
        return bedrock_jobs.started(lambda: _look(event), ModelImportFailed)
    return _look(event)


def _look(event: ImportEvent) -> BedrockJob:
    tags = names.own(bedrock_jobs.tags(event.request["jobTags"]))
    job, made = jobs.ensure(
        ImportJobs(event.request, event.model),
        event.name,
        event.redrive,
        tags,
        lambda earlier: money.check_bedrock(event.record, event.training, event.deployed, len(earlier)),
    )
    logger.info("%s is %s", job.name, job.status)
    if job.status == "Completed":
        return BedrockJob("completed", job.name, len(made), "imported", model=job.description["importedModelArn"])
    if job.status != "InProgress":
        why = job.description.get("failureMessage") or "Bedrock gives no reason"
        raise ModelImportFailed(f"import job {job.name} {job.status}: {why}")
    # A redrive waits as long again for a job that still runs, because it cannot be stopped.
    limit = event.timeout_hours * (1 + event.redrive)
    if job.age > limit * 3600:
        raise ModelImportFailed(
            f"import job {job.name} was not completed within bedrock.timeout_hours, after {limit} hours, and cannot be "
            "stopped; redrive the execution to wait as long again"
        )
    progress = f"importing the model for {job.age / 60:.0f} min"
    return BedrockJob("working", job.name, len(made), progress, jobs.wait(job.age))
