"""Model import jobs and imported models.

A job reads the model's files under its role's session, checks them (model_files.py) and keeps a copy of them, from which
the imported model answers (runtime.py). There is no operation that stops a job.

Sources: Bedrock API Reference (CreateModelImportJob, GetModelImportJob, GetImportedModel and their lists), User Guide "Use
Custom model import to import a customized open-source model" (Regions), "Create a service role for importing pre-trained
models" (trust), and the Qwen3 sample of aws-samples/amazon-bedrock-samples (names are used once; a missing permission on
the files fails the job; a full quota refuses the call). PARITY.md lists the beliefs that nobody could confirm.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients, faults
from local_aws.core.shapes import ServiceError
from local_aws.ministack.sessions import NotAssumableError, role_session
from local_aws.services import quotas
from local_aws.services.apis import BEDROCK
from local_aws.services.bedrock import model_files
from local_aws.services.bedrock.account import (
    Bedrock,
    BedrockAccount,
    ImportedModel,
    ImportJob,
    listed,
    new_id,
    not_found,
)

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.core.registry import Request

logger = logging.getLogger("local_aws.bedrock")
REGIONS = ("eu-central-1", "us-east-1", "us-east-2", "us-west-2")
_DENIED = ("AccessDenied", "AllAccessDisabled", "403")


# Unconfirmed: An import in a Region without Custom Model Import | Here: `ValidationException`, wording our own | Source: the
#   User Guide lists four Regions
# Unconfirmed: A used name of an import job or imported model | Here: `ValidationException`, worded like that of a
#   customization job | Source: sample notebooks say that both must be unique in account and Region; the operation also
#   has ConflictException
# Unconfirmed: Imported models over the quota | Here: `ServiceQuotaExceededException`, wording our own; jobs in progress
#   count | Source: the operation's errors; "If you receive a quote exceed exception" in that sample
# Unconfirmed: What an import job checks before it is accepted | Here: the trust of its role, as a customization job does |
#   Source: that sample says that a job fails for want of a permission on the files
# Differs: An import with a KMS key or in a VPC | AWS: encrypts the model, reads the files through the VPC | Here: the
#   members are accepted and have no effect | Why: local AWS encrypts nothing and has no network
@BEDROCK.operation
def create_model_import_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account, token = bedrock.account(request), params.get("clientRequestToken")
    job = _new_job(bedrock, params, request)
    with account.lock:
        for other in account.import_jobs:
            if token and other.token == token:
                return {"jobArn": other.arn}
        _refuse(account, params, request.region)
    s3 = _role_s3(bedrock, job, request.region)
    with account.lock:
        _refuse(account, params, request.region)
        account.import_jobs.append(job)
    bedrock.tag(job.arn, params.get("jobTags"))
    work = (bedrock, account, job, s3, params.get("importedModelTags"))
    threading.Thread(target=_run, args=work, daemon=True, name="bedrock-import").start()
    return {"jobArn": job.arn}


def _refuse(account: BedrockAccount, params: dict[str, Any], region: str) -> None:
    if region not in REGIONS:
        raise ServiceError("ValidationException", f"Custom Model Import is not supported in {region}.")
    jobs = [job.details for job in account.import_jobs]
    running = [job for job in jobs if job["status"] == "InProgress"]
    if any(job["jobName"] == params["jobName"] for job in jobs):
        raise ServiceError("ValidationException", "The provided job name is currently in use.")
    taken = {model.details["modelName"] for model in account.imported_models.values()}
    if params["importedModelName"] in taken | {job["importedModelName"] for job in running}:
        raise ServiceError("ValidationException", "The provided imported model name is currently in use.")
    limit = quotas.APPLIED.values()[quotas.IMPORTED_MODELS]
    if len(taken) + len(running) >= limit:
        text = f"You have reached the quota '{quotas.IMPORTED_MODELS}' of {limit:g}: delete an imported model or ask for more."
        raise ServiceError("ServiceQuotaExceededException", text)


def _new_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> ImportJob:
    moment = bedrock.clock()
    arn = f"arn:aws:bedrock:{request.region}:{request.account}:model-import-job/{new_id()}"
    kept = ("jobName", "importedModelName", "roleArn", "modelDataSource", "vpcConfig")
    details = {name: params[name] for name in kept if name in params}
    times = {"creationTime": moment, "lastModifiedTime": moment}
    return ImportJob(arn, params.get("clientRequestToken"), {"jobArn": arn, "status": "InProgress", **times, **details})


def _role_s3(bedrock: Bedrock, job: ImportJob, region: str) -> Any:
    """Return an S3 client under the job's role. aws:SourceArn is the job's ARN, as in documented trust policies."""
    name = f"BedrockModelImport-{job.arn[-12:]}"
    try:
        session = role_session(job.details["roleArn"], name, "bedrock", source_arn=job.arn, region=region)
    except NotAssumableError:
        raise ServiceError("ValidationException", "Could not assume provided IAM role.") from None
    return clients.client("s3", session, endpoint_url=bedrock.endpoint_url, region=region)


def _run(bedrock: Bedrock, account: BedrockAccount, job: ImportJob, s3: Any, tags: list[dict[str, str]] | None) -> None:
    fault, uri = faults.take("import"), job.details["modelDataSource"]["s3DataSource"]["s3Uri"]
    started = time.monotonic()
    model_id = new_id()
    folder, region = bedrock.state_dir / "bedrock" / "imported" / model_id, job.arn.split(":")[3]
    failure, found = "", None
    try:
        _download(s3, uri, folder)
        found = model_files.check(folder, region)
        if fault.how == "stuck":
            faults.wait_replaced(fault)
        if fault.how == "fail":
            raise faults.JobFaultError
    except model_files.InvalidModelError as error:
        failure = str(error)
    except ClientError as error:
        failure = _describe(error, uri)
    except Exception as error:
        if not isinstance(error, faults.JobFaultError):
            logger.exception("Import job %s", job.arn)
        failure = "Encountered an unexpected error when processing the request, please try again"
    time.sleep(max(0.0, bedrock.controls.import_seconds - (time.monotonic() - started)))
    if failure or found is None:
        shutil.rmtree(folder, ignore_errors=True)
        _finish(bedrock, account, job, {"status": "Failed", "failureMessage": failure})
        return
    arn = f"{job.arn.partition(':model-import-job/')[0]}:imported-model/{model_id}"
    model = ImportedModel(folder, found.chat, _describe_model(bedrock, job, arn, found))
    with account.lock:
        bedrock.tag(arn, tags)
        account.imported_models[arn] = model
        _finish(bedrock, account, job, {"status": "Completed", "importedModelArn": arn})


def _finish(bedrock: Bedrock, account: BedrockAccount, job: ImportJob, members: dict[str, str]) -> None:
    moment = bedrock.clock()
    with account.lock:
        job.details.update(members, endTime=moment, lastModifiedTime=moment)


# Unconfirmed: How an import job lists its files | Here: with the prefix's last slash and without it: both must be allowed |
#   Source: "add an `s3:prefix` condition key with your folder path" says neither
def _download(s3: Any, uri: str, folder: Path) -> None:
    """Copy the files at the top of an S3 prefix into a folder, after a check of their sizes."""
    bucket, key = clients.split_uri(uri)
    prefix = f"{key.rstrip('/')}/" if key else ""
    s3.list_objects_v2(Bucket=bucket, Prefix=prefix.rstrip("/"), MaxKeys=1)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    objects = {item["Key"].removeprefix(prefix): item["Size"] for page in pages for item in page.get("Contents", [])}
    sizes = {name: size for name, size in objects.items() if name and "/" not in name}
    model_files.check_sizes(sizes)
    folder.mkdir(parents=True)
    for name in sizes:
        with (folder / name).open("wb") as out:
            for chunk in s3.get_object(Bucket=bucket, Key=prefix + name)["Body"].iter_chunks(1 << 20):
                out.write(chunk)


def _describe(error: ClientError, uri: str) -> str:
    if error.response["Error"].get("Code") in _DENIED:
        return f"Amazon S3 perms missing: Bedrock does not have access to the model source {uri}."
    return f"Amazon S3: {error.response['Error'].get('Message', error.response['Error'].get('Code', ''))}"


# Unconfirmed: `modelArchitecture` of an imported model | Here: `model_type` of its config.json | Source: "The architecture
#   of the imported model"
def _describe_model(bedrock: Bedrock, job: ImportJob, arn: str, found: model_files.ImportedFiles) -> dict[str, Any]:
    """Return GetImportedModel's answer."""
    return {
        "modelArn": arn,
        "modelName": job.details["importedModelName"],
        "jobName": job.details["jobName"],
        "jobArn": job.arn,
        "modelDataSource": job.details["modelDataSource"],
        "creationTime": bedrock.clock(),
        "modelArchitecture": found.model_type,
        "instructSupported": found.instruct,
        "customModelUnits": found.units(),
    }


@BEDROCK.operation
def get_model_import_job(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    for job in bedrock.account(request).import_jobs:
        if params["jobIdentifier"] in (job.arn, job.details["jobName"]):
            return dict(job.details)
    raise not_found("model import job")


@BEDROCK.operation
def list_model_import_jobs(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    rows = [dict(job.details) for job in bedrock.account(request).import_jobs]
    return listed(rows, params, "modelImportJobSummaries", "jobName", "creationTime")


@BEDROCK.operation
def get_imported_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return bedrock.account(request).imported_model(params["modelIdentifier"]).details


@BEDROCK.operation
def list_imported_models(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    rows = [model.details for model in bedrock.account(request).imported_models.values()]
    return listed(rows, params, "modelSummaries", "modelName", "creationTime")


@BEDROCK.operation
def delete_imported_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account = bedrock.account(request)
    with account.lock:
        model = account.imported_model(params["modelIdentifier"])
        del account.imported_models[model.details["modelArn"]]
        bedrock.tags.pop(model.details["modelArn"], None)
    bedrock.copies.remove(model.details["modelArn"])
    shutil.rmtree(model.folder, ignore_errors=True)
    return {}
