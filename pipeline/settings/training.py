"""The section `training`: the SageMaker training job. `training.recipe` is the same fields as the job reads them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from pipeline import instances
from pipeline.settings.base import MANY, Section, run
from pipeline.settings.hub_name import is_hub_name
from pipeline.settings.instance_types import InstanceTypes

ALL_LINEAR = "all-linear"

_HYPERPARAMETER = 2500
"""The longest value of a hyperparameter (SageMaker's service model, HyperParameterValue)."""

_LAYER = r"^[\w.]+$"


def _layers(value: Any) -> list[str] | str:
    # By hand: of a union, pydantic would tell what is wrong once for each of its members.
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if (
        isinstance(value, list)
        and value
        and all(isinstance(name, str) and re.fullmatch(_LAYER, name) for name in value)
        and len(",".join(value)) <= _HYPERPARAMETER
    ):
        return value
    raise ValueError(
        f"must be a list of layer names such as [q_proj, v_proj], of {_HYPERPARAMETER} characters in all at most, or the one "
        f"word {ALL_LINEAR}"
    )


_Layers = Annotated[list[Annotated[str, Field(pattern=_LAYER)]], Field(min_length=1)]


class LoraSettings(Section):
    """The adapter (peft.LoraConfig)."""

    r: int = run("rank", ge=1, le=256)
    alpha: int = run("scale", ge=1, le=1024)
    dropout: float = run("dropout", unit="share, 1 is all", ge=0, lt=1)
    target_modules: Annotated[
        list[str] | str, PlainValidator(_layers, json_schema_input_type=Literal["all-linear"] | _Layers)
    ] = run("names of the linear layers that get an adapter, or all-linear: every one but the head")


class EvaluationSettings(Section):
    """How base and tuned model are compared on the test rows."""

    max_new_tokens: int = run("longest summary", unit="tokens", ge=8, le=1024)
    batch_size: int = run("rows answered at once", unit="rows", ge=1, le=256)
    max_faulty_share: float = run(
        "a run says so when more of the tuned model's answers than this repeat themselves, or are cut",
        unit="share, 1 is all",
        ge=0,
        le=1,
    )


class TrainingSettings(Section):
    """The SageMaker QLoRA job."""

    base_model: str = run(
        "causal language model with a chat template: OWNER/NAME on the Hub, or uploads/models/FOLDER/ in the stack's bucket",
        max_length=512,
    )
    base_revision: str = run(
        "branch, tag or commit of the base model", pattern=r"^[\w./-]+$", max_length=256, examples=["main"]
    )
    gated: bool = run("whether the base model needs a Hub token (access.hub_token_secret)")
    instance_types: InstanceTypes = run("instance type of the training job, or several in order of preference")
    device: Literal["gpu", "cpu"] = run("what it trains on; gpu never falls back to a CPU, cpu trains without a GPU")
    instance_count: int = run(
        "instances of the training job, which share each step's rows", unit="instances", ge=1, le=16
    )
    spot: bool = run("whether it takes spot capacity, which is cheaper and may be reclaimed")
    spot_wait_minutes: int = run(
        "how long a spot job may wait for capacity in all, beside its run time", unit="minutes", ge=1, le=40_320
    )
    volume_gb: int = run(
        "disk of the training job, in GB; does nothing on an instance type with disks of its own (NVMe), such as ml.g4dn, "
        "ml.g5, ml.g6 and ml.p4d",
        unit="GB",
        ge=10,
        le=16_384,
    )
    max_runtime_minutes: int = run("the job is stopped after this time", unit="minutes", ge=5, le=40_320)
    quantization: Literal["nf4", "none"] = run("4-bit base (QLoRA), or none")
    double_quantization: bool = run("quantize the quantization constants too")
    lora: LoraSettings
    learning_rate: float = run("peak learning rate", gt=0, le=1)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = run("learning rate over the steps")
    warmup_steps: int = run(
        "warm-up steps; a short run warms up for a tenth of its steps", unit="optimizer steps", ge=0, le=MANY
    )
    batch_size: int = run("rows a device and forward pass", unit="rows", ge=1, le=1024)
    gradient_accumulation_steps: int = run("forward passes an optimizer step", unit="forward passes", ge=1, le=1024)
    max_length: int = run("longest sequence", unit="tokens", ge=64, le=131_072)
    packing: bool = run(
        "whether flash attention, where there is one, gets a batch's rows one after another, not padded"
    )
    epochs: int = run("passes over the training rows", unit="epochs", ge=1, le=100)
    max_steps: int | None = run(
        "most optimizer steps, whatever the epochs; null: no such limit", unit="optimizer steps", ge=1, le=MANY
    )
    checkpoint_steps: int = run(
        "optimizer steps between two checkpoints; an interrupted job goes on from the last",
        unit="optimizer steps",
        ge=1,
        le=MANY,
    )
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "paged_adamw_32bit", "adamw_torch"] = run(
        "transformers' optimizer name"
    )
    seed: int = run("seed of the training", ge=0, le=2**32 - 1)  # numpy takes no other (transformers.set_seed)
    evaluation: EvaluationSettings

    @field_validator("base_model")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if re.fullmatch(r"uploads/models/[\w./-]+/", value) or (
            not value.startswith("uploads/") and is_hub_name(value)
        ):
            return value
        raise ValueError(
            "must be OWNER/NAME on the Hub, or uploads/models/FOLDER/, with its slash, in the stack's bucket"
        )

    @property
    def is_uploaded(self) -> bool:
        """Whether the base model is the user's own folder in the stack's bucket."""
        return self.base_model.startswith("uploads/")

    @model_validator(mode="after")
    def _gated_is_the_hubs(self) -> TrainingSettings:
        if self.is_uploaded and self.gated:
            raise ValueError("gated: no token is needed for a base model in the stack's own bucket; set it to false")
        return self

    @model_validator(mode="after")
    def _gpu_where_it_needs_one(self) -> TrainingSettings:
        cannot = [why for name in self.instance_types if (why := instances.cannot(name))]
        if self.device == "gpu" and cannot:
            raise ValueError(f"instance_types: {cannot[0]}; choose another, such as ml.g5.xlarge, or set device to cpu")
        return self

    @model_validator(mode="after")
    def _spot_is_of_one_type(self) -> TrainingSettings:
        # InstancePreferences excludes EnableManagedSpotTraining (service model, ResourceConfig).
        if self.spot and len(self.instance_types) > 1:
            raise ValueError(
                "spot: SageMaker takes spot capacity of one instance type only; set it to false, or instance_types to one type"
            )
        return self
