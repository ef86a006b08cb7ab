"""The operations on training jobs.

Sources: API Reference of CreateTrainingJob, DescribeTrainingJob, StopTrainingJob. Messages:
"No S3 objects found" https://github.com/aws/amazon-sagemaker-examples/issues/2267, "Access denied for repository"
https://github.com/aws/sagemaker-spark/issues/158; others as users quote them (PARITY.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import clients
from local_aws.core.authorization import sagemaker_arn
from local_aws.core.shapes import ServiceError
from local_aws.ministack.sessions import NotAssumableError
from local_aws.services.apis import SAGEMAKER
from local_aws.services.quotas import APPLIED
from local_aws.services.sagemaker import images
from local_aws.services.sagemaker.instances import Instances, preferences
from local_aws.services.sagemaker.record import DEFAULT_MAX_RUNTIME
from local_aws.services.sagemaker.role import PullDeniedError, RoleSession
from local_aws.services.sagemaker.store import Store, listed, refuse, validation_error
from local_aws.services.sagemaker.training import TrainingJob

if TYPE_CHECKING:
    from local_aws.core.registry import Request
    from local_aws.services.sagemaker.account import SageMakerAccount


# Unconfirmed: A training job's missing grants | Here: without pull or `s3:ListBucket`, CreateTrainingJob is refused;
#   without `s3:GetObject`, `s3:PutObject`, logs or `cloudwatch:PutMetricData`, the job fails | Source: texts of "Access
#   denied for repository" and "No S3 objects found" in public issues; the other FailureReasons are our own words, and AWS
#   may let a job without logs run on
@SAGEMAKER.operation
def create_training_job(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """Make the checks that AWS makes before it accepts a job, then run the job on a thread."""
    arn = sagemaker_arn(request, "training-job", params["TrainingJobName"])
    _check_form(params)
    wanted = preferences(params)
    with store.lock:
        _check_name(store, arn)
    role = _assume(params["RoleArn"], arn, store)
    image = _check_image(role, params["AlgorithmSpecification"])
    for channel in params.get("InputDataConfig", []):
        _check_channel(role, channel, request.region)
    with store.lock:
        _check_name(store, arn)
        allowed = _within_quota(store, wanted, spot=bool(params.get("EnableManagedSpotTraining")))
        job = TrainingJob(store, arn, params, wanted=allowed, role=role, image=image)
        store.training_jobs[arn] = job
        store.tag(arn, params.get("Tags"))
    job.start()
    return {"TrainingJobArn": arn}


def _check_name(store: SageMakerAccount, arn: str) -> None:
    if arn in store.training_jobs:
        raise ServiceError(
            "ResourceInUse",
            "Training job names must be unique within an AWS account and region, and a training job with this name "
            f"already exists ({arn})",
        )


# Differs: Channels | AWS: FullyReplicated or sharded by key | Here: FullyReplicated only | Why: Tuneway has no other
# Differs: Output of a training job | AWS: archives, by default | Here: only the CompressionType NONE | Why: Tuneway has no
#   other
def _check_form(params: dict[str, Any]) -> None:
    compression = params["OutputDataConfig"].get("CompressionType")
    refuse(compression != "NONE", "local AWS leaves no archives: give OutputDataConfig.CompressionType NONE")
    stopping = params.get("StoppingCondition", {})
    longest, run = stopping.get("MaxWaitTimeInSeconds", 0), stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME)
    spot = params.get("EnableManagedSpotTraining")
    refuse(
        spot and longest < run,
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds",
    )
    refuse(
        longest and not spot,
        "MaxWaitTimeInSeconds above zero must not be specified when EnableManagedSpotTraining is false",
    )
    for channel in params.get("InputDataConfig", []):
        source, name = channel["DataSource"].get("S3DataSource", {}), channel["ChannelName"]
        mode, spread = channel.get("InputMode", "File"), source.get("S3DataDistributionType", "FullyReplicated")
        other = source.get("S3DataType") != "S3Prefix" or mode != "File"
        refuse(other, f"local AWS has S3Prefix channels in File mode only: channel {name}")
        refuse(spread != "FullyReplicated", f"local AWS has FullyReplicated channels only: channel {name}")
    path = params.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
    beside = not path.startswith("/opt/ml/")
    refuse(beside, f"local AWS maps paths below /opt/ml only: CheckpointConfig.LocalPath {path}")


def _assume(role_arn: str, job_arn: str, store: Store) -> RoleSession:
    try:
        return RoleSession(role_arn, job_arn, store.endpoint_url)
    except NotAssumableError as error:
        raise validation_error(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role."
        ) from error


def _check_image(role: RoleSession, algorithm: dict[str, Any]) -> images.ImageUri:
    uri = algorithm.get("TrainingImage")
    image = images.parse(uri) if uri else None
    if image is None:
        raise validation_error(f"local AWS needs AlgorithmSpecification.TrainingImage as an ECR image URI, not {uri!r}")
    rights = (
        f"Please check if your ECR repository and image exist and role {role.arn} has proper pull permissions for "
        "SageMaker: ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer"
    )
    try:
        role.pull(image)
    except PullDeniedError as error:
        raise validation_error(
            f"Access denied for repository: {image.repository} in registry ID: {image.account}. {rights}"
        ) from error
    unknown = image.repository not in images.COMMANDS
    refuse(unknown, f"Cannot find repository: {image.repository} in registry ID: {image.account} {rights}")
    refuse(
        not algorithm.get("ContainerEntrypoint") and not images.COMMANDS[image.repository],
        f"local AWS has no entry point of its own for {image.repository}: give AlgorithmSpecification.ContainerEntrypoint",
    )
    return image


def _check_channel(role: RoleSession, channel: dict[str, Any], region: str) -> None:
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    found, trouble = [], ""
    try:
        found = role.objects(uri)
    except ClientError as error:
        trouble = f" Error message from S3: {error.response['Error'].get('Message', '')}"
    refuse(
        not found,
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in '
        f'the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role.arn}" has '
        f'"s3:ListBucket" permissions on bucket "{clients.split_uri(uri)[0]}".{trouble}',
    )


# Unconfirmed: Quotas of InstancePreferences | Here: the job gets the first type that its quota allows and that has
#   capacity; `ResourceLimitExceeded` if no quota allows any | Source: nothing found: the service model speaks of
#   capacity only
def _within_quota(store: SageMakerAccount, wanted: list[Instances], *, spot: bool) -> list[Instances]:
    """Return the entries of a list that the quotas allow now. Raises the first entry's ServiceError if there are none."""
    allowed, refusals = [], []
    for instances in wanted:
        in_use = sum(
            job.instances.count
            for job in store.training_jobs.values()
            if job.active and job.instances.type == instances.type and job.spot == spot
        )
        name = f"{instances.type} for {'spot ' if spot else ''}training job usage"
        try:
            APPLIED.check(name, in_use, instances.count)
        except ServiceError as refusal:
            refusals.append(refusal)
        else:
            allowed.append(instances)
    if not allowed:
        raise refusals[0]
    return allowed


def _job(store: SageMakerAccount, params: dict[str, Any], request: Request) -> TrainingJob:
    arn = sagemaker_arn(request, "training-job", params["TrainingJobName"])
    refuse(arn not in store.training_jobs, "Requested resource not found.")
    return store.training_jobs[arn]


@SAGEMAKER.operation
def describe_training_job(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        return _job(store, params, request).describe()


@SAGEMAKER.operation
def list_training_jobs(store: SageMakerAccount, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    with store.lock:
        described = [job.describe() for job in store.training_jobs.values()]
    return listed(described, params, "TrainingJobSummaries", "TrainingJobName", "TrainingJobStatus")


@SAGEMAKER.operation
def stop_training_job(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """Make a job Stopping. It is Stopped when its process has ended and its model is uploaded."""
    with store.lock:
        job = _job(store, params, request)
        status = job.describe()["TrainingJobStatus"]
        refuse(not job.active, f"The request was rejected because the training job is in status {status}.")
        job.stop()
    return {}
