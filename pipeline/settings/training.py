"""The section `training`: the SageMaker training job. `training.recipe` has the same fields, as the job reads them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from pipeline import catalogue, instances
from pipeline.settings.base import MANY, Section, deploy, run
from pipeline.settings.hub_name import is_hub_name
from pipeline.settings.instance_types import InstanceTypes

ALL_LINEAR = "all-linear"

_HYPERPARAMETER = 2500
"""The longest value of a hyperparameter, in characters (SageMaker's service model, HyperParameterValue)."""

_LAYER = r"^[\w.]+$"


def _layers(value: Any) -> list[str] | str:
    # Checked by hand, because pydantic reports a mistake in a union once for each of its members.
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
        f"must be a list of layer names such as [q_proj, v_proj], with at most {_HYPERPARAMETER} characters together, or the "
        f"word {ALL_LINEAR}"
    )


_Layers = Annotated[list[Annotated[str, Field(pattern=_LAYER)]], Field(min_length=1)]


_Metric = Literal["rouge", "chrf", "exact", "json", "label"]
_Decider = Literal["rouge", "chrf", "exact", "json", "label", "judge"]


class LoraSettings(Section):
    """The adapter (peft.LoraConfig)."""

    r: int = run("rank of the adapter", ge=1, le=256)
    alpha: int = run("scale of the adapter", ge=1, le=1024)
    dropout: float = run("dropout of the adapter", unit="share, 1 is all", ge=0, lt=1)
    target_modules: Annotated[
        list[str] | str, PlainValidator(_layers, json_schema_input_type=Literal["all-linear"] | _Layers)
    ] = run("names of the linear layers that get an adapter, or all-linear: all of them but the head")


class EvaluationSettings(Section):
    """How the base and the tuned model are compared on the test rows."""

    max_new_tokens: int = run("length of the longest answer", unit="tokens", ge=8, le=1024)
    batch_size: int = run("rows that the model answers at once", unit="rows", ge=1, le=256)
    metrics: Annotated[list[_Metric], Field(min_length=1)] = run(
        "how the answers are compared with the references; rouge and chrf: similar texts; exact: equal texts; json: valid "
        "JSON, and its right fields; label: accuracy and macro F1 of labels"
    )
    promote_by: _Decider = run(
        "the one of metrics by which endpoint.promote decides; rouge: by ROUGE-L, json: by the share of right fields, label: "
        "by accuracy; or judge: by the win rate that judge_model finds"
    )
    max_faulty_share: float = run(
        "a run warns when a larger share of the tuned model's answers than this repeats itself or is cut",
        unit="share, 1 is all",
        ge=0,
        le=1,
    )
    # Fewer show nothing (pipeline.promotion.FEWEST_ROWS). The training job keeps no more (training.evaluate.MOST_ANSWERS).
    judge_rows: int = run(
        "the most test rows that judge_model compares; each costs two calls", unit="rows", ge=6, le=500
    )
    judge_model: str | None = deploy(
        "model of Bedrock that compares the tuned model's answers with the base's; the role of the function judge may call "
        "this model alone; null: none",
        min_length=1,
    )

    @field_validator("metrics")
    @classmethod
    def _each_metric_once(cls, value: list[_Metric]) -> list[_Metric]:
        if len(set(value)) < len(value):
            raise ValueError("has a metric twice; name each metric once")
        return value

    @field_validator("judge_model")
    @classmethod
    def _is_a_judge_of_the_catalogue(cls, value: str | None) -> str | None:
        if value is None or value in catalogue.JUDGES:
            return value
        raise ValueError(f"not in the catalogue; use one of {', '.join(catalogue.JUDGES)}")

    @model_validator(mode="after")
    def _promotes_by_a_judge_that_is_set(self) -> EvaluationSettings:
        if self.promote_by == "judge" and self.judge_model is None:
            raise ValueError(
                "promote_by: judge needs judge_model, which is null; set judge_model to a model of Bedrock and deploy, or set "
                f"promote_by to {' or '.join(self.metrics)}"
            )
        return self

    @model_validator(mode="after")
    def _promotes_by_one_of_the_metrics(self) -> EvaluationSettings:
        if self.promote_by not in (*self.metrics, "judge"):
            raise ValueError(
                f"promote_by: {self.promote_by} is not one of metrics; add it there, or set promote_by to "
                f"{' or '.join(self.metrics)}"
            )
        return self


class TrainingSettings(Section):
    """The SageMaker QLoRA job."""

    base_model: str = run(
        "causal language model with a chat template: OWNER/NAME on the Hub, or uploads/models/FOLDER/ in the stack's bucket",
        max_length=512,
    )
    base_revision: str = run(
        "branch, tag or commit of the base model", pattern=r"^[\w./-]+$", max_length=256, examples=["main"]
    )
    gated: bool = run("whether the base model is read with the Hub token (access.hub_token_secret)")
    instance_types: InstanceTypes = run("instance type of the training job, or several in order of preference")
    device: Literal["gpu", "cpu"] = run(
        "the device of the training; gpu never falls back to a CPU, cpu trains without a GPU"
    )
    instance_count: int = run(
        "instances of the training job, which share each step's rows", unit="instances", ge=1, le=16
    )
    spot: bool = run("whether the job takes spot capacity, which is cheaper and may be reclaimed")
    spot_wait_minutes: int = run(
        "how long a spot job may wait for capacity in total, beside its run time", unit="minutes", ge=1, le=40_320
    )
    volume_gb: int = run(
        "disk of the training job; it has no effect on an instance type with local disks (NVMe), such as ml.g4dn, ml.g5, "
        "ml.g6 and ml.p4d",
        unit="GB",
        ge=10,
        le=16_384,
    )
    max_runtime_minutes: int = run("the job is stopped after this time", unit="minutes", ge=5, le=40_320)
    quantization: Literal["nf4", "none"] = run("nf4: base model in 4 bits (QLoRA); none: not quantized (LoRA)")
    double_quantization: bool = run("whether the quantization constants are quantized too")
    lora: LoraSettings
    learning_rate: float = run("peak learning rate", gt=0, le=1)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = run(
        "the course of the learning rate over the steps"
    )
    warmup_steps: int = run(
        "warm-up steps; a short run warms up for a tenth of its steps at most", unit="optimizer steps", ge=0, le=MANY
    )
    batch_size: int = run("rows per device and forward pass", unit="rows", ge=1, le=1024)
    gradient_accumulation_steps: int = run("forward passes per optimizer step", unit="forward passes", ge=1, le=1024)
    max_length: int = run("length of the longest sequence", unit="tokens", ge=64, le=131_072)
    long_conversations: Literal["leave_out", "cut"] = run(
        "what the job does with longer rows; leave_out: it leaves them out; cut: it cuts as many of their first turns as "
        "needed, and leaves a row out only if its system message and its last two turns are still too long"
    )
    packing: bool = run(
        "whether flash attention, if it is available, gets a batch's rows one after another and without padding"
    )
    epochs: int = run("passes over the training rows", unit="epochs", ge=1, le=100)
    max_steps: int | None = run(
        "largest number of optimizer steps, whatever the epochs are; null: no such limit",
        unit="optimizer steps",
        ge=1,
        le=MANY,
    )
    checkpoint_steps: int = run(
        "optimizer steps between two checkpoints; an interrupted job goes on from the last one",
        unit="optimizer steps",
        ge=1,
        le=MANY,
    )
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "paged_adamw_32bit", "adamw_torch"] = run(
        "name of the optimizer in transformers"
    )
    seed: int = run("seed of the training", ge=0, le=2**32 - 1)  # numpy takes no other (transformers.set_seed)
    evaluation: EvaluationSettings

    @field_validator("base_model")
    @classmethod
    def _is_a_base_model(cls, value: str) -> str:
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
    def _only_a_hub_model_is_gated(self) -> TrainingSettings:
        if self.is_uploaded and self.gated:
            raise ValueError("gated: no token is needed for a base model in the stack's own bucket; set it to false")
        return self

    @model_validator(mode="after")
    def _types_have_the_device(self) -> TrainingSettings:
        cannot = [why for name in self.instance_types if (why := instances.cannot(name))]
        if self.device == "gpu" and cannot:
            raise ValueError(f"instance_types: {cannot[0]}; choose another, such as ml.g5.xlarge, or set device to cpu")
        return self

    @model_validator(mode="after")
    def _spot_has_one_type(self) -> TrainingSettings:
        # InstancePreferences excludes EnableManagedSpotTraining (service model, ResourceConfig).
        if self.spot and len(self.instance_types) > 1:
            raise ValueError(
                "spot: SageMaker has spot capacity for one instance type only; set it to false, or instance_types to one type"
            )
        return self
