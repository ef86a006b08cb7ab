"""The Bedrock base models that Tuneway can customize, and the models that it can import, with their documented limits.

Each rule below is marked with its source:

- [guide] Amazon Bedrock user guide, "Supported models and Regions for fine-tuning", "Prepare data for fine-tuning" (record
  formats, quotas) and "Custom model hyperparameters".
- [llama] AWS's validator for Llama: github.com/aws-samples/amazon-bedrock-samples at
  85fba9d9c404ae120c0ceee5e67befed35004fdc, custom-models/bedrock-fine-tuning/meta-llama/dataset_validation
  (dataset_validation.py, utils/constants.py, utils/schema.py, README.md).
- [nova] AWS's validator for Nova: the same commit, custom-models/bedrock-fine-tuning/nova/understanding/dataset_validation/
  nova_ft_dataset_validator.py.
- [forge] AWS's SDK for Nova: github.com/aws/nova-forge-sdk at a4d5b3df0bae826a0364a9087d768248c1883f42,
  src/amzn_nova_forge/dataset (configs/dataset_checks_config.py, dataset_validator/sft_dataset_validator.py).
- [import] Amazon Bedrock user guide, "Use Custom model import to import a customized open-source model into Amazon Bedrock".

`data_prep.record_formats.check_bedrock` checks every record against its format.
tests/unit/data_prep/test_aws_validators.py checks every file against the validators' rules. Where sources differ, the
stricter one counts. Prices are in dollars, as of `pipeline.money.bounds.AS_OF`. docs/costs.md names their secondary sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RecordFormat = Literal["conversation", "prompt_completion"]


@dataclass(frozen=True)
class Range:
    """The type and the range of a hyperparameter. Bedrock takes all hyperparameters as strings."""

    kind: type[int] | type[float]
    minimum: float
    maximum: float
    default: float


@dataclass(frozen=True)
class BaseModel:
    """One foundation model that a customization job accepts.

    Attributes:
        id: the `baseModelIdentifier`, which is also the resource in the foundation model's ARN.
        region: the only region in which the model can be customized.
        format: the record format of the training data.
        min_records: the smallest number of training and validation records together.
        max_records: the largest number of training and validation records together.
        min_file_records: the smallest number of records in each of the two files.
        max_validation_records: the largest number of validation records.
        max_tokens_per_record: the length of the longest record, in tokens.
        chars_per_token: characters per token, to estimate the tokens of a record.
        hyperparameters: the allowed names, each with its range.
        served: how the custom model can be called: deployed on demand, or only with Provisioned Throughput.
        usd_per_1k_tokens: the price of its training on the day of `pipeline.money.bounds.AS_OF`. None means not known, never 0.
        forbidden: texts that a record must not hold.
        one_kind_of_system: whether all records must have a system text, or none.
    """

    id: str
    region: str
    format: RecordFormat
    min_records: int
    max_records: int
    max_tokens_per_record: int
    hyperparameters: dict[str, Range]
    served: Literal["on_demand", "provisioned_throughput"]
    usd_per_1k_tokens: float | None
    max_validation_records: int
    min_file_records: int = 1
    forbidden: tuple[str, ...] = ()
    chars_per_token: int = 6
    one_kind_of_system: bool = False


# [guide] has these ranges, and those of Nova below.
_LLAMA = {
    "epochCount": Range(int, 1, 10, 5),
    "batchSize": Range(int, 1, 1, 1),
    "learningRate": Range(float, 5e-6, 0.1, 1e-4),
}
_NOVA = {
    "epochCount": Range(int, 1, 5, 2),
    "learningRate": Range(float, 1e-6, 1e-4, 1e-5),
    "learningRateWarmupSteps": Range(int, 0, 100, 10),
}
_NOVA_FORBIDDEN = (
    "System:",
    "SYSTEM:",
    "User:",
    "USER:",
    "Bot:",
    "BOT:",
    "Assistant:",
    "ASSISTANT:",
    "Thought:",
    "[EOS]",
    "<image>",
    "<video>",
    "<unk>",
)
"""[forge] CONVERSE_FORMAT_RESERVED_KEYWORDS. [guide] has all of them but the last. They match anywhere, with their case."""

BASE_MODELS: dict[str, BaseModel] = {
    model.id: model
    for model in (
        BaseModel(
            id="amazon.nova-micro-v1:0:128k",
            region="us-east-1",
            format="conversation",
            min_records=16,  # [guide] 8 together; [nova] 8 per file (MODEL_TO_NUM_SAMPLES_MAP)
            min_file_records=8,
            max_records=20_000,  # [guide] [nova] [forge]
            max_validation_records=20_000,
            max_tokens_per_record=32_000,  # [guide]
            hyperparameters=_NOVA,
            served="on_demand",
            # This price is from memory. Articles name 2.18 dollars for a job of about 5,000 short examples, which fits it.
            usd_per_1k_tokens=0.001,
            forbidden=_NOVA_FORBIDDEN,
            one_kind_of_system=True,  # [nova] and its test: either every record has "system", or none has
        ),
        BaseModel(
            id="meta.llama3-3-70b-instruct-v1:0:128k",
            region="us-west-2",
            format="conversation",
            min_records=100,  # [guide]
            max_records=10_000,  # [guide]; [llama] the same number for the training file alone
            max_validation_records=1_000,  # [llama] MAX_VALIDATION_RECORDS
            max_tokens_per_record=16_000,  # [guide] [llama] README.md
            hyperparameters=_LLAMA,
            served="on_demand",
            usd_per_1k_tokens=0.0033,
        ),
        BaseModel(
            id="meta.llama3-1-8b-instruct-v1:0:128k",
            region="us-west-2",
            format="prompt_completion",
            min_records=100,  # [guide]
            max_records=10_000,  # [guide]; [llama] the same number for the training file alone
            max_validation_records=1_000,  # [llama] MAX_VALIDATION_RECORDS
            max_tokens_per_record=16_000,  # [guide] [llama] README.md
            hyperparameters=_LLAMA,
            served="provisioned_throughput",
            usd_per_1k_tokens=0.00149,
        ),
    )
}


@dataclass(frozen=True)
class Judge:
    """A model that compares answers through Converse.

    Attributes:
        id: the `modelId` of Converse: a foundation model, or an inference profile, which has a prefix such as `us.`.
        regions: the Regions in which it can be called with this id.
        input_usd: the price of a million input tokens, on the day of `pipeline.money.bounds.AS_OF`.
        output_usd: the price of a million output tokens.
    """

    id: str
    regions: tuple[str, ...]
    input_usd: float
    output_usd: float

    @property
    def foundation_model(self) -> str:
        """The id of the foundation model that answers."""
        return self.id.removeprefix(_US)

    @property
    def is_profile(self) -> bool:
        """Whether the id names an inference profile, which hands the calls to several Regions."""
        return self.id.startswith(_US)


_US = "us."

# Regions: user guide, "Supported Regions and models for batch inference" and "Supported Regions and models for inference
# profiles" (the foundation model alone: us-east-1, the profile: all three). Prices: AWS's own page cannot be read without a
# browser; pristren.com, "Amazon Nova Micro", has all three models, and swfte.com, "Amazon Nova Pro pricing" of May 2026, has
# Pro's. Other Regions have other prices, so they are not here.
JUDGES: dict[str, Judge] = {
    judge.id: judge
    for name, input_usd, output_usd in (("micro", 0.035, 0.14), ("lite", 0.06, 0.24), ("pro", 0.8, 3.2))
    for judge in (
        Judge(f"{_US}amazon.nova-{name}-v1:0", ("us-east-1", "us-east-2", "us-west-2"), input_usd, output_usd),
        Judge(f"amazon.nova-{name}-v1:0", ("us-east-1",), input_usd, output_usd),
    )
}
"""The models that `training.evaluation.judge_model` may name. Each takes a system text, and its prices are known."""

IMPORT_REGIONS = ("eu-central-1", "us-east-1", "us-east-2", "us-west-2")
"""The Regions of Custom Model Import ([import])."""

REGIONS = ("eu-central-1", "us-east-1", "us-east-2", "us-west-2")
"""The Regions in which a run can make something in Bedrock. In any other Region the teardown does not call Bedrock, which
may not even have an endpoint there. A Region stays in this list when its last model leaves the catalogue, because a stack
that was deployed before may have models there."""

IMPORT_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt_bigcode", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"), IMPORT_REGIONS),
    "gpt_oss": ("us-east-1",),
}
"""The causal language models that Custom Model Import takes, by `model_type` in config.json, with their Regions ([import],
"Supported architectures")."""

IMPORT_POSITIONS = 131_072
"""The most positions of a model that is imported. [import] has "less than 128K", and names Llama 3.1 to 3.3, which have just
that many."""

IMPORT_ROPE_FACTOR = 8.0
"""The `factor` that Bedrock puts in the place of a Llama 3 model's own when it imports the model ([import])."""

IMPORTED_MODELS_QUOTA = "L-45B04988"
"""The code of the quota "Imported models per account" of Service Quotas. Its default is 3."""

END_OF_LIFE: dict[str, str] = {
    "meta.llama3-2-1b-instruct-v1:0": (
        "Llama 3.2 1B became Legacy on 2026-01-07 and reached its end of life on Bedrock on 2026-07-07; "
        "Bedrock refuses new customization jobs on it"
    ),
}
"""Models that users ask for, but that Bedrock no longer customizes (Bedrock user guide, "Model lifecycle")."""

DEFAULT_BY_REGION: dict[str, str] = {
    "us-east-1": "amazon.nova-micro-v1:0:128k",
    "us-west-2": "meta.llama3-3-70b-instruct-v1:0:128k",
}
"""The base model that `bedrock.base_model: null` chooses. Both of these can be deployed on demand."""


def end_of_life(model_id: str) -> str | None:
    """Return the reason why a model can no longer be customized, or None if the catalogue knows of none.

    Args:
        model_id: the model's id, with or without its suffix for the context length.
    """
    return next((why for gone, why in END_OF_LIFE.items() if model_id.startswith(gone)), None)
