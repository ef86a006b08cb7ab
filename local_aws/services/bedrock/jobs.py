"""Model customization jobs: they are accepted or refused as by Bedrock, then run under the service role's session.

A job reads its data with the role, checks every documented rule and goes through the documented statuses. It does not
train: its metrics files have a header line and no figures, and its custom model is empty.

Sources: Bedrock API Reference (CreateModelCustomizationJob, GetModelCustomizationJob), User Guide "Submit a
model customization job", "Monitor your model customization job", "Analyze the results of a model
customization job" (layout and columns of the metrics files), "Troubleshooting model customization issues"
(texts), "Create a service role for model customization" (trust).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients, faults
from local_aws.core.shapes import ServiceError
from local_aws.ministack.sessions import NotAssumableError, role_session
from local_aws.services.apis import BEDROCK
from local_aws.services.bedrock import data, models
from local_aws.services.bedrock.account import Bedrock, BedrockAccount, CustomizationJob, listed, new_id, now

if TYPE_CHECKING:
    from datetime import datetime

    from local_aws.core.registry import Request

logger = logging.getLogger("local_aws.bedrock")
STEPS = ("validationDetails", "dataProcessingDetails", "trainingDetails")
_METRICS = {
    "training_artifacts/step_wise_training_metrics.csv": "step_number,epoch_number,training_loss,perplexity\n",
    "validation_artifacts/post_fine_tuning_validation/validation_metrics.csv": (
        "step_number,epoch_number,validation_loss,perplexity\n"
    ),
}
_KEPT = ("jobName", "roleArn", "clientRequestToken", "trainingDataConfig", "outputDataConfig", "vpcConfig")
_MODEL_MEMBERS = (
    *("jobName", "jobArn", "baseModelArn", "customizationType", "hyperParameters"),
    *("trainingDataConfig", "validationDataConfig", "outputDataConfig"),
)
_BAD_URI = (
    "Invalid {what} input data configuration. "
    "Check the input data S3 Uris(Uri should be a file, not a directory) and retry request"
)


@BEDROCK.operation
def create_model_customization_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account, token = bedrock.account(request), params.get("clientRequestToken")
    with account.lock:
        for job in account.jobs:
            if token and job.details.get("clientRequestToken") == token:
                return {"jobArn": job.arn}
        base, rules = _base_model(params, request.region, bedrock.controls.legacy_model)
        _refuse_used_names(account, params)
        _refuse_bad_request(rules, params)
        job = _new_job(params, base, request)
    s3 = _service_role_s3(bedrock, job, request.region)
    _check_access(s3, params)
    with account.lock:
        _refuse_used_names(account, params)
        account.jobs.append(job)
        account.used_model_names.add(params["customModelName"])
    bedrock.tag(job.arn, params.get("jobTags"))
    threading.Thread(target=_run, args=(bedrock, job, rules, account, s3), daemon=True, name="bedrock-job").start()
    return {"jobArn": job.arn}


@BEDROCK.operation
def get_model_customization_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return bedrock.account(request).job(params["jobIdentifier"]).details


@BEDROCK.operation
def list_model_customization_jobs(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    rows = [
        {
            **job.details,
            "customModelArn": job.details.get("outputModelArn"),
            "customModelName": job.details["outputModelName"],
        }
        for job in bedrock.account(request).jobs
    ]
    return listed(rows, params, "modelCustomizationJobSummaries", "jobName", "creationTime")


@BEDROCK.operation
def stop_model_customization_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account = bedrock.account(request)
    _stop(account.job(params["jobIdentifier"]), account)
    return {}


def _stop(job: CustomizationJob, account: BedrockAccount) -> None:
    """Make a job Stopping, and then Stopped by its thread. Raises ServiceError if the job has ended."""
    with account.lock:
        status = job.details["status"]
        if status not in ("InProgress", "Stopping"):
            raise ServiceError("ConflictException", f"The model customization job is in the {status} status.")
        job.details.update(status="Stopping", lastModifiedTime=now())
        job.stopping.set()


# Unconfirmed: A customization job on an end-of-life model | Here: `ResourceNotFoundException`, "This model version has
#   reached the end of its life. ..." | Source: the message of invoking one; GetFoundationModel still answers LEGACY here
# Unconfirmed: A customization job on a wrong id, or a model that cannot be customized in the Region | Here:
#   `ValidationException`, "The provided model identifier is invalid." | Source: AWS re:Post, "errors when I fine-tune a
#   model"
def _base_model(params: dict[str, Any], region: str, legacy: str) -> tuple[models.FoundationModel, models.Rules]:
    base = models.find(params["baseModelIdentifier"], region, legacy)
    if base is not None and base.end_of_life is not None and now() >= base.end_of_life:
        text = "This model version has reached the end of its life. Please refer to the AWS documentation for more details."
        raise ServiceError("ResourceNotFoundException", text, 404)
    if base is None or base.rules is None or base.lifecycle_status(now()) == "LEGACY":
        raise ServiceError("ValidationException", "The provided model identifier is invalid.")
    kind = params.get("customizationType", "FINE_TUNING")
    if kind != "FINE_TUNING":
        raise ServiceError("ValidationException", f"The provided model does not support {kind} customization.")
    return base, base.rules


# Unconfirmed: A used custom model name | Here: `ValidationException`, "The provided custom model name is currently in
#   use." | Source: the message for job names, worded alike
def _refuse_used_names(account: BedrockAccount, params: dict[str, Any]) -> None:
    if any(job.details["jobName"] == params["jobName"] for job in account.jobs):
        raise ServiceError("ValidationException", "The provided job name is currently in use.")
    if params["customModelName"] in account.used_model_names:
        raise ServiceError("ValidationException", "The provided custom model name is currently in use.")


# Unconfirmed: Hyperparameters out of range, count of records, reserved words | Here: hyperparameters: ValidationException
#   at once; the data: a Failed job; wording our own | Source: the rules are documented, the texts are not
def _refuse_bad_request(rules: models.Rules, params: dict[str, Any]) -> None:
    for what, uri in _inputs(params):
        if not uri.endswith(".jsonl"):
            raise ServiceError("ValidationException", _BAD_URI.format(what=what))
    try:
        data.check_hyperparameters(rules, params.get("hyperParameters", {}))
    except data.InvalidDataError as error:
        raise ServiceError("ValidationException", str(error)) from None


def _new_job(params: dict[str, Any], base: models.FoundationModel, request: Request) -> CustomizationJob:
    def stage(status: str, started: datetime) -> dict[str, Any]:
        return {"status": status, "creationTime": started, "lastModifiedTime": started}

    root, moment = f"arn:aws:bedrock:{request.region}:{request.account}", now()
    job_arn = f"{root}:model-customization-job/{base.id}/{new_id()}"
    details = {name: params[name] for name in _KEPT if name in params} | {
        "jobArn": job_arn,
        "outputModelName": params["customModelName"],
        "baseModelArn": base.arn(request.region),
        "customizationType": "FINE_TUNING",
        "hyperParameters": dict(params.get("hyperParameters", {})),
        "validationDataConfig": params.get("validationDataConfig", {"validators": []}),
        "status": "InProgress",
        "statusDetails": {step: stage("NotStarted" if step != STEPS[0] else "InProgress", moment) for step in STEPS},
        "creationTime": moment,
        "lastModifiedTime": moment,
    }
    return CustomizationJob(job_arn, f"{root}:custom-model/{base.id}/{new_id()}", params, details)


def _service_role_s3(bedrock: Bedrock, job: CustomizationJob, region: str) -> Any:
    """Return an S3 client under the service role. aws:SourceArn is the job's ARN, as in documented trust policies."""
    role, name = job.request["roleArn"], f"BedrockModelCustomization-{job.arn[-12:]}"
    try:
        session = role_session(role, name, "bedrock", source_arn=job.arn, region=region)
    except NotAssumableError:
        raise ServiceError("ValidationException", "Could not assume provided IAM role.") from None
    return clients.client("s3", session, endpoint_url=bedrock.endpoint_url, region=region)


# Unconfirmed: Which checks a customization job makes before it is accepted | Here: trust, GetObject and ListBucket on the
#   inputs, a written `.write_access_check_file.tmp` in the output | Source: texts in "Troubleshooting model
#   customization issues"
def _check_access(s3: Any, params: dict[str, Any]) -> None:
    for _what, uri in _inputs(params):
        bucket, key = clients.split_uri(uri)
        try:
            s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            s3.head_object(Bucket=bucket, Key=key)
        except ClientError:
            text = f"Could not validate GetObject permissions to access Amazon S3 bucket: {bucket} at key {key}"
            raise ServiceError("ValidationException", text) from None
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


def _run(bedrock: Bedrock, job: CustomizationJob, rules: models.Rules, account: BedrockAccount, s3: Any) -> None:
    failure = ""
    try:
        for index, step in enumerate(STEPS):
            _enter(job, account, index)
            fault = faults.take("customization").how if step == "trainingDetails" else ""
            if fault == "fail":
                raise faults.JobFaultError
            if fault == "stop":
                _stop(job, account)
            if job.stopping.wait(faults.SLOW_SECONDS if fault == "slow" else bedrock.controls.step_seconds):
                break
            if step == "validationDetails":
                _check_data(job, rules, s3)
        else:
            _write_metrics(job, s3)
    except data.InvalidDataError as error:
        failure = str(error)
    except ClientError as error:
        failure = f"Amazon S3: {error.response['Error'].get('Message', error.response['Error'].get('Code', ''))}"
    except Exception as error:
        if not isinstance(error, faults.JobFaultError):
            logger.exception("Customization job %s", job.arn)
        failure = "Encountered an unexpected error when processing the request, please try again"
    _finish(bedrock, job, account, failure)


def _enter(job: CustomizationJob, account: BedrockAccount, index: int) -> None:
    with account.lock:
        for position, step in enumerate(STEPS):
            stage = job.details["statusDetails"][step]
            status = "Completed" if position < index else "InProgress" if position == index else "NotStarted"
            if stage["status"] != status:
                stage.update(status=status, lastModifiedTime=now())


def _check_data(job: CustomizationJob, rules: models.Rules, s3: Any) -> None:
    total = 0
    for what, uri in _inputs(job.request):
        bucket, key = clients.split_uri(uri)
        content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        records = data.count_records(rules, key.rsplit("/", 1)[-1], content)
        data.check_file(rules, what, records)
        total += records
    data.check_total(rules, total)


# Unconfirmed: Metrics files of a customization job | Here: the documented paths and header lines, no rows;
#   GetModelCustomizationJob has no trainingMetrics | Source: nothing is trained here, so there is no loss
def _write_metrics(job: CustomizationJob, s3: Any) -> None:
    bucket, prefix = clients.split_uri(job.request["outputDataConfig"]["s3Uri"])
    folder = f"{prefix.rstrip('/')}/model-customization-job-{job.arn[-12:]}".lstrip("/")
    for path, header in _METRICS.items():
        if path.startswith("training") or len(_inputs(job.request)) > 1:
            s3.put_object(Bucket=bucket, Key=f"{folder}/{path}", Body=header.encode())


def _finish(bedrock: Bedrock, job: CustomizationJob, account: BedrockAccount, failure: str) -> None:
    status = "Failed" if failure else "Stopped" if job.stopping.is_set() else "Completed"
    with account.lock:
        moment = now()
        if status == "Completed":
            model = {name: job.details[name] for name in _MODEL_MEMBERS if name in job.details}
            own = {"modelArn": job.model_arn, "modelName": job.request["customModelName"], "modelStatus": "Active"}
            account.custom_models[job.model_arn] = model | own | {"creationTime": moment}
            bedrock.tag(job.model_arn, job.request.get("customModelTags"))
            job.details["outputModelArn"] = job.model_arn
        for stage in job.details["statusDetails"].values():
            if stage["status"] == "InProgress":
                stage.update(status=status, lastModifiedTime=moment)
        if failure:
            job.details["failureMessage"] = failure
        job.details.update(status=status, lastModifiedTime=moment, endTime=moment)


def _inputs(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the data files of a job as ("training" or "validation", URI)."""
    validators = params.get("validationDataConfig", {}).get("validators", [])
    training = params["trainingDataConfig"].get("s3Uri", "")
    return [("training", training)] + [("validation", v["s3Uri"]) for v in validators]
