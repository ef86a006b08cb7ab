"""The section `bedrock`: the model that a run makes in Amazon Bedrock."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import PlainValidator, field_validator

from pipeline import catalogue
from pipeline.contracts.planned import BedrockMode
from pipeline.settings.base import Section, run


def _number(value: Any) -> int | float:
    # Checked by hand, because pydantic reports a mistake in a union once for each of its members.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError("must be a number, without quotes")


class BedrockSettings(Section):
    """The model in Bedrock: a base model of Bedrock that is customized, or the tuned model that is imported."""

    mode: BedrockMode = run(
        "what a run makes in Bedrock; customize: a customized base model of Bedrock; import: the tuned model itself, if it "
        "passes endpoint.promote; off: nothing"
    )
    keep_models: int = run(
        "how many models of this kind stay in Bedrock, this run's included; older ones are deleted when nothing uses them",
        unit="models",
        ge=1,
        le=100,
    )
    base_model: str | None = run("base model of the catalogue; null: the one for the stack's region", min_length=1)
    max_records: int = run(
        "largest number of records, training and validation together; the price is per token and epoch",
        unit="records",
        ge=8,
        le=20_000,
    )
    hyperparameters: dict[str, Annotated[int | float, PlainValidator(_number, json_schema_input_type=float)]] = run(
        "hyperparameters by Bedrock's own names; a missing one keeps Bedrock's default"
    )
    timeout_hours: int = run(
        "a customization job that is not completed after this time is stopped, and makes no custom model; an import job cannot "
        "be stopped, and is waited for no longer",
        unit="hours",
        ge=1,
        le=144,
    )

    @field_validator("base_model")
    @classmethod
    def _is_in_the_catalogue(cls, value: str | None) -> str | None:
        if value is None or value in catalogue.BASE_MODELS:
            return value
        gone = catalogue.end_of_life(value)
        known = ", ".join(catalogue.BASE_MODELS)
        raise ValueError(f"{gone}; use one of {known}" if gone else f"not in the catalogue; use one of {known}")
