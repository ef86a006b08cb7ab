"""What infra hands to Plan, and Plan's result."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pipeline.contracts.data import Preparation
from pipeline.contracts.values import AwsRequest, JsonObject


class StackFacts(NamedTuple):
    """What exists in the account: names, ARNs and URIs."""

    prefix: str
    bucket: str
    region: str
    training_role: str
    model_role: str
    bedrock_role: str
    expiry_role: str
    expiry_failed: str
    training_image: str
    serving_image: str
    topic: str
    tags: dict[str, str]


class PlanEvent(NamedTuple):
    """Plan's event.

    Attributes:
        input: the execution's, which Plan checks.
        execution: its ARN.
        settings: as deployed (`Settings.model_dump`).
        stack: what exists.
    """

    input: Any
    execution: str
    settings: JsonObject
    stack: StackFacts


class Refusal(NamedTuple):
    """Plan's answer where the user has to mend something, in one line."""

    refusal: str


class GpuMemory(NamedTuple):
    """GB that a model needs of one GPU at least, and has by instance type; None is not known here."""

    needs: float
    has: dict[str, float | None]


class PlannedBaseModel(NamedTuple):
    """The base model on the day of the plan; `gpu_memory_gb` is by `training` and `endpoint`."""

    name: str
    revision: str | None
    licence: str | None
    gated: bool | None
    parameters: int
    gpu_memory_gb: dict[str, GpuMemory]


class PlannedDataset(NamedTuple):
    """The dataset on the day of the plan."""

    name: str
    revision: str | None
    licence: str | None
    gated: bool | None


class Estimate(NamedTuple):
    """Dollars at most by part, each None where a price is not known; `unknown` names why."""

    training: float | None
    bedrock: float | None
    endpoint: float | None
    total: float | None
    currency: str
    prices_as_of: str
    unknown: list[str]


class AssessPlan(NamedTuple):
    """The S3 prefix for the base model's answers, and the settings that decide."""

    baseline: str
    enabled: bool
    promote: Literal["always", "better", "clearly_better"]
    max_faulty_share: float


class CustomizePlan(NamedTuple):
    """CreateModelCustomizationJob without its names and token, and the job's time."""

    request: AwsRequest
    timeout_hours: int


class ExpiryPlan(NamedTuple):
    """The endpoint's end: minutes from its start, the role that deletes it, and the queue (ARN) for an end that failed."""

    minutes: int
    role: str
    dead_letter: str


class DeployPlan(NamedTuple):
    """How to bring the endpoint up.

    Attributes:
        endpoint: its name.
        model: CreateModel without its name, container and tags.
        container: its PrimaryContainer without the model's place.
        variant: of CreateEndpointConfig, without its names.
        tags: of all three.
        startup_timeout_minutes: the container's.
        poll_seconds: the first wait between two looks.
        expiry: None: the endpoint stays.
    """

    endpoint: str
    model: AwsRequest
    container: AwsRequest
    variant: AwsRequest
    tags: list[AwsRequest]
    startup_timeout_minutes: int
    poll_seconds: int
    expiry: ExpiryPlan | None


class RunRecord(NamedTuple):
    """What is known of a run when it is planned; `settings` are those that are not as deployed, by their names with dots."""

    folder: str
    run: str
    execution: str
    settings: JsonObject
    base_model: str
    licences: dict[str, str | None]
    bedrock_base_model: str | None
    bedrock_usd_at_most: float | None
    region: str


class Plan(NamedTuple):
    """Plan's result, which every later state reads; `train` is CreateTrainingJob without its name."""

    run: str
    name: str
    warnings: list[str]
    base_model: PlannedBaseModel
    dataset: PlannedDataset
    estimate: Estimate
    prepare: Preparation
    train: AwsRequest
    assess: AssessPlan
    customize: CustomizePlan | None
    deploy: DeployPlan | None
    record: RunRecord
    refusal: None = None
