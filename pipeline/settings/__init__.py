"""The one schema of the settings: config.yaml, the file of `-c settings=`, and an execution's input.

Every field says who may set it. A `deploy` field shapes what exists in the account: edit config.yaml and deploy.
A `run` field shapes one run: an execution's input may override it, in the same form as config.yaml.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator, model_validator

from pipeline import catalogue, instances
from pipeline.errors import quoted
from pipeline.settings import mistake
from pipeline.settings.mistake import BROKEN, sections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Scope = Literal["deploy", "run"]
Promote = Literal["always", "better", "clearly_better"]

CONSOLE_FIELDS = ("Comment", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")
"""What the Step Functions console may add to an execution's input by itself: ignored."""


EXECUTION_DAYS = 7
"""An execution's time limit: Bedrock jobs take hours and may queue for a day. Its loops stay below the 25,000 events that a
history holds, since the waits between their looks grow (`pipeline.jobs.wait`)."""

_RESERVE_HOURS = 24
"""What of that is left to the steps that no setting bounds, most of all a training job's wait for its instances."""


RENAMED = {
    "training.instance_type": "training.instance_types: one type, or a list in order of preference",
    "endpoint.instance_type": "endpoint.instance_types: one type, or a list in order of preference",
    "endpoint.only_if_better": "endpoint.promote: better (which true was), always (which false was) or clearly_better",
}
"""Keys that are called otherwise now: a section's key, and its new name with what it takes."""


class SettingsError(ValueError):
    """A user's mistake in the settings, said in one line with the field and the remedy."""

    def __init__(self, line: str) -> None:
        """Keep `line` one line, whatever the user's own names and values hold: line ends are shown as escapes."""
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


def _deploy(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"scope": "deploy"}, **constraints)


def _run(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"scope": "run"}, **constraints)


class _Section(BaseModel):
    # Strict: a string where a number belongs is a mistake to report, not to convert.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


MAX_TAGS = 47
"""The 50 that a resource takes (SageMaker's service model, TagList), less those of `pipeline.names`."""

_TAG = r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$"
"""SageMaker's TagKey and TagValue, which are IAM's, Lambda's and CloudWatch Logs', too (service models)."""
_BEDROCK_TAG = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*", re.ASCII)
"""Bedrock's TagKey and TagValue (service model)."""


class Stack(_Section):
    """What the stack is called and where it lives."""

    name: str = _deploy(
        # Bedrock's names of jobs and custom models hold no two hyphens side by side.
        "CloudFormation stack name, and the beginning of every name",
        pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        min_length=3,
        max_length=24,
        examples=["tuneway-2"],
    )
    region: str | None = _deploy(
        "region; null: CDK_DEFAULT_REGION, else us-west-2",
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d$",
        examples=["us-west-2"],
    )
    tags: dict[
        Annotated[str, Field(pattern=_TAG, min_length=1, max_length=128)],
        Annotated[str, Field(pattern=_TAG, max_length=256)],
    ] = _deploy(
        "tags on everything, for your cost reports; of letters, digits, blanks and _ . : / = + - @",
        max_length=MAX_TAGS,
        examples=["cost-center"],
    )
    on_destroy: Literal["delete", "keep_models"] = _deploy(
        "what `cdk destroy` does with tuned models: delete, or keep the bucket with them and Bedrock's custom models"
    )

    @field_validator("tags")
    @classmethod
    def _nobody_elses(cls, tags: dict[str, str]) -> dict[str, str]:
        folded: dict[str, str] = {}
        for key in tags:
            # AWS keeps aws: for itself in any case (IAM user guide, "Rules for tagging"), and the stack what it acts on.
            if key.lower().startswith(("aws:", "tuneway:")):
                raise ValueError(f"the keys that begin with aws: and tuneway: are taken; call '{key}' otherwise")
            # IAM takes no two keys that differ in their case alone: of one role, a deploy would fail.
            if (other := folded.setdefault(key.casefold(), key)) != key:
                raise ValueError(f"'{other}' and '{key}' are one key to IAM, which does not mind the case; keep one")
        return tags


class Notifications(_Section):
    """Who is told how a run ended."""

    email: str | None = _deploy(
        "address that gets the messages of runs; null: subscribe to the topic yourself",
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        max_length=320,
        examples=["you@example.com"],
    )


class Functions(_Section):
    """How the Lambda functions are built."""

    python: Literal["3.11", "3.12", "3.13"] = _deploy("Lambda's Python version")
    architecture: Literal["arm64", "x86_64"] = _deploy("Lambda's architecture; arm64 costs 20% less")
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365] = _deploy("how long logs are kept, in days")


class Access(_Section):
    """What the roles may reach outside the stack."""

    hub_endpoint: str = _deploy(
        "the Hugging Face Hub (HF_ENDPOINT), or a mirror of it; without a slash at its end",
        pattern=r"^https?://[^\s]+[^/\s]$",
        max_length=512,  # TrainingEnvironmentValue (SageMaker's service model)
        examples=["https://huggingface.co"],
    )
    hub_token_secret: str = _deploy(
        "name of the Secrets Manager secret that holds your Hub token, not its ARN",
        pattern=r"^[A-Za-z0-9/_+=.@-]{1,500}$",
        examples=["tuneway/hub-token"],
    )
    # The policies that name them have 10,240 characters a role (IAM user guide, "IAM and AWS STS quotas").
    dataset_buckets: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]] = _deploy(
        "names of other S3 buckets that data prep may read", max_length=20, examples=["my-bucket"]
    )


class Encryption(_Section):
    """Whose key encrypts what a run leaves."""

    kms_key_arn: str | None = _deploy(
        "customer-managed key for the bucket, the jobs' and models' data; null: S3's own keys",
        pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]{36}$",
        max_length=2048,
        examples=["arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
    )


class Network(_Section):
    """Where the training job, the Bedrock job and the endpoint have their network interfaces, and what they reach."""

    # 32 characters: SubnetId and SecurityGroupId (SageMaker's service model).
    subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$", max_length=32)]] = _deploy(
        "your VPC's subnets for the jobs and the endpoint; needs security_groups",
        max_length=16,
        examples=["subnet-0bb1c79de3example"],
    )
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-z]+$", max_length=32)]] = _deploy(
        "security groups of the same VPC; needs subnets", max_length=5, examples=["sg-0a1b2c3d4e5f6g7h8"]
    )
    isolation: bool = _deploy("whether training job and endpoint have no network at all")
    wheels: str | None = _deploy(
        "folder in the stack's bucket with the wheels of training/requirements.txt; null: PyPI",
        pattern=r"^uploads/[\w./-]+/$",
        max_length=512,
        examples=["uploads/wheels/"],
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Network:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups: a VPC needs both; name both, or leave both empty")
        return self


class Storage(_Section):
    """What the bucket keeps."""

    expire_days: int | None = _deploy(
        "days after which a run's code, data and Bedrock metrics are deleted; null: never. Models stay",
        ge=15,
        le=36_500,
    )


_KEY = 1024
"""The longest key of an S3 object, and so the longest path, in bytes of UTF-8 (S3 user guide, "Naming Amazon S3 objects")."""
_MANY = 1_000_000_000
"""The most of what has no limit of its own: far from the 2^53 up to which JSON's numbers are exact."""


class Fields(_Section):
    """Which columns hold what."""

    dialogue: str = _run("column with the text to summarize", min_length=1, max_length=_KEY)
    summary: str = _run("column with the summary", min_length=1, max_length=_KEY)

    @model_validator(mode="after")
    def _are_two(self) -> Fields:
        if self.dialogue == self.summary:
            raise ValueError(
                f"dialogue and summary are both {quoted(self.dialogue)}: a model would learn to repeat its input; name two "
                "columns (chat rows, with one column of turns, are not read: write what the model is asked and its answer into "
                "two)"
            )
        return self


class Csv(_Section):
    """How CSV files are written, where they do not say so themselves."""

    separator: str | None = _run("what stands between two fields; null: told by the header")
    encoding: str | None = _run(
        "a text encoding of Python's, such as cp1252; null: UTF-8, or what a byte order mark says"
    )

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if (
            value is None
            or value == "\t"
            or (len(value) == 1 and value.isascii() and value.isprintable() and value != '"')
        ):
            return value
        raise ValueError(
            'must be null or one ASCII character such as ";" or "\\t" (a tab), no quote, line end or control character; write '
            "the file with one of these"
        )

    @field_validator("encoding")
    @classmethod
    def _of_pythons(cls, value: str | None) -> str | None:
        try:
            if value is None or "a,\n".encode(value):
                return value
        except (LookupError, ValueError):
            pass
        raise ValueError("must be null or a text encoding of Python's, such as cp1252, latin-1, utf-16 or shift_jis")


class Files(_Section):
    """A dataset's files by split, below its source (`pipeline.dataset`). A source that is one file needs none of them.

    Each is a file, a pattern (data/train-*.parquet), a folder (data/), or a split of the dataset's own by its name (train).
    """

    train: str | None = _run(
        "files of the training split; null: every one that is not another split's", min_length=1, max_length=_KEY
    )
    validation: str | None = _run(
        "files of the validation split; null: dealt out of train's rows", min_length=1, max_length=_KEY
    )
    test: str | None = _run("files of the test split; null: dealt out of train's rows", min_length=1, max_length=_KEY)

    @field_validator("train", "validation", "test")
    @classmethod
    def _below_the_source(cls, value: str | None) -> str | None:
        if value is None or not (value.startswith("/") or {".", ".."} & set(value.split("/"))):
            return value
        raise ValueError(
            "must be a path below dataset.source, without / at its beginning and without . or .. as a folder"
        )


class MaxRows(_Section):
    """Subsampling: the same rows every time, chosen by a seeded hash."""

    train: int | None = _run("most training rows; null: all", ge=1, le=_MANY)
    validation: int | None = _run("most validation rows; null: all", ge=1, le=_MANY)
    test: int | None = _run(
        "most test rows: each is answered by the base and the tuned model; null: all", ge=1, le=_MANY
    )


class Ratios(_Section):
    """How train's rows are dealt to the splits without files of their own, by a seeded hash of each row."""

    validation: float = _run("share of validation rows", gt=0, lt=0.5)
    test: float = _run("share of test rows", gt=0, lt=0.5)


def _is_hub_name(name: str) -> bool:
    """Whether it is OWNER/NAME as the Hub and its client library take it (`huggingface_hub.utils.validate_repo_id`)."""
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return (
        re.fullmatch(f"{part}/(?=.{{1,96}}$){part}", name) is not None
        and not {"--", ".."} & {name[n : n + 2] for n in range(len(name))}
        and not name.endswith(".git")
    )


class Dataset(_Section):
    """The dialogues and their summaries."""

    source: str = _run(
        "hub:OWNER/NAME, s3://BUCKET/KEY, or uploads/KEY in the stack's own bucket; a KEY that ends in / is a folder",
        max_length=_KEY + 69,  # s3://BUCKET/ has 69 at most
    )
    revision: str | None = _run(
        "commit of a Hub dataset, so that a run can be repeated",
        pattern=r"^[\w./-]+$",
        max_length=256,
        examples=["6b929ff10edec703164e3ddb2e94aae058c9ab5f"],
    )
    gated: bool = _run("whether reading it needs the Hub token (access.hub_token_secret)")
    files: Files
    fields: Fields
    csv: Csv
    max_rows: MaxRows
    ratios: Ratios
    max_rejected_share: float = _run("a run stops when more of the rows than this are not fit", ge=0, le=1)
    shard_mb: int = _run(
        "a source larger than this, or of more than 100 files, is prepared in shards of about this size, "
        "by functions that run at once",
        ge=1,
        le=100_000,
    )
    instruction: str = _run("the task, said to the model before each dialogue", pattern=r"\S", max_length=2000)
    seed: int = _run("seed of splits and subsampling", ge=0, le=2**53 - 1)

    @field_validator("source")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if re.fullmatch(r"s3://[a-z0-9.-]{3,63}/\S.*|uploads/\S.*", value) or (
            value.startswith("hub:") and _is_hub_name(value.removeprefix("hub:"))
        ):
            return value
        raise ValueError(
            "must be hub:OWNER/NAME (a dataset on the Hub), s3://BUCKET/KEY, or uploads/KEY in the stack's bucket; "
            "a KEY that ends in / is a folder"
        )

    @property
    def is_hubs(self) -> bool:
        """Whether it is a dataset on the Hub."""
        return self.source.startswith("hub:")

    @model_validator(mode="after")
    def _as_the_hub_asks(self) -> Dataset:
        if self.is_hubs and self.revision is None:
            raise ValueError("a Hub dataset needs dataset.revision, the commit to read; set it")
        if self.gated and not self.is_hubs:
            raise ValueError("gated: only a Hub dataset is read with the Hub token; set it to false")
        return self


ALL_LINEAR = "all-linear"

_HYPERPARAMETER = 2500
"""The longest value of a hyperparameter (SageMaker's service model, HyperParameterValue)."""


def _layers(value: Any) -> list[str] | str:
    # By hand: of a union, pydantic would tell what is wrong once for each of its members.
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if (
        isinstance(value, list)
        and value
        and all(isinstance(name, str) and re.fullmatch(r"[\w.]+", name) for name in value)
        and len(",".join(value)) <= _HYPERPARAMETER
    ):
        return value
    raise ValueError(
        f"must be a list of layer names such as [q_proj, v_proj], of {_HYPERPARAMETER} characters in all at most, or the one "
        f"word {ALL_LINEAR}"
    )


class Lora(_Section):
    """The adapter (peft.LoraConfig)."""

    r: int = _run("rank", ge=1, le=256)
    alpha: int = _run("scale", ge=1, le=1024)
    dropout: float = _run("dropout", ge=0, lt=1)
    target_modules: Annotated[list[str] | str, PlainValidator(_layers)] = _run(
        "names of the linear layers that get an adapter, or all-linear: every one but the head"
    )


class Evaluation(_Section):
    """How base and tuned model are compared on the test rows."""

    max_new_tokens: int = _run("longest summary, in tokens", ge=8, le=1024)
    batch_size: int = _run("rows answered at once", ge=1, le=256)
    max_faulty_share: float = _run(
        "a run says so when more of the tuned model's answers than this repeat themselves, or are cut", ge=0, le=1
    )


MAX_INSTANCE_TYPES = 5
"""The most that InstancePreferences and InstancePools hold (SageMaker's service model)."""


def _types(value: Any) -> list[str]:
    # By hand, for the same reason as `_layers`.
    types = [value] if isinstance(value, str) else value
    if (
        isinstance(types, list)
        and 1 <= len(types) <= MAX_INSTANCE_TYPES
        and all(isinstance(name, str) and re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", name) for name in types)
        and len(set(types)) == len(types)
    ):
        return types
    raise ValueError(
        "must be an instance type such as ml.g5.xlarge, or a list in order of preference such as "
        f"[ml.g5.xlarge, ml.g6.xlarge], of at most {MAX_INSTANCE_TYPES}, none twice"
    )


InstanceTypes = Annotated[list[str], PlainValidator(_types)]
"""Instance types in order of preference; one alone may be written without a list."""


class Training(_Section):
    """The SageMaker QLoRA job."""

    base_model: str = _run(
        "causal language model with a chat template: OWNER/NAME on the Hub, or uploads/models/FOLDER/ in the stack's bucket",
        max_length=512,
    )
    base_revision: str = _run(
        "branch, tag or commit of the base model", pattern=r"^[\w./-]+$", max_length=256, examples=["main"]
    )
    gated: bool = _run("whether the base model needs a Hub token (access.hub_token_secret)")
    instance_types: InstanceTypes = _run("instance type of the training job, or several in order of preference")
    device: Literal["gpu", "cpu"] = _run("what it trains on; gpu never falls back to a CPU, cpu trains without a GPU")
    instance_count: int = _run("instances of the training job, which share each step's rows", ge=1, le=16)
    spot: bool = _run("whether it takes spot capacity, which is cheaper and may be reclaimed")
    spot_wait_minutes: int = _run(
        "how long a spot job may wait for capacity in all, beside its run time", ge=1, le=40_320
    )
    volume_gb: int = _run(
        "disk of the training job, in GB; does nothing on an instance type with disks of its own (NVMe), such as ml.g4dn, "
        "ml.g5, ml.g6 and ml.p4d",
        ge=10,
        le=16_384,
    )
    max_runtime_minutes: int = _run("the job is stopped after this time", ge=5, le=40_320)
    quantization: Literal["nf4", "none"] = _run("4-bit base (QLoRA), or none")
    double_quantization: bool = _run("quantize the quantization constants too")
    lora: Lora
    learning_rate: float = _run("peak learning rate", gt=0, le=1)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = _run("learning rate over the steps")
    warmup_steps: int = _run("warm-up steps; a short run warms up for a tenth of its steps", ge=0, le=_MANY)
    batch_size: int = _run("rows a device and forward pass", ge=1, le=1024)
    gradient_accumulation_steps: int = _run("forward passes an optimizer step", ge=1, le=1024)
    max_length: int = _run("longest sequence in tokens", ge=64, le=131_072)
    packing: bool = _run(
        "whether flash attention, where there is one, gets a batch's rows one after another, not padded"
    )
    epochs: int = _run("passes over the training rows", ge=1, le=100)
    max_steps: int | None = _run("most optimizer steps, whatever the epochs; null: no such limit", ge=1, le=_MANY)
    checkpoint_steps: int = _run(
        "optimizer steps between two checkpoints; an interrupted job goes on from the last", ge=1, le=_MANY
    )
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "paged_adamw_32bit", "adamw_torch"] = _run(
        "transformers' optimizer name"
    )
    seed: int = _run("seed of the training", ge=0, le=2**32 - 1)  # numpy takes no other (transformers.set_seed)
    evaluation: Evaluation

    @field_validator("base_model")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if re.fullmatch(r"uploads/models/[\w./-]+/", value) or (
            not value.startswith("uploads/") and _is_hub_name(value)
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
    def _gated_is_the_hubs(self) -> Training:
        if self.is_uploaded and self.gated:
            raise ValueError("gated: no token is needed for a base model in the stack's own bucket; set it to false")
        return self

    @model_validator(mode="after")
    def _gpu_where_it_needs_one(self) -> Training:
        cannot = [why for name in self.instance_types if (why := instances.cannot(name))]
        if self.device == "gpu" and cannot:
            raise ValueError(f"instance_types: {cannot[0]}; choose another, such as ml.g5.xlarge, or set device to cpu")
        return self

    @model_validator(mode="after")
    def _spot_is_of_one_type(self) -> Training:
        # InstancePreferences excludes EnableManagedSpotTraining (service model, ResourceConfig).
        if self.spot and len(self.instance_types) > 1:
            raise ValueError(
                "spot: SageMaker takes spot capacity of one instance type only; set it to false, or instance_types to one type"
            )
        return self


def _number(value: Any) -> int | float:
    # By hand, for the same reason as `_layers`.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError("must be a number, without quotes")


class Bedrock(_Section):
    """The Bedrock customization job."""

    enabled: bool = _run("whether a run customizes a Bedrock model too")
    base_model: str | None = _run("base model of the catalogue; null: the region's own", min_length=1)
    max_records: int = _run(
        "most records, training and validation together; tokens times epochs is what it costs", ge=8, le=20_000
    )
    hyperparameters: dict[str, Annotated[int | float, PlainValidator(_number)]] = _run(
        "Bedrock's own names; what is absent keeps Bedrock's default"
    )
    timeout_hours: int = _run(
        "a job that is not completed by then is stopped, and its custom model given up", ge=1, le=144
    )

    @field_validator("base_model")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None or value in catalogue.BASE_MODELS:
            return value
        gone = catalogue.end_of_life(value)
        known = ", ".join(catalogue.BASE_MODELS)
        raise ValueError(f"{gone}; use one of {known}" if gone else f"not in the catalogue; use one of {known}")


class Endpoint(_Section):
    """The SageMaker endpoint that serves the tuned model."""

    enabled: bool = _run("whether a run serves its model")
    promote: Promote = _run(
        "which model is served, by its ROUGE-L on the test rows less its base's: always; better: the mean is above 0; "
        "clearly_better: the lower end of its 95% interval is"
    )
    instance_types: InstanceTypes = _run("instance type of the endpoint, or several in order of preference")
    instance_count: int = _run("instances of the endpoint, which share its requests", ge=1, le=10)
    max_model_len: int = _run("longest prompt and answer together, in tokens", ge=128, le=131_072)
    startup_timeout_minutes: int = _run("the container must be healthy by then", ge=1, le=60)
    # Not shorter than what instances and image may take on top of the start-up (pipeline.deploy.PROVISIONING_MINUTES).
    time_to_live_minutes: int | None = _run(
        "the endpoint deletes itself after this time; null: never", ge=30, le=525_600
    )
    poll_seconds: int = _run(
        "how often a run looks at first whether the endpoint is up; more rarely later on", ge=1, le=300
    )

    @model_validator(mode="after")
    def _gpu_to_serve_on(self) -> Endpoint:
        cannot = [why for name in self.instance_types if (why := instances.cannot(name))]
        if cannot:
            raise ValueError(f"instance_types: {cannot[0]}; choose another, such as ml.g5.xlarge")
        return self


class Settings(_Section):
    """All of it: what config.yaml says."""

    stack: Stack
    notifications: Notifications
    functions: Functions
    access: Access
    encryption: Encryption
    network: Network
    storage: Storage
    dataset: Dataset
    training: Training
    bedrock: Bedrock
    endpoint: Endpoint

    @model_validator(mode="after")
    def _isolated_with_all_it_needs(self) -> Settings:
        if self.network.isolation and not (self.training.is_uploaded and self.network.wheels):
            raise ValueError(
                "network.isolation: an isolated training job reaches neither the Hub nor PyPI; set training.base_model to "
                "uploads/models/FOLDER/ and network.wheels to uploads/FOLDER/, both in the stack's bucket"
            )
        return self

    @model_validator(mode="after")
    def _tags_that_bedrock_takes(self) -> Settings:
        texts = [text for tag in self.stack.tags.items() for text in tag] if self.bedrock.enabled else []
        wrong = next((text for text in texts if not _BEDROCK_TAG.fullmatch(text)), None)
        if wrong is not None:
            raise ValueError(
                f"stack.tags: Bedrock takes only a to z, digits, blanks and _ . : / = + - @ in tags, and not '{wrong}'; "
                "write it with these, or set bedrock.enabled to false"
            )
        return self

    @model_validator(mode="after")
    def _within_an_execution(self) -> Settings:
        training, endpoint = self.training, self.endpoint
        minutes = {
            "training.max_runtime_minutes": training.max_runtime_minutes,
            "training.spot_wait_minutes": training.spot_wait_minutes if training.spot else 0,
            "bedrock.timeout_hours": self.bedrock.timeout_hours * 60 if self.bedrock.enabled else 0,
            "endpoint.startup_timeout_minutes": endpoint.startup_timeout_minutes if endpoint.enabled else 0,
        }
        most = EXECUTION_DAYS * 24 - _RESERVE_HOURS
        if sum(minutes.values()) > most * 60:
            largest = max(minutes, key=lambda name: minutes[name])
            parts, hours = " + ".join(name for name in minutes if minutes[name]), sum(minutes.values()) / 60
            raise ValueError(
                f"{largest}: {parts} are {hours:g} hours, and an execution has {most} for them; lower {largest}"
            )
        return self

    @model_validator(mode="after")
    def _served_as_trained(self) -> Settings:
        if self.endpoint.max_model_len < self.training.max_length:
            raise ValueError(
                f"endpoint.max_model_len: {self.endpoint.max_model_len} is less than training.max_length "
                f"({self.training.max_length}): the endpoint would refuse what the model was trained on; raise the "
                "one, or lower the other"
            )
        return self


def load(*paths: Path) -> Settings:
    """Read the settings files, each laid over the one before.

    Raises:
        SettingsError: a file cannot be read, is no mapping, has a key twice, or holds a wrong value.
    """
    from pipeline.settings import (
        yaml_file,
    )  # reads YAML, which the functions do not have: theirs come from the state machine

    merged: dict[str, Any] = {}
    for path in paths:
        layer = yaml_file.read(path)
        _refuse_renamed(layer, str(path))
        merged = overlay(merged, layer)
    checked = validate(merged, where=" + ".join(str(path) for path in paths))
    # Numbers are numbers from here on, and no longer show as they were written.
    return Settings.model_validate_json(checked.model_dump_json())


def validate(values: dict[str, Any], where: str) -> Settings:
    """Check `values` against the schema.

    Raises:
        SettingsError: the first wrong field by name, and what is allowed there.
    """
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{where}: {mistake.first_mistake(Settings, error)}") from error
    for path, text in _texts(settings.model_dump(), ""):
        if wrong := _UNFIT.search(text):
            raise SettingsError(f"{where}: {path}: holds U+{ord(wrong[0]):04X}, {BROKEN}; write it anew")
        if "{%" in text:
            raise SettingsError(
                f"{where}: {path}: no text may hold '{{%', which Step Functions would evaluate as JSONata; write it otherwise"
            )
    return settings


_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of surrogate pairs. The latter have no UTF-8, which every request is sent in."""


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """All texts of the settings with their fields; the keys of tags and hyperparameters are texts, too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield path, name
            yield from _texts(inner, f"{path}.{name}" if path else name)


def with_run_input(deployed: dict[str, Any], given: Any) -> Settings:
    """Lay an execution's input over the deployed settings.

    Args:
        deployed: the settings as deployed (`Settings.model_dump()`).
        given: the execution's input: `{}`, or a part of config.yaml with `run` fields only.

    Raises:
        SettingsError: in one line, what is wrong with the input, where, and what to do.
    """
    where = "execution input"
    if not isinstance(given, dict):
        raise SettingsError(f'{where}: must be a JSON object such as {{}} or {{"training": {{"epochs": 2}}}}')
    given = {name: value for name, value in given.items() if name not in CONSOLE_FIELDS}
    _refuse_renamed(given, where)
    _only_run_fields(Settings, given, where, "")
    return validate(overlay(deployed, given), where)


def _refuse_renamed(values: dict[str, Any], where: str) -> None:
    for old, now in RENAMED.items():
        section, _, name = old.partition(".")
        if isinstance(values.get(section), dict) and name in values[section]:
            raise SettingsError(f"{where}: {old} is now {now}")


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: sections merge field by field, hyperparameters and all other values are replaced."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        mergeable = isinstance(value, dict) and isinstance(old, dict) and name not in ("hyperparameters", "tags")
        merged[name] = overlay(old, value) if mergeable and isinstance(old, dict) else value
    return merged


def scope(model: type[BaseModel], name: str) -> Scope:
    """Who may set the field: `deploy` or `run`."""
    extra = model.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return "deploy" if extra["scope"] == "deploy" else "run"


def _only_run_fields(model: type[BaseModel], given: dict[str, Any], where: str, above: str) -> None:
    inner = sections(model)
    for name, value in given.items():
        path = f"{above}{name}"
        if name not in model.model_fields:
            allowed = ", ".join(model.model_fields)
            raise SettingsError(f"{where}: {path}: unknown field; allowed here: {allowed}")
        if name in inner:
            if not isinstance(value, dict):
                raise SettingsError(
                    f"{where}: {path}: must be an object with fields of {', '.join(inner[name].model_fields)}"
                )
            _only_run_fields(inner[name], value, where, f"{path}.")
        elif scope(model, name) == "deploy":
            raise SettingsError(
                f"{where}: {path}: is fixed when the stack is deployed; edit config.yaml and run `cdk deploy`"
            )
