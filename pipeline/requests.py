"""The requests of a run, resolved: what the states after Plan send, but for the names that hold redrive and retry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline import names

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel
    from pipeline.settings import Settings

METRICS = {
    "train:loss": r"step=\d+/\d+ .*?\bloss=([0-9.eE+-]+)",
    "train:learning_rate": r"step=\d+/\d+ .*?learning_rate=([0-9.eE+-]+)",
    "train:tokens_per_second": r"step=\d+/\d+ .*?tokens_per_second=([0-9.eE+-]+)",
    "validation:loss": r"eval_loss=([0-9.eE+-]+)",
    "test:rougeL_base": r"rougeL_base=([0-9.]+)",
    "test:rougeL_tuned": r"rougeL_tuned=([0-9.]+)",
}
"""What SageMaker reads from the job's log (CreateTrainingJob, MetricDefinitions: name and regular expression)."""


_LOCAL_DISKS = re.compile(r"ml\.(\w*d\w*|g[567]\w*|p[56]\w*|trn\d\w*)[.-]")
"""Instance types with disks of their own, which SageMaker encrypts with a key of the instance's and for which it refuses a
VolumeKmsKeyId (API reference, ResourceConfig). Nothing tells them but a list: this is that of SageMaker's own Python SDK
(`sagemaker.core.common_utils.volume_size_supported`), by family, so that its next member is in it."""


def prepare(settings: Settings, run: str, base_model: BaseModel | None, stack: dict[str, Any]) -> dict[str, Any]:
    """The data-prep function's event."""
    dataset = settings.dataset.model_dump(mode="json")
    if dataset["source"].startswith("uploads/"):
        dataset["source"] = f"s3://{stack['bucket']}/{dataset['source']}"
    bedrock = base_model and {"base_model": base_model.id, "max_records": settings.bedrock.max_records}
    output = names.place(stack["bucket"], "data", run)
    return {"dataset": dataset, "output": output, "bedrock": bedrock, "hub_token_secret": None}


def train(settings: Settings, run: str, secret: str | None, stack: dict[str, Any]) -> dict[str, Any]:
    """CreateTrainingJob without TrainingJobName."""
    training = settings.training
    hyperparameters = {
        "base_model": training.base_model,
        "base_revision": "" if training.is_uploaded else training.base_revision,
        "hub_token_secret": secret or "",
        "quantization": training.quantization,
        "double_quantization": str(training.double_quantization).lower(),
        "lora_r": str(training.lora.r),
        "lora_alpha": str(training.lora.alpha),
        "lora_dropout": str(training.lora.dropout),
        "target_modules": ",".join(training.lora.target_modules),
        "learning_rate": str(training.learning_rate),
        "lr_scheduler": training.lr_scheduler,
        "warmup_steps": str(training.warmup_steps),
        "batch_size": str(training.batch_size),
        "gradient_accumulation_steps": str(training.gradient_accumulation_steps),
        "max_length": str(training.max_length),
        "epochs": str(training.epochs),
        "max_steps": str(training.max_steps or -1),
        "optimizer": training.optimizer,
        "seed": str(training.seed),
        "max_new_tokens": str(training.evaluation.max_new_tokens),
        "eval_batch_size": str(training.evaluation.batch_size),
    }
    key = settings.encryption.kms_key_arn
    volume_key = None if _LOCAL_DISKS.match(training.instance_type) else key
    return {
        "AlgorithmSpecification": {
            "TrainingImage": stack["training_image"],
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/training/start.py"],
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
        },
        "RoleArn": stack["training_role"],
        "HyperParameters": hyperparameters,
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
            for channel, uri in _channels(settings, run, stack["bucket"]).items()
        ],
        # Uncompressed: an endpoint mounts the prefix as it is, and nobody waits for a tarball of gigabytes.
        "OutputDataConfig": {
            "S3OutputPath": names.place(stack["bucket"], "models", run),
            "CompressionType": "NONE",
            **({"KmsKeyId": key} if key else {}),
        },
        "ResourceConfig": {
            "InstanceType": training.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": training.volume_gb,
            **({"VolumeKmsKeyId": volume_key} if volume_key else {}),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": training.max_runtime_minutes * 60},
        "Environment": {"HF_ENDPOINT": settings.access.hub_endpoint},
        "Tags": _tags(run, stack),
    }


def _channels(settings: Settings, run: str, bucket: str) -> dict[str, str]:
    """The training job's channels: S3 prefix by name. `model` and `wheels` stand in for the Hub and for PyPI."""
    data = names.place(bucket, "data", run)
    channels = {"code": names.place(bucket, "code", run)}
    channels |= {split: f"{data}{split}/" for split in ("train", "validation", "test")}
    if settings.training.is_uploaded:
        channels["model"] = f"s3://{bucket}/{settings.training.base_model}"
    if settings.network.wheels:
        channels["wheels"] = f"s3://{bucket}/{settings.network.wheels}"
    return channels


def customize(settings: Settings, run: str, base_model: BaseModel, stack: dict[str, Any]) -> dict[str, Any]:
    """CreateModelCustomizationJob without its names and token."""
    tags = _tags(run, stack)
    data = names.place(stack["bucket"], "data", run)
    return {
        "BaseModelIdentifier": f"arn:aws:bedrock:{base_model.region}::foundation-model/{base_model.id}",
        "RoleArn": stack["bedrock_role"],
        "TrainingDataConfig": {"S3Uri": f"{data}bedrock/train.jsonl"},
        "ValidationDataConfig": {"Validators": [{"S3Uri": f"{data}bedrock/validation.jsonl"}]},
        "OutputDataConfig": {"S3Uri": names.place(stack["bucket"], "bedrock", run)},
        "HyperParameters": {key: _as_text(value) for key, value in settings.bedrock.hyperparameters.items()},
        "JobTags": tags,
        "CustomModelTags": tags,
    }


def deploy(settings: Settings, run: str, stack: dict[str, Any]) -> dict[str, Any]:
    """CreateModel and CreateEndpointConfig without their names and the model's place, and how to bring the endpoint up."""
    endpoint = settings.endpoint
    # Counted from the start of a deployment, with the longest start-up on top.
    life = endpoint.time_to_live_minutes
    expiry = life and {"RoleArn": stack["expiry_role"], "Minutes": life + endpoint.startup_timeout_minutes}
    return {
        "EndpointName": stack["prefix"],
        "OnlyIfBetter": endpoint.only_if_better,
        "Image": stack["serving_image"],
        "Environment": {"SM_VLLM_MAX_MODEL_LEN": str(endpoint.max_model_len)},
        "ExecutionRoleArn": stack["model_role"],
        "InstanceType": endpoint.instance_type,
        # The image is built on CUDA 13, whose driver only this AMI has; without it the container dies at its health check.
        "InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-1",
        "ModelDataDownloadTimeoutInSeconds": 1200,
        "ContainerStartupHealthCheckTimeoutInSeconds": endpoint.startup_timeout_minutes * 60,
        "StartupTimeoutMinutes": endpoint.startup_timeout_minutes,
        "Expiry": expiry,
        "PollSeconds": endpoint.poll_seconds,
        "Tags": _tags(run, stack),
    }


def _tags(run: str, stack: dict[str, Any]) -> list[dict[str, str]]:
    tags = {**stack["tags"], names.STACK_TAG: stack["prefix"], names.RUN_TAG: run}
    return [{"Key": name, "Value": text} for name, text in tags.items()]


def _as_text(value: float) -> str:
    """A hyperparameter as Bedrock wants it: a string, and never in a form such as 1e-05 that its ranges do not show."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")
