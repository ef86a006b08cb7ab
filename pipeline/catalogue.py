"""The Bedrock base models that Tuneway can customize, with their documented formats, limits and ranges.

Sources, by which each rule below is marked:

- [guide] Amazon Bedrock user guide, "Supported models and Regions for fine-tuning", "Prepare data for fine-tuning" (record
  formats, quotas) and "Custom model hyperparameters".
- [llama] AWS's validator for Llama: github.com/aws-samples/amazon-bedrock-samples at
  85fba9d9c404ae120c0ceee5e67befed35004fdc, custom-models/bedrock-fine-tuning/meta-llama/dataset_validation
  (dataset_validation.py, utils/constants.py, utils/schema.py, README.md).
- [nova] AWS's validator for Nova: the same commit, custom-models/bedrock-fine-tuning/nova/understanding/dataset_validation/
  nova_ft_dataset_validator.py.
- [forge] AWS's SDK for Nova: github.com/aws/nova-forge-sdk at a4d5b3df0bae826a0364a9087d768248c1883f42,
  src/amzn_nova_forge/dataset (configs/dataset_checks_config.py, dataset_validator/sft_dataset_validator.py).

`data_prep.record_formats.check_bedrock` holds every record against the format, and
tests/unit/data_prep/test_aws_validators.py every file against the validators' rules. Where sources differ, the stricter one
counts. Prices are in dollars, from the secondary sources that docs/costs.md names, as of `pipeline.cost.AS_OF`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Format = Literal["conversation", "prompt_completion"]


@dataclass(frozen=True)
class Range:
    """What a hyperparameter may be. Bedrock takes all of them as strings."""

    kind: type[int] | type[float]
    minimum: float
    maximum: float
    default: float


@dataclass(frozen=True)
class BaseModel:
    """One foundation model that a customization job accepts.

    Attributes:
        id: `baseModelIdentifier`, and the resource of the foundation model's ARN.
        region: the one region in which it can be customized.
        format: the training data's record format.
        min_records: the fewest training and validation records together.
        max_records: the most training and validation records together.
        min_file_records: the fewest records of each of both files.
        max_validation_records: the most validation records.
        max_tokens_per_record: the longest record in tokens, estimated at `chars_per_token` characters each.
        hyperparameters: allowed names and ranges.
        served: how the custom model can be called: deployed on demand, or only with Provisioned Throughput.
        usd_per_1k_tokens: price of its training (`pipeline.cost.AS_OF` has the day); None is not known, and never 0.
        forbidden: texts that a record must not hold.
    """

    id: str
    region: str
    format: Format
    min_records: int
    max_records: int
    max_tokens_per_record: int
    hyperparameters: dict[str, Range]
    served: Literal["on_demand", "provisioned_throughput"]
    usd_per_1k_tokens: float | None
    max_validation_records: int
    min_file_records: int = 1
    forbidden: tuple[str, ...] = ()
    chars_per_token: int = field(default=6)


# [guide], as the ranges of Nova.
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
"""[forge] CONVERSE_FORMAT_RESERVED_KEYWORDS, which are also [guide]'s but for the last; matched with their case, anywhere."""

BASE_MODELS: dict[str, BaseModel] = {
    model.id: model
    for model in (
        BaseModel(
            id="amazon.nova-micro-v1:0:128k",
            region="us-east-1",
            format="conversation",
            min_records=16,  # [guide] 8 together; [nova] 8 in a file (MODEL_TO_NUM_SAMPLES_MAP)
            min_file_records=8,
            max_records=20_000,  # [guide] [nova] [forge]
            max_validation_records=20_000,
            max_tokens_per_record=32_000,  # [guide]
            hyperparameters=_NOVA,
            served="on_demand",
            # From memory; articles that name 2.18 dollars for a job of about 5,000 short examples agree with its size.
            usd_per_1k_tokens=0.001,
            forbidden=_NOVA_FORBIDDEN,
        ),
        BaseModel(
            id="meta.llama3-3-70b-instruct-v1:0:128k",
            region="us-west-2",
            format="conversation",
            min_records=100,  # [guide]
            max_records=10_000,  # [guide]; [llama] as many in the training file alone
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
            max_records=10_000,  # [guide]; [llama] as many in the training file alone
            max_validation_records=1_000,  # [llama] MAX_VALIDATION_RECORDS
            max_tokens_per_record=16_000,  # [guide] [llama] README.md
            hyperparameters=_LLAMA,
            served="provisioned_throughput",
            usd_per_1k_tokens=0.00149,
        ),
    )
}

REGIONS = ("us-east-1", "us-west-2")
"""Where a run can make something in Bedrock: in any other Region nobody asks Bedrock for what a stack has there, and it need
not even have an endpoint. A Region stays in this list when its last model leaves the catalogue: a stack that was deployed
before may have models there."""

END_OF_LIFE: dict[str, str] = {
    "meta.llama3-2-1b-instruct-v1:0": (
        "Llama 3.2 1B became Legacy on 2026-01-07 and reached its end of life on Bedrock on 2026-07-07; "
        "Bedrock refuses new customization jobs on it"
    ),
}
"""Models that users ask for and Bedrock no longer customizes (Bedrock user guide, "Model lifecycle")."""

DEFAULT_BY_REGION: dict[str, str] = {
    "us-east-1": "amazon.nova-micro-v1:0:128k",
    "us-west-2": "meta.llama3-3-70b-instruct-v1:0:128k",
}
"""What `bedrock.base_model: null` means: both can be deployed on demand."""


def end_of_life(model_id: str) -> str | None:
    """The reason why `model_id` (with or without its context-length suffix) can no longer be customized."""
    return next((why for gone, why in END_OF_LIFE.items() if model_id.startswith(gone)), None)
