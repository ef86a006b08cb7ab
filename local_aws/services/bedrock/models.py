"""The foundation models that local Bedrock knows, their life cycle, and the rules of a customization job on each.

Sources, all from the Amazon Bedrock User Guide: "Supported models and Regions for fine-tuning" (Regions,
customizations), "Model lifecycle" (Legacy and end-of-life dates), "Prepare data for fine-tuning your models"
and "Fine-tuning Amazon Nova models" (formats, record limits, reserved words), "Custom model hyperparameters"
(names and ranges), "Supported Regions and models for inference profiles".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal


@dataclass(frozen=True)
class Rules:
    """The rules of a fine-tuning job on a base model.

    Attributes:
        record_format: the form of a line of the data files.
        records: fewest and most records, training and validation together.
        tokens: the most tokens of one record, counted as characters divided by 6.
        hyperparameters: name -> (is an integer, least, greatest).
        reserved: texts that no record may contain.
        least_in_file: the fewest records of the training file and of the validation file.
        most_in_validation: the most records of the validation file, None without a limit of its own.
    """

    record_format: Literal["conversation", "prompt_completion"]
    records: tuple[int, int]
    tokens: int
    hyperparameters: dict[str, tuple[bool, float, float]]
    reserved: tuple[str, ...] = ()
    least_in_file: int = 1
    most_in_validation: int | None = None


@dataclass(frozen=True)
class FoundationModel:
    """One entry of ListFoundationModels."""

    id: str
    name: str
    provider: str
    regions: tuple[str, ...]
    inference: tuple[str, ...]
    start_of_life: datetime
    rules: Rules | None = None
    legacy: datetime | None = None
    end_of_life: datetime | None = None
    on_demand: bool = False
    """Whether its custom models can be deployed on demand. The others need Provisioned Throughput."""
    profile_regions: tuple[str, ...] = ()
    """The Regions in which it is invoked through the inference profile `us.ID` alone."""
    most_tokens: int | None = None
    """The most tokens of an answer, if Converse refuses a request for more."""

    def lifecycle_status(self, now: datetime) -> str:
        """Return ACTIVE, or LEGACY from the announced day on. The API has no third value."""
        return "LEGACY" if self.legacy is not None and now >= self.legacy else "ACTIVE"

    def inference_in(self, region: str) -> list[str]:
        """Return how the model is invoked in a Region."""
        return ["INFERENCE_PROFILE"] if region in self.profile_regions else list(self.inference)

    def arn(self, region: str) -> str:
        """Return the model's ARN, which has no account."""
        return f"arn:aws:bedrock:{region}::foundation-model/{self.id}"

    def details(self, region: str, now: datetime) -> dict[str, Any]:
        """Return FoundationModelDetails, which is also FoundationModelSummary here."""
        return {
            "modelArn": self.arn(region),
            "modelId": self.id,
            "modelName": self.name,
            "providerName": self.provider,
            "inputModalities": ["TEXT"],
            "outputModalities": ["TEXT"],
            "responseStreamingSupported": True,
            "customizationsSupported": ["FINE_TUNING"] if self.rules else [],
            "inferenceTypesSupported": self.inference_in(region),
            "modelLifecycle": {
                "status": self.lifecycle_status(now),
                "startOfLifeTime": self.start_of_life,
                "legacyTime": self.legacy,
                "endOfLifeTime": self.end_of_life,
            },
        }


_LLAMA_HYPERPARAMETERS = {
    "epochCount": (True, 1.0, 10.0),
    "batchSize": (True, 1.0, 1.0),
    "learningRate": (False, 5e-6, 0.1),
}
_NOVA_HYPERPARAMETERS = {
    "epochCount": (True, 1.0, 5.0),
    "learningRate": (False, 1e-6, 1e-4),
    "learningRateWarmupSteps": (True, 0.0, 100.0),
}
_NOVA_RESERVED = (
    *("System:", "SYSTEM:", "User:", "USER:", "Bot:", "BOT:", "Assistant:", "ASSISTANT:", "Thought:"),
    *("[EOS]", "<image>", "<video>", "<unk>"),
)
_LLAMA_CONVERSATION = Rules("conversation", (100, 10_000), 16_000, _LLAMA_HYPERPARAMETERS, most_in_validation=1_000)
_LLAMA_PROMPT = Rules("prompt_completion", (100, 10_000), 16_000, _LLAMA_HYPERPARAMETERS, most_in_validation=1_000)
_NOVA = Rules("conversation", (8, 20_000), 32_000, _NOVA_HYPERPARAMETERS, _NOVA_RESERVED, least_in_file=8)


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _pair(
    model_id: str, name: str, rules: Rules, customized_in: str, *days: str, on_demand: bool = False
) -> list[FoundationModel]:
    """Return a model for invocation, and its variant with a context length, which can be customized.

    `days` are the start of its life and, if announced, the day on which it became Legacy and the end of its life.
    """
    provider = {"amazon": "Amazon", "meta": "Meta"}[model_id.partition(".")[0]]
    started, *announced = map(_day, days)
    legacy, ended = announced or (None, None)
    tuned, everywhere = f"{model_id}:128k", ("us-east-1", "us-west-2")
    return [
        FoundationModel(model_id, name, provider, everywhere, ("ON_DEMAND",), started, None, legacy, ended),
        FoundationModel(
            tuned, name, provider, (customized_in,), ("PROVISIONED",), started, rules, legacy, ended, on_demand
        ),
    ]


def _nova(name: str) -> FoundationModel:
    """Return a Nova model for invocation."""
    return FoundationModel(
        f"amazon.nova-{name}-v1:0",
        f"Nova {name.capitalize()}",
        "Amazon",
        ("us-east-1", *_NOVA_PROFILE),
        ("ON_DEMAND",),
        _day("2024-12-03"),
        profile_regions=_NOVA_PROFILE,
        most_tokens=10_000,  # "Complete request schema" of the Nova User Guide: maxTokens is at most 10,000.
    )


_NOVA_PROFILE = ("us-east-2", "us-west-2")
_ENDED = ("2024-09-25", "2026-01-07", "2026-07-07")  # Of Llama 3.2 1B.
FOUNDATION_MODELS: tuple[FoundationModel, ...] = (
    *map(_nova, ("micro", "lite", "pro")),
    _pair("amazon.nova-micro-v1:0", "Nova Micro", _NOVA, "us-east-1", "2024-12-03", on_demand=True)[1],
    *_pair(
        "meta.llama3-3-70b-instruct-v1:0",
        "Llama 3.3 70B Instruct",
        _LLAMA_CONVERSATION,
        "us-west-2",
        "2024-12-19",
        on_demand=True,
    ),
    *_pair("meta.llama3-1-8b-instruct-v1:0", "Llama 3.1 8B Instruct", _LLAMA_PROMPT, "us-west-2", "2024-07-23"),
    *_pair("meta.llama3-2-1b-instruct-v1:0", "Llama 3.2 1B Instruct", _LLAMA_PROMPT, "us-west-2", *_ENDED),
)


def find(identifier: str, region: str, legacy: str = "") -> FoundationModel | None:
    """Return the model of an id or ARN, if the Region has it. The model with the id `legacy` is Legacy from its start on."""
    model_id = identifier.rsplit("foundation-model/", 1)[-1]
    found = next((m for m in FOUNDATION_MODELS if m.id == model_id and region in m.regions), None)
    return replace(found, legacy=found.start_of_life) if found is not None and found.id == legacy else found


def in_profile(identifier: str, region: str) -> FoundationModel | None:
    """Return the model of an inference profile's id or ARN, if the Region has the profile. It calls the model in others too."""
    profile = identifier.rsplit("inference-profile/", 1)[-1]
    found = find(profile.removeprefix("us."), region) if profile.startswith("us.") else None
    return found if found is not None and found.profile_regions else None
