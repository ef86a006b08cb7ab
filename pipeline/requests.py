"""The requests of a run, resolved: what the states after Plan send, but for the names, which hold the count of redrives."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pipeline import instances, names
from pipeline.contracts.planned import AssessPlan, DeployPlan, ExpiryPlan
from pipeline.errors import Refused

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel
    from pipeline.contracts.planned import StackFacts
    from pipeline.contracts.values import AwsRequest
    from pipeline.settings import Settings, TrainingSettings

_NUMBER = "([0-9.eE+-]+)"
_STEP = ("loss", "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_gib")
_SCORES = [f"{metric}_{model}" for metric in ("rouge1", "rouge2", "rougeL", "chrF") for model in ("base", "tuned")]
METRICS = {
    **{f"train:{name}": rf"step=\d+/\d+ .*?\b{name}={_NUMBER}" for name in _STEP},
    "validation:loss": rf"\beval_loss={_NUMBER}",
    **{f"test:{name}": rf"\b{name}={_NUMBER}" for name in _SCORES},
}
"""What SageMaker reads from the job's log (CreateTrainingJob, MetricDefinitions: name and regular expression)."""

_LOCAL_DISKS = re.compile(r"ml\.(\w*d\w*|g[567]\w*|p[56]\w*|trn\d\w*)[.-]")
"""Instance types with disks of their own, which SageMaker encrypts with a key of the instance's and for which it refuses a
VolumeKmsKeyId (API reference, ResourceConfig). Nothing tells them but a list: this is that of SageMaker's own Python SDK
(`sagemaker.core.common_utils.volume_size_supported`), by family, so that its next member is in it."""


_HF_HOME = "/tmp/huggingface"
"""Where the base model is downloaded to. /tmp is on the instance's large disk, its own or the volume of VolumeSizeInGB: "we
recommend that you use the /tmp directory as a scratch space for temporarily storing any large objects during training"
(SageMaker developer guide, "Managing storage paths for different types of instance local storage")."""

POOLS_SECONDS = 900
"""How long SageMaker looks for instances of any type of a list, for an endpoint (300 to 3,600; for one type it has a time of
its own). Half of what Deploy waits before the container starts (`pipeline.steps.deploy.PROVISIONING_MINUTES`): image and model
are fetched after it."""


def baseline_key(settings: Settings) -> str:
    """16 hexadecimal digits for what the base model is asked: one scoring of it serves all runs that ask the same.

    That is the model, how it answers, and all that decides which rows are test rows: `training.max_length` is the longest row
    that is fit. It only finds a baseline. A branch may move on and an upload be replaced, so the job itself looks whether it
    is exact.
    """
    asked = settings.model_dump(
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
                "evaluation": {"max_new_tokens", "batch_size"},
            },
        },
    )
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


_NOT_THE_JOBS: dict[str, bool | set[str]] = {
    **dict.fromkeys(("gated", "instance_types", "instance_count", "spot", "spot_wait_minutes"), True),
    **dict.fromkeys(("volume_gb", "max_runtime_minutes"), True),
    "evaluation": {"max_faulty_share"},
}
"""Fields of `training` that are no hyperparameters: Plan, SageMaker and Assess read them."""


def _hyperparameters(training: TrainingSettings, secret: str | None, revision: str | None) -> dict[str, str]:
    """Return all other fields of `training`, as texts and by their names in `training.recipe.Recipe`."""
    fields = training.model_dump(mode="json", exclude=_NOT_THE_JOBS)
    lora, evaluation = fields.pop("lora"), fields.pop("evaluation")
    fields |= {"target_modules": lora.pop("target_modules"), **{f"lora_{name}": lora[name] for name in lora}}
    fields |= {"eval_batch_size": evaluation.pop("batch_size"), **evaluation}
    fields |= {"base_revision": revision or "", "hub_token_secret": secret or ""}
    return {name: _hyperparameter(value) for name, value in fields.items()}


def _hyperparameter(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    # None is "no limit", which the Trainer writes as -1.
    return value if isinstance(value, str) else "-1" if value is None else str(value).lower()


def train(
    settings: Settings,
    run: str,
    secret: str | None,
    stack: StackFacts,
    baseline: str | None = None,
    revision: str | None = None,
) -> AwsRequest:
    """CreateTrainingJob without TrainingJobName.

    Args:
        settings: the run's.
        run: its id.
        secret: ARN of the secret with the Hub token, if the base model needs one.
        stack: what exists.
        baseline: S3 prefix of the base model's answers of an earlier run, if there are any.
        revision: the commit of the base model that Plan has looked at, so that the job trains that; None of an upload.

    Raises:
        Refused: no key of the user's can encrypt the volumes of some of the instance types alone.
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
        # Uncompressed: an endpoint mounts the prefix as it is, and nobody waits for a tarball of gigabytes.
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
        # InstancePreferences excludes it, false or true.
        **({} if several else {"EnableManagedSpotTraining": training.spot}),
        # The run's and not the job's: a redriven Train goes on where the job before it was interrupted.
        "CheckpointConfig": {"S3Uri": names.place(stack.bucket, "checkpoints", run)},
        # HF_HOME: the image's own, below /root, is on the small disk of the system.
        "Environment": {"HF_ENDPOINT": settings.access.hub_endpoint, "HF_HOME": _HF_HOME},
        "Tags": _tags(run, stack),
        **_network(settings),
    }


def _volume_key(types: list[str], key: str | None) -> dict[str, str]:
    """The parameter that encrypts the job's volumes, where there is a key and SageMaker takes it."""
    own_disks = [name for name in types if _LOCAL_DISKS.match(name)]
    if key is None or len(own_disks) == len(types):
        return {}
    if own_disks:
        raise Refused(
            f"training.instance_types: with encryption.kms_key_arn SageMaker takes no list that mixes types with disks of "
            f"their own ({', '.join(own_disks)}) and others; name only such types, or only others"
        )
    return {"VolumeKmsKeyId": key}


def _network(settings: Settings) -> AwsRequest:
    """The parameters that job and model share, each only where the stack was deployed with it."""
    network = settings.network
    parameters: AwsRequest = {}
    if network.subnets:
        parameters["VpcConfig"] = {"Subnets": network.subnets, "SecurityGroupIds": network.security_groups}
    if network.isolation:
        parameters["EnableNetworkIsolation"] = True
    return parameters


def _channels(settings: Settings, run: str, bucket: str, baseline: str | None) -> dict[str, str]:
    """The training job's channels: S3 prefix by name. `model` and `wheels` stand in for the Hub and for PyPI."""
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
    """Where the base model's answers are kept, and the settings that decide."""
    return AssessPlan(
        baseline=names.place(stack.bucket, "baselines", baseline_key(settings)),
        enabled=settings.endpoint.enabled,
        promote=settings.endpoint.promote,
        max_faulty_share=settings.training.evaluation.max_faulty_share,
    )


def customize(settings: Settings, run: str, base_model: BaseModel, stack: StackFacts) -> AwsRequest:
    """CreateModelCustomizationJob without its names and token."""
    tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in _tags(run, stack)]
    data = names.place(stack.bucket, "data", run)
    network, key = settings.network, settings.encryption.kms_key_arn
    vpc = {"subnetIds": network.subnets, "securityGroupIds": network.security_groups}
    return {
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


def deploy(settings: Settings, run: str, stack: StackFacts) -> DeployPlan:
    """Parts of CreateModel and CreateEndpointConfig, and how to bring the endpoint up."""
    endpoint = settings.endpoint
    types = endpoint.instance_types
    environment = {"SM_VLLM_MAX_MODEL_LEN": str(endpoint.max_model_len)}
    if dtype := instances.vllm_dtype(types):
        environment["SM_VLLM_DTYPE"] = dtype
    pools = {
        "InstancePools": [{"InstanceType": name, "Priority": number} for number, name in enumerate(types, start=1)],
        "VariantInstanceProvisionTimeoutInSeconds": POOLS_SECONDS,
    }
    # Counted from the start of a deployment, with the longest start-up on top.
    life = endpoint.time_to_live_minutes
    expiry = life and ExpiryPlan(life + endpoint.startup_timeout_minutes, stack.expiry_role, stack.expiry_failed)
    return DeployPlan(
        endpoint=stack.prefix,
        model={"ExecutionRoleArn": stack.model_role, **_network(settings)},
        container={"Image": stack.serving_image, "Environment": environment},
        variant={
            **(pools if len(types) > 1 else {"InstanceType": types[0]}),
            "InitialInstanceCount": endpoint.instance_count,
            # The image is built on CUDA 13, whose driver only this AMI has; without it the container dies at its health check.
            "InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-1",
            "ModelDataDownloadTimeoutInSeconds": 1200,
            "ContainerStartupHealthCheckTimeoutInSeconds": endpoint.startup_timeout_minutes * 60,
        },
        tags=_tags(run, stack),
        startup_timeout_minutes=endpoint.startup_timeout_minutes,
        poll_seconds=endpoint.poll_seconds,
        expiry=expiry or None,
    )


def _tags(run: str, stack: StackFacts) -> list[AwsRequest]:
    tags = {**stack.tags, names.STACK_TAG: stack.prefix, names.RUN_TAG: run}
    return [{"Key": name, "Value": text} for name, text in tags.items()]


def _as_text(value: float) -> str:
    """A hyperparameter as Bedrock wants it: a string, and never in a form such as 1e-05 that its ranges do not show."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")
