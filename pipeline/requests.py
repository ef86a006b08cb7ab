"""Builds the requests that the states after Plan send.

The names are missing, because they hold the count of redrives.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pipeline import instances, names, scores
from pipeline.contracts.planned import (
    AssessPlan,
    CustomizePlan,
    DeployPlan,
    ExpiryPlan,
    IdlePlan,
    ImportPlan,
    RegisterPlan,
)
from pipeline.errors import Refused

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel
    from pipeline.contracts.planned import StackFacts
    from pipeline.contracts.values import AwsRequest
    from pipeline.settings import Settings, TrainingSettings

_NUMBER = "([0-9.eE+-]+)"
_STEP = ("loss", "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_gib")
_SCORES = [f"{metric}_{model}" for metric in scores.NAMES if metric != scores.WIN_RATE for model in ("base", "tuned")]
METRICS = {
    **{f"train:{name}": rf"step=\d+/\d+ .*?\b{name}={_NUMBER}" for name in _STEP},
    "validation:loss": rf"\beval_loss={_NUMBER}",
    **{f"test:{name}": rf"\b{name}={_NUMBER}" for name in _SCORES},
}
"""The metrics that SageMaker reads from the job's log (CreateTrainingJob, MetricDefinitions: name and regular expression)."""

_LOCAL_DISKS = re.compile(r"ml\.(\w*d\w*|g[567]\w*|p[56]\w*|trn\d\w*)[.-]")
"""Instance types with local disks. SageMaker encrypts these with a key of the instance, and refuses a VolumeKmsKeyId for them
(API reference, ResourceConfig). No API tells which types have local disks. This list is that of SageMaker's own Python SDK
(`sagemaker.core.common_utils.volume_size_supported`), by family, so that it also matches later members of a family."""

_HF_HOME = "/tmp/huggingface"
"""The folder of the downloaded base model. /tmp is on the instance's large disk, local or the volume of VolumeSizeInGB: "we
recommend that you use the /tmp directory as a scratch space for temporarily storing any large objects during training"
(SageMaker developer guide, "Managing storage paths for different types of instance local storage")."""

POOLS_SECONDS = 900
"""How long SageMaker looks for instances of the types in a list, for an endpoint. It allows 300 to 3,600 seconds, and has its
own time for a single type. This is half of the time that Deploy allows before the container starts
(`pipeline.steps.deploy.PROVISIONING_MINUTES`), because image and model are fetched after it."""


def baseline_key(settings: Settings) -> str:
    """Return 16 hexadecimal digits that identify the base model's task, so that runs with the same task share one scoring.

    The task is the model, how it answers, and all settings that decide which rows are test rows. `training.max_length` is one
    of them, because longer rows are left out or cut. The key only finds a baseline. A branch may move on, and an upload may be
    replaced, so the job itself checks whether the baseline is exact.
    """
    task = settings.model_dump(
        mode="json",
        include={
            "dataset": {
                "source": True,
                "revision": True,
                "files": True,
                "fields": True,
                "csv": True,
                "max_rows": {"test"},
                "ratios": {"test"},
                "instruction": True,
                "seed": True,
            },
            "training": {
                "base_model": True,
                "base_revision": True,
                "max_length": True,
                "long_conversations": True,
                "evaluation": {"max_new_tokens", "batch_size"},
            },
        },
    )
    return hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:16]


_NOT_THE_JOBS: dict[str, bool | set[str]] = {
    **dict.fromkeys(("gated", "instance_types", "instance_count", "spot", "spot_wait_minutes"), True),
    **dict.fromkeys(("volume_gb", "max_runtime_minutes"), True),
    "evaluation": {"max_faulty_share", "judge_model", "judge_rows"},
}
"""Fields of `training` that are not hyperparameters. Plan, SageMaker and Assess read them."""


def _hyperparameters(training: TrainingSettings, secret: str | None, revision: str | None) -> dict[str, str]:
    """Return all fields of `training` but those of `_NOT_THE_JOBS`, as texts by their names in `training.recipe.Recipe`."""
    fields = training.model_dump(mode="json", exclude=_NOT_THE_JOBS)
    lora, evaluation = fields.pop("lora"), fields.pop("evaluation")
    fields |= {"target_modules": lora.pop("target_modules"), **{f"lora_{name}": lora[name] for name in lora}}
    fields |= {"eval_batch_size": evaluation.pop("batch_size"), **evaluation}
    fields |= {"base_revision": revision or "", "hub_token_secret": secret or ""}
    return {name: _hyperparameter(value) for name, value in fields.items()}


def _hyperparameter(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    # None means "no limit". The Trainer writes that as -1.
    return value if isinstance(value, str) else "-1" if value is None else str(value).lower()


def train(
    settings: Settings,
    run: str,
    secret: str | None,
    stack: StackFacts,
    baseline: str | None = None,
    revision: str | None = None,
) -> AwsRequest:
    """Return the request of CreateTrainingJob without TrainingJobName.

    Args:
        settings: the run's settings.
        run: the run's id.
        secret: ARN of the secret with the Hub token, if the base model needs one.
        stack: the stack's facts.
        baseline: S3 prefix of the base model's answers of an earlier run, if there are any.
        revision: the commit of the base model that Plan looked at, so that the job trains that commit. None for an upload.

    Raises:
        Refused: the user's key can encrypt the volumes of some of the instance types, but not of all.
    """
    training = settings.training
    types, several = training.instance_types, len(training.instance_types) > 1
    runtime = training.max_runtime_minutes
    stopping = {"MaxRuntimeInSeconds": runtime * 60}
    if training.spot:
        stopping["MaxWaitTimeInSeconds"] = (runtime + training.spot_wait_minutes) * 60
    key = settings.encryption.kms_key_arn
    return {
        "AlgorithmSpecification": {
            "TrainingImage": stack.training_image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/training/start.py"],
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
        },
        "RoleArn": stack.training_role,
        "HyperParameters": _hyperparameters(training, secret, revision),
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, uri in _channels(settings, run, stack.bucket, baseline).items()
        ],
        # Uncompressed: an endpoint mounts the prefix as it is. A tarball of gigabytes would take time at both ends.
        "OutputDataConfig": {
            "S3OutputPath": names.place(stack.bucket, "models", run),
            "CompressionType": "NONE",
            **({"KmsKeyId": key} if key else {}),
        },
        "ResourceConfig": {
            **(
                {"InstancePreferences": [{"InstanceType": name} for name in types]}
                if several
                else {"InstanceType": types[0]}
            ),
            "InstanceCount": training.instance_count,
            "VolumeSizeInGB": training.volume_gb,
            **_volume_key(types, key),
        },
        "StoppingCondition": stopping,
        # A request with InstancePreferences must not have EnableManagedSpotTraining, not even as false.
        **({} if several else {"EnableManagedSpotTraining": training.spot}),
        # The checkpoints belong to the run and not to the job, so that a redriven Train goes on where its last job stopped.
        "CheckpointConfig": {"S3Uri": names.place(stack.bucket, "checkpoints", run)},
        # The image's own HF_HOME, below /root, is on the small disk of the system.
        "Environment": {"HF_ENDPOINT": settings.access.hub_endpoint, "HF_HOME": _HF_HOME},
        "Tags": _tags(run, stack),
        **_network(settings),
    }


def _volume_key(types: list[str], key: str | None) -> dict[str, str]:
    """Return the parameter that encrypts the job's volumes, if there is a key and SageMaker takes it."""
    own_disks = [name for name in types if _LOCAL_DISKS.match(name)]
    if key is None or len(own_disks) == len(types):
        return {}
    if own_disks:
        raise Refused(
            f"training.instance_types: with encryption.kms_key_arn SageMaker takes no list that mixes types with local disks "
            f"({', '.join(own_disks)}) and types without; name only types with local disks, or only types without"
        )
    return {"VolumeKmsKeyId": key}


def _network(settings: Settings) -> AwsRequest:
    """Return the network parameters that job and model share, if the stack was deployed with them."""
    network = settings.network
    parameters: AwsRequest = {}
    if network.subnets:
        parameters["VpcConfig"] = {"Subnets": network.subnets, "SecurityGroupIds": network.security_groups}
    if network.isolation:
        parameters["EnableNetworkIsolation"] = True
    return parameters


def _channels(settings: Settings, run: str, bucket: str, baseline: str | None) -> dict[str, str]:
    """Return the training job's channels: S3 prefix by name. `model` replaces the Hub, and `wheels` replaces PyPI."""
    data = names.place(bucket, "data", run)
    channels = {"code": names.place(bucket, "code", run)}
    channels |= {split: f"{data}{split}/" for split in ("train", "validation", "test")}
    if settings.training.is_uploaded:
        channels["model"] = f"s3://{bucket}/{settings.training.base_model}"
    if settings.network.wheels:
        channels["wheels"] = f"s3://{bucket}/{settings.network.wheels}"
    if baseline:
        channels["baseline"] = baseline
    return channels


def assess(settings: Settings, stack: StackFacts) -> AssessPlan:
    """Return the S3 prefix of the base model's answers, and the settings by which Assess decides."""
    return AssessPlan(
        baseline=names.place(stack.bucket, "baselines", baseline_key(settings)),
        enabled=settings.endpoint.enabled,
        promote=settings.endpoint.promote,
        max_faulty_share=settings.training.evaluation.max_faulty_share,
        judge_decides=settings.training.evaluation.promote_by == "judge",
    )


def register(
    settings: Settings, stack: StackFacts, dataset: str, licences: dict[str, str | None], base: str, code: str
) -> RegisterPlan:
    """Return how to register the model in the Model Registry.

    Args:
        settings: the run's settings.
        stack: the stack's facts.
        dataset: the dataset and its revision.
        licences: the licences of `base_model` and `dataset`, as far as they are known.
        base: the base model and its revision.
        code: the digest of the training code (`pipeline.training_code`).
    """
    tags = {**stack.tags, names.STACK_TAG: stack.prefix}  # The group outlives the run, so it has no tag of the run.
    metadata = {
        "base_model": base,
        "base_model_licence": licences["base_model"],
        "dataset": dataset,
        "dataset_licence": licences["dataset"],
        "code_sha256": code,
        "promote": settings.endpoint.promote,
        "promote_by": settings.training.evaluation.promote_by,
    }
    return RegisterPlan(
        group=stack.prefix,
        tags=[{"Key": name, "Value": text} for name, text in tags.items()],
        container=_container(settings, stack),
        instance_types=settings.endpoint.instance_types,
        metadata=metadata,
    )


def customize(settings: Settings, run: str, base_model: BaseModel, stack: StackFacts) -> CustomizePlan:
    """Return the requests of CreateModelCustomizationJob and, if the model can be deployed, CreateCustomModelDeployment."""
    tags = _bedrock_tags(_tags(run, stack))
    data = names.place(stack.bucket, "data", run)
    network, key = settings.network, settings.encryption.kms_key_arn
    vpc = {"subnetIds": network.subnets, "securityGroupIds": network.security_groups}
    request = {
        "customizationType": "FINE_TUNING",
        "baseModelIdentifier": f"arn:aws:bedrock:{base_model.region}::foundation-model/{base_model.id}",
        "roleArn": stack.bedrock_role,
        "trainingDataConfig": {"s3Uri": f"{data}bedrock/train.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": f"{data}bedrock/validation.jsonl"}]},
        "outputDataConfig": {"s3Uri": names.place(stack.bucket, "bedrock", run)},
        "hyperParameters": {name: _as_text(value) for name, value in settings.bedrock.hyperparameters.items()},
        "jobTags": tags,
        "customModelTags": tags,
        **({"vpcConfig": vpc} if network.subnets else {}),
        **({"customModelKmsKeyId": key} if key else {}),
    }
    # The deployment outlives the run, so it has no tag of the run.
    own = [tag for tag in tags if tag["key"] != names.RUN_TAG]
    deployment = {"modelDeploymentName": stack.prefix, "tags": own} if base_model.served == "on_demand" else None
    return CustomizePlan(request, settings.bedrock.timeout_hours, deployment)


def import_model(settings: Settings, run: str, stack: StackFacts) -> ImportPlan:
    """Return the request of CreateModelImportJob without its names, token and model."""
    tags = _bedrock_tags(_tags(run, stack))
    network, key = settings.network, settings.encryption.kms_key_arn
    vpc = {"subnetIds": network.subnets, "securityGroupIds": network.security_groups}
    request = {
        "roleArn": stack.import_role,
        "jobTags": tags,
        "importedModelTags": tags,
        **({"vpcConfig": vpc} if network.subnets else {}),
        **({"importedModelKmsKeyId": key} if key else {}),
    }
    return ImportPlan(request, settings.bedrock.timeout_hours)


def deploy(settings: Settings, run: str, stack: StackFacts) -> DeployPlan:
    """Return parts of the requests of CreateModel and CreateEndpointConfig, and how to bring the endpoint up."""
    endpoint = settings.endpoint
    types = endpoint.instance_types
    pools = {
        "InstancePools": [{"InstanceType": name, "Priority": number} for number, name in enumerate(types, start=1)],
        "VariantInstanceProvisionTimeoutInSeconds": POOLS_SECONDS,
    }
    # The time counts from the start of a deployment, so the longest start-up is added.
    life = endpoint.time_to_live_minutes
    expiry = life and ExpiryPlan(life + endpoint.startup_timeout_minutes, stack.expiry_role, stack.expiry_failed)
    idle = endpoint.idle_minutes and IdlePlan(
        endpoint.idle_minutes, stack.idle_function, stack.idle_role, stack.idle_failed, stack.topic
    )
    return DeployPlan(
        endpoint=stack.prefix,
        model={"ExecutionRoleArn": stack.model_role, **_network(settings)},
        container=_container(settings, stack),
        variant={
            **(pools if len(types) > 1 else {"InstanceType": types[0]}),
            "InitialInstanceCount": endpoint.instance_count,
            # The image is built on CUDA 13, and only this AMI has its driver. Without it the container fails its health check.
            "InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-1",
            "ModelDataDownloadTimeoutInSeconds": 1200,
            "ContainerStartupHealthCheckTimeoutInSeconds": endpoint.startup_timeout_minutes * 60,
        },
        tags=_tags(run, stack),
        startup_timeout_minutes=endpoint.startup_timeout_minutes,
        poll_seconds=endpoint.poll_seconds,
        expiry=expiry or None,
        idle=idle or None,
    )


def _container(settings: Settings, stack: StackFacts) -> AwsRequest:
    """Return the container that serves the model, without the location of the model."""
    environment = {"SM_VLLM_MAX_MODEL_LEN": str(settings.endpoint.max_model_len)}
    if dtype := instances.vllm_dtype(settings.endpoint.instance_types):
        environment["SM_VLLM_DTYPE"] = dtype
    return {"Image": stack.serving_image, "Environment": environment}


def _tags(run: str, stack: StackFacts) -> list[AwsRequest]:
    tags = {**stack.tags, names.STACK_TAG: stack.prefix, names.RUN_TAG: run}
    return [{"Key": name, "Value": text} for name, text in tags.items()]


def _bedrock_tags(tags: list[AwsRequest]) -> list[AwsRequest]:
    """Return tags in the form of Bedrock, which writes key and value small."""
    return [{"key": tag["Key"], "value": tag["Value"]} for tag in tags]


def _as_text(value: float) -> str:
    """Return a hyperparameter as a string without an exponent (1e-05), because Bedrock's ranges show no such form."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")
