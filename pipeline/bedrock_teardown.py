"""The part of the teardown that deletes what runs have made in Bedrock."""

from __future__ import annotations

import functools
import json
import logging
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, names
from pipeline.aws import unless
from pipeline.custom_models import CustomModels

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

GONE = "ResourceNotFoundException"
"""The error code if Bedrock no longer has a resource that it has just listed. Somebody else deleted it, or an earlier pass did
and the listing is late."""


class BedrockTeardown:
    """One pass over the stack's resources in Bedrock. Each method deletes those of one kind, and names the remaining ones.

    Attributes:
        keep_records: whether the records of the runs have to stay, because they show that a run used Bedrock. If Bedrock denies
            a later pass or another `cdk destroy`, only they tell it that models may remain.
    """

    def __init__(self, prefix: str, bucket: str, *, keep_models: bool, enabled: bool) -> None:
        """Remember the stack's prefix, its bucket, whether models stay, and whether the deployed settings use Bedrock."""
        self.models = CustomModels(prefix)
        self.keep_records = False
        self._prefix, self._bucket = prefix, bucket
        self._keep_models, self._enabled = keep_models, enabled

    def customization_jobs(self) -> list[str]:
        """Stop the jobs, and name those that have not ended."""
        unfinished = []
        for status in ("InProgress", "Stopping"):
            jobs = self._listed("list_model_customization_jobs", "modelCustomizationJobSummaries", statusEquals=status)
            for job in jobs:
                if not self.models.is_ours(job["jobArn"]):
                    continue
                unfinished.append(job["jobName"])
                if status == "InProgress":
                    unless(
                        partial(self.models.client.stop_model_customization_job, jobIdentifier=job["jobArn"]),
                        "ConflictException",  # The job has ended meanwhile.
                        "ValidationException",
                    )
        return unfinished

    def import_jobs(self) -> list[str]:
        """Name the jobs that have not ended. Bedrock has no call that stops them.

        Nothing else waits for them. A job whose model is deleted from the bucket meanwhile fails.
        """
        jobs = self._listed("list_model_import_jobs", "modelImportJobSummaries", statusEquals="InProgress")
        return self._kept(
            [
                f"import job {job['jobName']}, which cannot be stopped"
                for job in jobs
                if self.models.is_ours(job["jobArn"])
            ]
        )

    def deployment(self) -> list[str]:
        """Delete the deployment of custom models. It is found by its name, also if its model is not the stack's."""
        if self._keep_models:
            return []
        remaining = []
        for deployment in self._listed("list_custom_model_deployments", "modelDeploymentSummaries"):
            name, arn = deployment["customModelDeploymentName"], deployment["customModelDeploymentArn"]
            if name != self._prefix:
                continue
            if deployment["status"] != "Deleting":
                if not self.models.is_ours(arn):
                    continue
                # It cannot be deleted while it is being created or updated. The next pass tries again.
                delete = partial(self.models.client.delete_custom_model_deployment, customModelDeploymentIdentifier=arn)
                unless(delete, "ConflictException", "ValidationException", GONE)
            remaining.append(f"custom model deployment {name}")
        return remaining

    def custom_models(self) -> list[str]:
        """Delete the custom models that nothing uses, and the stack's own deployments and throughputs of the others."""
        remaining: list[str] = []
        if self._keep_models:
            return remaining
        for model in self._listed("list_custom_models", "modelSummaries"):
            if not self.models.is_ours(model["modelArn"]):
                continue
            users = self.models.users(model["modelArn"])
            for user in users:
                if user.ours and not user.leaves:
                    # A deployment cannot be deleted while it is being created. The next pass tries again. Throughput with a
                    # committed term cannot be deleted before the term's end.
                    unless(user.delete, "ConflictException", "ValidationException", GONE)
            # A model that a deployment or throughput still uses stays. It is named until nothing uses it.
            delete = partial(self.models.client.delete_custom_model, modelIdentifier=model["modelArn"])
            if users or not unless(delete, "ConflictException", GONE):
                used = f", used by {', '.join(map(str, users))}" if users else ""
                remaining.append(f"custom model {model['modelName']}{used}")
        return self._kept(remaining)

    def imported_models(self) -> list[str]:
        """Delete the imported models."""
        remaining: list[str] = []
        if self._keep_models:
            return remaining
        for model in self._listed("list_imported_models", "modelSummaries"):
            if self.models.is_ours(model["modelArn"]):
                delete = partial(self.models.client.delete_imported_model, modelIdentifier=model["modelArn"])
                if not unless(delete, "ConflictException", GONE):
                    remaining.append(f"imported model {model['modelName']}")
        return self._kept(remaining)

    def _kept(self, remaining: list[str]) -> list[str]:
        """Return the remaining models and jobs. If there are any, and the settings do not tell it, the records have to."""
        self.keep_records = self.keep_records or (bool(remaining) and not self._enabled)
        return remaining

    def _listed(self, operation: str, key: str, **filters: str) -> list[dict[str, Any]]:
        """Return all resources that Bedrock lists by the prefix.

        If the account cannot call Bedrock, and no run ever used it, there are none.
        """
        try:
            return self.models.listed(operation, key, **filters)
        except (ClientError, BotoCoreError) as error:
            if not aws.is_out_of_reach(error) or self._was_used:
                raise
            logger.info("nothing in Bedrock: %s", error)
            return []

    @functools.cached_property
    def _was_used(self) -> bool:
        """Whether a run may have made something in Bedrock, by the deployed setting or by the record of any run.

        A run's record says what the run makes in Bedrock before a job starts, and stays until no model remains. The setting
        alone is not enough, because a run's input or an earlier deployment may have had another value.
        """
        if self._enabled:
            return True
        s3 = aws.client("s3")
        records = (
            item["Key"]
            for item in aws.all_of(s3, "list_object_versions", "Versions", Bucket=self._bucket, Prefix=names.MODELS)
            if item["IsLatest"] and names.is_record(item["Key"])
        )
        bodies = (s3.get_object(Bucket=self._bucket, Key=key)["Body"].read() for key in records)
        return any(_used_bedrock(json.loads(body)) for body in bodies)


def _used_bedrock(record: dict[str, Any]) -> bool:
    # Records of the versions before bedrock.mode name the base model alone.
    return bool(record["bedrock_base_model"]) or record.get("bedrock_mode") == "import"
