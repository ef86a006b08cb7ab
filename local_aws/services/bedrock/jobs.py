"""Model customization jobs: accepted or refused as Bedrock does, then run under the service role's session.

A job reads its data with the role, checks every documented rule and moves through the documented statuses. It
does not train: the metrics files it leaves have their header line and no figures, and the custom model it
makes holds nothing.

Sources: Bedrock API Reference (CreateModelCustomizationJob, GetModelCustomizationJob), User Guide "Submit a
model customization job", "Monitor your model customization job", "Analyze the results of a model
customization job" (layout and columns of the metrics files), "Troubleshooting model customization issues"
(texts), "Create a service role for model customization" (trust).
"""

from __future__ import annotations

import logging
import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients, faults
from local_aws.core.shapes import ServiceError
from local_aws.ministack.sessions import NotAssumableError, role_session
from local_aws.services.bedrock import data, models

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("local_aws.bedrock")
STEPS = ("validationDetails", "dataProcessingDetails", "trainingDetails")
_METRICS = {
    "training_artifacts/step_wise_training_metrics.csv": "step_number,epoch_number,training_loss,perplexity\n",
    "validation_artifacts/post_fine_tuning_validation/validation_metrics.csv": (
        "step_number,epoch_number,validation_loss,perplexity\n"
    ),
}
_KEPT = ("jobName", "roleArn", "clientRequestToken", "trainingDataConfig", "outputDataConfig", "vpcConfig")
_BAD_URI = (
    "Invalid {what} input data configuration. "
    "Check the input data S3 Uris(Uri should be a file, not a directory) and retry request"
)


def _now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """The 12 characters that end the ARNs of jobs and custom models."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))


def _stage(status: str, started: datetime) -> dict[str, Any]:
    return {"status": status, "creationTime": started, "lastModifiedTime": started}


@dataclass
class CustomizationJob:
    """A customization job. `details` is what GetModelCustomizationJob answers, `base` the model it customizes."""

    arn: str
    model_arn: str
    base: models.FoundationModel
    request: dict[str, Any]
    details: dict[str, Any]
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass
class BedrockAccount:
    """What one account has in one Region. Names of jobs and custom models never come free."""

    jobs: list[CustomizationJob] = field(default_factory=list)
    custom_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_model_names: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def job(self, identifier: str) -> CustomizationJob:
        """The job of a name or ARN. Raises ServiceError."""
        for job in self.jobs:
            if identifier in (job.arn, job.details["jobName"]):
                return job
        raise ServiceError("ResourceNotFoundException", "The provided model customization job was not found.", 404)

    def model(self, identifier: str) -> dict[str, Any]:
        """The custom model of a name or ARN. Raises ServiceError."""
        for arn, model in self.custom_models.items():
            if identifier in (arn, model["modelName"]):
                return model
        raise ServiceError("ResourceNotFoundException", "The provided custom model was not found.", 404)


class Jobs:
    """Creates, runs and stops the jobs of all accounts.

    Args:
        endpoint_url: this server's own endpoint.
        step_seconds: how long each of a job's three stages takes.
        tag: called with an ARN and its tags when a resource is made.
    """

    def __init__(
        self, endpoint_url: str, tag: Callable[[str, dict[str, str]], None], step_seconds: float = 0.3
    ) -> None:
        self._endpoint_url = endpoint_url
        self._tag = tag
        self.step_seconds = step_seconds
        self._accounts: dict[tuple[str, str], BedrockAccount] = {}

    def account(self, account: str, region: str) -> BedrockAccount:
        """What the account has in the Region."""
        return self._accounts.setdefault((account, region), BedrockAccount())

    def create(self, params: dict[str, Any], account: str, region: str) -> str:
        """Accept a job and start it; returns its ARN. Raises ServiceError for what Bedrock refuses at once."""
        held = self.account(account, region)
        with held.lock:
            token = params.get("clientRequestToken")
            for job in held.jobs:
                if token and job.details.get("clientRequestToken") == token:
                    return job.arn
            base = self._base_model(params, region)
            self._refuse_used_names(held, params)
            self._refuse_bad_request(base, params)
            job = self._new_job(params, base, account, region)
        s3 = self._service_role_s3(job, region)
        self._check_access(s3, params)
        with held.lock:
            self._refuse_used_names(held, params)
            held.jobs.append(job)
            held.used_model_names.add(params["customModelName"])
        self._tag(job.arn, {tag["key"]: tag["value"] for tag in params.get("jobTags", [])})
        threading.Thread(target=self._run, args=(job, held, s3, account), daemon=True, name="bedrock-job").start()
        return job.arn

    def stop(self, job: CustomizationJob, held: BedrockAccount) -> None:
        """InProgress → Stopping → Stopped. Raises ServiceError when the job has ended."""
        with held.lock:
            if job.details["status"] not in ("InProgress", "Stopping"):
                raise ServiceError(
                    "ConflictException", f"The model customization job is in the {job.details['status']} status.", 400
                )
            job.details.update(status="Stopping", lastModifiedTime=_now())
            job.stopping.set()

    # Unconfirmed: A customization job on an end-of-life model | Here: `ResourceNotFoundException`, "This model version
    #   has reached the end of its life. ..." | Source: the message of invoking one; GetFoundationModel still answers
    #   LEGACY here
    # Unconfirmed: A customization job on a wrong id, or a model that cannot be customized in the Region | Here:
    #   `ValidationException`, "The provided model identifier is invalid." | Source: AWS re:Post, "errors when I
    #   fine-tune a model"
    def _base_model(self, params: dict[str, Any], region: str) -> models.FoundationModel:
        base = models.find(params["baseModelIdentifier"], region)
        now = _now()
        if base is not None and base.end_of_life is not None and now >= base.end_of_life:
            raise ServiceError(
                "ResourceNotFoundException",
                "This model version has reached the end of its life. "
                "Please refer to the AWS documentation for more details.",
                404,
            )
        if base is None or base.rules is None or base.lifecycle_status(now) == "LEGACY":
            raise ServiceError("ValidationException", "The provided model identifier is invalid.")
        if params.get("customizationType", "FINE_TUNING") != "FINE_TUNING":
            raise ServiceError(
                "ValidationException",
                f"The provided model does not support {params['customizationType']} customization.",
            )
        return base

    # Unconfirmed: A used custom model name | Here: `ValidationException`, "The provided custom model name is currently
    #   in use." | Source: the message for job names, worded alike
    def _refuse_used_names(self, held: BedrockAccount, params: dict[str, Any]) -> None:
        if any(job.details["jobName"] == params["jobName"] for job in held.jobs):
            raise ServiceError("ValidationException", "The provided job name is currently in use.")
        if params["customModelName"] in held.used_model_names:
            raise ServiceError("ValidationException", "The provided custom model name is currently in use.")

    # Unconfirmed: Hyperparameters out of range, count of records, reserved words | Here: hyperparameters:
    #   ValidationException at once; the data: a Failed job; wording our own | Source: the rules are documented, the
    #   texts are not
    def _refuse_bad_request(self, base: models.FoundationModel, params: dict[str, Any]) -> None:
        for what, uri in _inputs(params):
            if not uri.endswith(".jsonl"):
                raise ServiceError("ValidationException", _BAD_URI.format(what=what))
        if base.rules is not None:
            try:
                data.check_hyperparameters(base.rules, params.get("hyperParameters", {}))
            except data.InvalidDataError as error:
                raise ServiceError("ValidationException", str(error)) from None

    def _new_job(
        self, params: dict[str, Any], base: models.FoundationModel, account: str, region: str
    ) -> CustomizationJob:
        root, now = f"arn:aws:bedrock:{region}:{account}", _now()
        job_arn = f"{root}:model-customization-job/{base.id}/{new_id()}"
        details = {name: params[name] for name in _KEPT if name in params} | {
            "jobArn": job_arn,
            "outputModelName": params["customModelName"],
            "baseModelArn": base.arn(region),
            "customizationType": "FINE_TUNING",
            "hyperParameters": dict(params.get("hyperParameters", {})),
            "validationDataConfig": params.get("validationDataConfig", {"validators": []}),
            "status": "InProgress",
            "statusDetails": {"validationDetails": _stage("InProgress", now)}
            | {step: _stage("NotStarted", now) for step in STEPS[1:]},
            "creationTime": now,
            "lastModifiedTime": now,
        }
        return CustomizationJob(job_arn, f"{root}:custom-model/{base.id}/{new_id()}", base, params, details)

    def _service_role_s3(self, job: CustomizationJob, region: str) -> Any:
        """An S3 client under the service role; aws:SourceArn is the job's ARN, as documented trust policies have it."""
        try:
            session = role_session(
                job.request["roleArn"],
                f"BedrockModelCustomization-{job.arn[-12:]}",
                "bedrock",
                source_arn=job.arn,
                region=region,
            )
        except NotAssumableError:
            raise ServiceError("ValidationException", "Could not assume provided IAM role.") from None
        return clients.client("s3", session, endpoint_url=self._endpoint_url, region=region)

    # Unconfirmed: Which checks a customization job makes before it is accepted | Here: trust, GetObject and ListBucket
    #   on the inputs, a written `.write_access_check_file.tmp` in the output | Source: texts in "Troubleshooting model
    #   customization issues"
    def _check_access(self, s3: Any, params: dict[str, Any]) -> None:
        for _what, uri in _inputs(params):
            bucket, key = clients.split_uri(uri)
            try:
                s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
                s3.head_object(Bucket=bucket, Key=key)
            except ClientError:
                raise ServiceError(
                    "ValidationException",
                    f"Could not validate GetObject permissions to access Amazon S3 bucket: {bucket} at key {key}",
                ) from None
        bucket, key = clients.split_uri(params["outputDataConfig"]["s3Uri"])
        key = f"{key.rstrip('/')}/.write_access_check_file.tmp".lstrip("/")
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        except ClientError:
            raise ServiceError(
                "ValidationException",
                "Amazon S3 perms missing (PutObject): Could not validate PutObject permissions to access S3 bucket: "
                f"{bucket} at key {key}",
            ) from None

    def _run(self, job: CustomizationJob, held: BedrockAccount, s3: Any, account: str) -> None:
        failure = ""
        try:
            for index, step in enumerate(STEPS):
                self._enter(job, held, index)
                fault = faults.take("customization").how if step == "trainingDetails" else ""
                if fault == "fail":
                    raise RuntimeError("a fault was asked for")
                if fault == "stop":
                    self.stop(job, held)
                if job.stopping.wait(faults.SLOW_SECONDS if fault == "slow" else self.step_seconds):
                    break
                if step == "validationDetails":
                    self._check_data(job, s3)
            else:
                self._write_metrics(job, s3)
        except data.InvalidDataError as error:
            failure = str(error)
        except ClientError as error:
            failure = f"Amazon S3: {error.response['Error'].get('Message', error.response['Error'].get('Code', ''))}"
        except Exception:
            logger.exception("Customization job %s", job.arn)
            failure = "Encountered an unexpected error when processing the request, please try again"
        self._finish(job, held, failure, account)

    def _enter(self, job: CustomizationJob, held: BedrockAccount, index: int) -> None:
        with held.lock:
            now = _now()
            for position, step in enumerate(STEPS):
                stage = job.details["statusDetails"][step]
                status = "Completed" if position < index else "InProgress" if position == index else "NotStarted"
                if stage["status"] != status:
                    stage.update(status=status, lastModifiedTime=now)

    def _check_data(self, job: CustomizationJob, s3: Any) -> None:
        rules, total = job.base.rules, 0
        if rules is None:
            return
        for what, uri in _inputs(job.request):
            bucket, key = clients.split_uri(uri)
            content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            records = data.count_records(rules, key.rsplit("/", 1)[-1], content)
            data.check_file(rules, what, records)
            total += records
        data.check_total(rules, total)

    # Unconfirmed: Metrics files of a customization job | Here: the documented paths and header lines, no rows;
    #   GetModelCustomizationJob has no trainingMetrics | Source: nothing is trained here, so no loss is told
    def _write_metrics(self, job: CustomizationJob, s3: Any) -> None:
        bucket, prefix = clients.split_uri(job.request["outputDataConfig"]["s3Uri"])
        folder = f"{prefix.rstrip('/')}/model-customization-job-{job.arn[-12:]}".lstrip("/")
        for path, header in _METRICS.items():
            if path.startswith("training") or len(_inputs(job.request)) > 1:
                s3.put_object(Bucket=bucket, Key=f"{folder}/{path}", Body=header.encode())

    def _finish(self, job: CustomizationJob, held: BedrockAccount, failure: str, account: str) -> None:
        status = "Failed" if failure else "Stopped" if job.stopping.is_set() else "Completed"
        with held.lock:
            now = _now()
            if status == "Completed":
                held.custom_models[job.model_arn] = self._custom_model(job, now, account)
                tags = {tag["key"]: tag["value"] for tag in job.request.get("customModelTags", [])}
                self._tag(job.model_arn, tags)
                job.details["outputModelArn"] = job.model_arn
            for stage in job.details["statusDetails"].values():
                if stage["status"] == "InProgress":
                    stage.update(status=status, lastModifiedTime=now)
            if failure:
                job.details["failureMessage"] = failure
            job.details.update(status=status, lastModifiedTime=now, endTime=now)

    def _custom_model(self, job: CustomizationJob, now: datetime, account: str) -> dict[str, Any]:
        shared = ("jobName", "jobArn", "baseModelArn", "customizationType", "hyperParameters", "trainingDataConfig",
                  "validationDataConfig", "outputDataConfig")  # fmt: skip
        return {name: job.details[name] for name in shared if name in job.details} | {
            "modelArn": job.model_arn,
            "modelName": job.request["customModelName"],
            "creationTime": now,
            "modelStatus": "Active",
        }


def _inputs(params: dict[str, Any]) -> list[tuple[str, str]]:
    """The data files of a job: ("training" or "validation", URI)."""
    validators = params.get("validationDataConfig", {}).get("validators", [])
    training = params["trainingDataConfig"].get("s3Uri", "")
    return [("training", training)] + [("validation", v["s3Uri"]) for v in validators]
