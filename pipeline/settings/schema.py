"""All sections together, and the rules between them."""

from __future__ import annotations

import re

from pydantic import model_validator

from pipeline.settings.base import MANY, Section, run
from pipeline.settings.bedrock import BedrockSettings
from pipeline.settings.dataset import DatasetSettings
from pipeline.settings.endpoint import EndpointSettings
from pipeline.settings.stack import (
    AccessSettings,
    EncryptionSettings,
    FunctionsSettings,
    NetworkSettings,
    NotificationsSettings,
    StackSettings,
    StorageSettings,
)
from pipeline.settings.training import TrainingSettings

EXECUTION_DAYS = 7
"""The time limit of an execution. Bedrock jobs take hours, and may queue for a day. A history holds at most 25,000 events. The
loops of an execution stay below that, because the waits between their looks grow (`pipeline.jobs.wait`)."""

_RESERVE_HOURS = 24
"""The part of that time for steps that no setting bounds. The longest is a training job's wait for its instances."""

_BEDROCK_TAG = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*", re.ASCII)
"""The pattern of Bedrock's TagKey and TagValue (service model)."""


class Settings(Section):
    """All sections of config.yaml."""

    stack: StackSettings
    notifications: NotificationsSettings
    functions: FunctionsSettings
    access: AccessSettings
    encryption: EncryptionSettings
    network: NetworkSettings
    storage: StorageSettings
    max_cost: float | None = run(
        "the most that one run may cost. Plan refuses a run whose bound is higher or not known, and a redrive starts no job "
        "and no endpoint that may go beyond it; null: no limit",
        unit="US dollars",
        gt=0,
        le=MANY,
    )
    model_registry: bool = run(
        "whether the tuned model is registered as a version in SageMaker's Model Registry, in the stack's one group: "
        "approved if it passes endpoint.promote, else rejected"
    )
    dataset: DatasetSettings
    training: TrainingSettings
    bedrock: BedrockSettings
    endpoint: EndpointSettings

    @model_validator(mode="after")
    def _isolation_has_model_and_wheels(self) -> Settings:
        if self.network.isolation and not (self.training.is_uploaded and self.network.wheels):
            raise ValueError(
                "network.isolation: an isolated training job reaches neither the Hub nor PyPI; set training.base_model to "
                "uploads/models/FOLDER/ and network.wheels to uploads/FOLDER/, both in the stack's bucket"
            )
        return self

    @model_validator(mode="after")
    def _tags_fit_bedrock(self) -> Settings:
        texts = [text for tag in self.stack.tags.items() for text in tag] if self.bedrock.mode != "off" else []
        wrong = next((text for text in texts if not _BEDROCK_TAG.fullmatch(text)), None)
        if wrong is not None:
            raise ValueError(
                f"stack.tags: Bedrock takes only a to z, digits, blanks and _ . : / = + - @ in tags, and not '{wrong}'; "
                "write it with these characters, or set bedrock.mode to off"
            )
        return self

    @model_validator(mode="after")
    def _times_fit_an_execution(self) -> Settings:
        training, endpoint = self.training, self.endpoint
        minutes = {
            "training.max_runtime_minutes": training.max_runtime_minutes,
            "training.spot_wait_minutes": training.spot_wait_minutes if training.spot else 0,
            "bedrock.timeout_hours": self.bedrock.timeout_hours * 60 if self.bedrock.mode != "off" else 0,
            "endpoint.startup_timeout_minutes": endpoint.startup_timeout_minutes if endpoint.enabled else 0,
        }
        most = EXECUTION_DAYS * 24 - _RESERVE_HOURS
        if sum(minutes.values()) > most * 60:
            largest = max(minutes, key=lambda name: minutes[name])
            parts, hours = " + ".join(name for name in minutes if minutes[name]), sum(minutes.values()) / 60
            raise ValueError(
                f"{largest}: {parts} are {hours:g} hours together, and an execution has {most} for them; lower {largest}"
            )
        return self

    @model_validator(mode="after")
    def _serves_the_trained_length(self) -> Settings:
        if self.endpoint.max_model_len < self.training.max_length:
            raise ValueError(
                f"endpoint.max_model_len: {self.endpoint.max_model_len} is less than training.max_length "
                f"({self.training.max_length}): the endpoint would refuse texts as long as the training's; raise the "
                "first, or lower the second"
            )
        return self
