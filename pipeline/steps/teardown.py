"""The teardown in `cdk destroy`: stops and deletes the resources that runs made, which CloudFormation does not know.

CDK's Provider framework calls `on_event` once, and then `is_complete` every few seconds until it returns true (an hour at
most). Both only act when the stack itself is being deleted. The teardown finds resources by the stack's prefix, and deletes
only those with the stack's tag `tuneway:stack`. The order is: executions, jobs (and wait for them), the endpoint's schedules,
the endpoint and Bedrock's deployment (and wait for both), endpoint configs and models, the Model Registry's group, Bedrock's
models, the endpoint's log group, and the bucket's versions and uploads. At the end it waits until the last stopped execution is
a minute old, because a function that it has called may still make something. CloudFormation deletes the roles after this
resource, because DeleteEndpoint needs them.

CloudFormation shows no message of a custom resource before it has ended, and then only the reason of a failure. So a second
resource, of the type `MODEL_USERS`, is deleted at the same time. It checks whether a deployment or throughput that is not the
stack's uses a custom model of the stack. It checks once, and again only if AWS is too busy to answer. It fails at once
with a line that names the user of the model, while the teardown goes on.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, names, registry, schedules
from pipeline.aws import unless
from pipeline.bedrock_teardown import BedrockTeardown
from pipeline.custom_models import CustomModels

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

PATIENCE_MINUTES = 50
"""The time of the teardown. CloudFormation waits an hour for a custom resource, and the framework 55 minutes. The teardown
ends earlier, so that it can name the remaining resources."""

CLOSED = "TunewayDestroyed"
"""The Sid of the bucket policy's statement that forbids new objects."""

MOST_CHARACTERS = 2000
"""The most characters of the names of remaining resources. A custom resource's answer has 4,096 bytes at most
(`pipeline.custom_models.NAMED_AT_MOST`), and the framework adds the stack traces of both functions."""

MAKING = timedelta(minutes=1)
"""The longest run of a function that makes a job, a model or an endpoint (infra/steps.py, `minutes`)."""

_NOT_NOW = ("ValidationException", "ConflictException")
"""The codes with which SageMaker refuses to delete a version or group that is gone, changes, or is not empty."""

OBJECTS_SECONDS = 600
"""How long one call deletes objects. It deletes a thousand per request, and the function has 15 minutes."""


def on_event(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer CloudFormation's event.

    The id never changes, so that CloudFormation never takes an update for a replacement. The framework passes the answer to
    every call of `is_complete`, and with it the time at which to give up.
    """
    deadline = int(time.time()) + 60 * PATIENCE_MINUTES
    return {"PhysicalResourceId": event["ResourceProperties"]["Prefix"], "Deadline": deadline}


def is_complete(event: dict[str, Any], _context: object) -> dict[str, bool]:
    """Delete the resources that can be deleted now. The teardown is complete when none of the stack's runs has any.

    Raises:
        RuntimeError: somebody else uses a custom model (for the resource of the type `MODEL_USERS`), or a resource could not be
            deleted within the teardown's time. CloudFormation shows the line, and another `cdk destroy` goes on from there.
        ClientError: AWS refused a call, but not because a resource is still changing or because AWS is busy.
    """
    if event["RequestType"] != "Delete":
        return {"IsComplete": True}
    if event["ResourceType"] == names.MODEL_USERS:
        known = _name_users(event["ResourceProperties"])
        return {"IsComplete": known or time.time() > event["Deadline"]}
    try:
        remaining = TeardownPass(event["ResourceProperties"]).step()
    except (ClientError, BotoCoreError) as error:
        if not aws.is_busy(error):
            raise
        remaining = [f"AWS is busy: {error}"]
    logger.info("not deleted yet: %s", remaining or "nothing")
    if remaining and time.time() > event["Deadline"]:
        lines = "; ".join(remaining)
        if len(lines) > MOST_CHARACTERS:
            lines = f"{lines[:MOST_CHARACTERS]} ... (the whole list is in this function's log)"
        raise RuntimeError(
            f"not deleted after {PATIENCE_MINUTES} minutes: {lines}. Let it end, or delete it in the console; "
            "then run `cdk destroy` again"
        )
    return {"IsComplete": not remaining}


def _name_users(properties: dict[str, str]) -> bool:
    """Fail if somebody else uses a custom model that the teardown has to delete. Return False if AWS is too busy to answer."""
    if properties["KeepModels"] == "true":
        return True
    try:
        uses = CustomModels(properties["Prefix"]).foreign_uses()
    except (ClientError, BotoCoreError) as error:
        # The teardown makes the same calls, and decides which errors to retry.
        logger.info("it is not known who uses the custom models: %s", error)
        return not aws.is_busy(error) or aws.is_out_of_reach(error)
    if uses:
        raise RuntimeError(
            f"{'; '.join(uses)}. It may still be needed; if not, run that command now. The rest of the stack is being deleted "
            f"meanwhile, and the model when it is free, for up to {PATIENCE_MINUTES} minutes; then run `cdk destroy` again"
        )
    return True


class TeardownPass:
    """One pass over all resources. It deletes those that can be deleted, and names the others."""

    def __init__(self, properties: dict[str, str]) -> None:
        """Read the properties of the custom resource.

        Args:
            properties: `Prefix`, `Bucket`, `Rule` (name), `StateMachines` (ARNs), `KeepModels` and `BedrockEnabled`.
        """
        self.prefix = properties["Prefix"]
        self.bucket = properties["Bucket"]
        self.rule = properties["Rule"]
        self.state_machines = properties["StateMachines"].split(",")
        self.keep_models = properties["KeepModels"] == "true"
        self.sagemaker = aws.client("sagemaker")
        enabled = properties["BedrockEnabled"] == "true"
        self.bedrock = BedrockTeardown(self.prefix, self.bucket, keep_models=self.keep_models, enabled=enabled)

    def step(self) -> list[str]:
        """Do one pass, and return the names of the remaining resources of the first stage that has any.

        A stage begins only when nothing remains of the stages before it.
        """
        stages: tuple[tuple[Callable[[], list[str]], ...], ...] = (
            (self._notifications, self._executions),
            (self.training_jobs, self.bedrock.customization_jobs),
            # Both take their time to go, so they go together.
            (self.endpoint_schedules, self.endpoint, self.bedrock.deployment),
            (
                *(self._endpoint_configs, self._models, self._registered_models),
                *(self.bedrock.custom_models, self.bedrock.import_jobs, self.bedrock.imported_models),
                *(self._log_group, self._objects),
            ),
            (self._calls_under_way,),
        )
        for stage in stages:
            remaining = [name for action in stage for name in action()]
            if remaining:
                return remaining
        return []

    def _executions(self) -> list[str]:
        client = aws.client("stepfunctions")
        running = []
        for machine in self.state_machines:
            found = aws.all_of(client, "list_executions", "executions", stateMachineArn=machine, statusFilter="RUNNING")
            running += [execution["executionArn"] for execution in found]
        for arn in running:
            stop = partial(client.stop_execution, executionArn=arn, error="Tuneway.Destroyed", cause="cdk destroy")
            # The execution may have ended meanwhile. The next pass lists the executions again.
            unless(stop, "ValidationException", "ExecutionDoesNotExist")
        return running

    def _calls_under_way(self) -> list[str]:
        """Return the executions that ended so lately that a function which they called may still make something.

        An abort and a time-out end the execution alone. A Lambda function that it has called runs to its own end.
        """
        client, earliest = aws.client("stepfunctions"), datetime.now(UTC) - MAKING
        return [
            f"a function that {execution['executionArn']} has called may still run"
            for machine in self.state_machines
            for status in ("ABORTED", "TIMED_OUT")
            for execution in aws.all_of(
                client, "list_executions", "executions", stateMachineArn=machine, statusFilter=status
            )
            if execution["stopDate"] > earliest
        ]

    def _notifications(self) -> list[str]:
        """Disable the rule that starts cleanups. The cleanup of a stopped execution would work against the teardown."""
        unless(partial(aws.client("events").disable_rule, Name=self.rule), "ResourceNotFoundException")
        return []

    def training_jobs(self) -> list[str]:
        """Stop the training jobs, and name those that have not ended."""
        unfinished = []
        for status in ("InProgress", "Stopping"):
            for job in self._listed("list_training_jobs", "TrainingJobSummaries", StatusEquals=status):
                if not self._is_ours(job["TrainingJobArn"]):
                    continue
                unfinished.append(job["TrainingJobName"])
                if status == "InProgress":
                    unless(
                        partial(self.sagemaker.stop_training_job, TrainingJobName=job["TrainingJobName"]),
                        "ValidationException",  # The job has ended meanwhile.
                    )
        return unfinished

    def endpoint_schedules(self) -> list[str]:
        """Delete the two schedules of the endpoint."""
        for name in (schedules.idle_name(self.prefix), self.prefix):
            schedules.remove(name)
        return []

    def endpoint(self) -> list[str]:
        """Delete the endpoint, and name it until it is gone."""
        for endpoint in self._listed("list_endpoints", "Endpoints"):
            if endpoint["EndpointName"] != self.prefix:
                continue
            if endpoint["EndpointStatus"] != "Deleting":
                # Some states do not allow it yet ("Cannot update in-progress endpoint"). The next pass tries again.
                unless(lambda: self.sagemaker.delete_endpoint(EndpointName=self.prefix), "ValidationException")
            return [self.prefix]
        return []

    def _endpoint_configs(self) -> list[str]:
        for config in self._listed("list_endpoint_configs", "EndpointConfigs"):
            if self._is_ours(config["EndpointConfigArn"]):
                delete = partial(self.sagemaker.delete_endpoint_config, EndpointConfigName=config["EndpointConfigName"])
                unless(delete, "ValidationException")  # Somebody else has deleted it.
        return []

    def _models(self) -> list[str]:
        for model in self._listed("list_models", "Models"):
            if self._is_ours(model["ModelArn"]):
                unless(partial(self.sagemaker.delete_model, ModelName=model["ModelName"]), "ValidationException")
        return []

    def _registered_models(self) -> list[str]:
        """Delete the versions in the Model Registry, and then their group. Name the group until it is gone.

        The versions belong to the models, so they stay with models that stay.
        """
        if self.keep_models:
            return []
        client = self.sagemaker
        for group in self._listed("list_model_package_groups", "ModelPackageGroupSummaryList"):
            if group["ModelPackageGroupName"] != self.prefix or not self._is_ours(group["ModelPackageGroupArn"]):
                continue
            for version in registry.versions(client, self.prefix):
                arn = version["ModelPackageArn"]
                unless(partial(client.delete_model_package, ModelPackageName=arn), *_NOT_NOW)
            # SageMaker refuses to delete a group that still has versions, and a deleted version may stay for some seconds.
            if not unless(partial(client.delete_model_package_group, ModelPackageGroupName=self.prefix), *_NOT_NOW):
                return [f"group {self.prefix} in the Model Registry"]
        return []

    def _log_group(self) -> list[str]:
        logs = aws.client("logs")
        name = f"/aws/sagemaker/Endpoints/{self.prefix}"
        unless(lambda: logs.delete_log_group(logGroupName=name), "ResourceNotFoundException")
        return []

    def _objects(self) -> list[str]:
        """Delete every version, delete marker and open upload, because CloudFormation only deletes an empty bucket."""
        s3, until = aws.client("s3"), time.time() + OBJECTS_SECONDS
        self._close(s3)
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
            for upload in page.get("Uploads", []):
                key, number = upload["Key"], upload["UploadId"]
                abort = partial(s3.abort_multipart_upload, Bucket=self.bucket, Key=key, UploadId=number)
                unless(abort, "NoSuchUpload")  # The upload is complete meanwhile.
        deleted = True
        remaining: list[str] = []
        # After a deletion the objects are listed again, because the next page could begin at another object.
        while deleted:
            deleted, remaining = False, []
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
                entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
                objects = [
                    {"Key": entry["Key"], "VersionId": entry["VersionId"]}
                    for entry in entries
                    if not (self.keep_models and names.is_model(entry["Key"]))
                    and not (self.bedrock.keep_records and names.is_record(entry["Key"]))
                ]
                if not objects:
                    continue
                answer = s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
                # A successful call may still report that AWS was busy for an object (SlowDown, InternalError; API reference,
                # DeleteObjects). The next pass tries again.
                if refused := answer.get("Errors", []):
                    why = refused[0].get("Message") or refused[0].get("Code")
                    remaining.append(f"{len(refused)} objects in s3://{self.bucket} ({why})")
                deleted = deleted or len(objects) > len(refused)
                if time.time() > until:
                    return [*remaining, f"objects in s3://{self.bucket}"]
        return remaining

    def _close(self, s3: Any) -> None:
        """Forbid writing to the bucket, because a function of a stopped execution runs on for up to 15 minutes."""
        statements = json.loads(s3.get_bucket_policy(Bucket=self.bucket)["Policy"])["Statement"]
        if any(statement.get("Sid") == CLOSED for statement in statements):
            return
        everything = f"arn:{self.state_machines[0].split(':')[1]}:s3:::{self.bucket}/*"
        closed = {"Sid": CLOSED, "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": everything}
        policy = {"Version": "2012-10-17", "Statement": [*statements, closed]}
        s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(policy))

    def _listed(self, operation: str, key: str, **filters: str) -> list[dict[str, Any]]:
        """Return all resources that SageMaker lists by the prefix."""
        return aws.all_of(self.sagemaker, operation, key, NameContains=self.prefix, **filters)

    def _is_ours(self, arn: str) -> bool:
        tags = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return {"Key": names.STACK_TAG, "Value": self.prefix} in tags
