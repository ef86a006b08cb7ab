"""The event and the result of Plan."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pipeline.contracts.data import Preparation
from pipeline.contracts.money import EndpointInstances, Estimate, Prices
from pipeline.contracts.values import AwsRequest, JsonObject

BedrockMode = Literal["customize", "import", "off"]


class StackFacts(NamedTuple):
    """The resources of the stack that exist in the account: names, ARNs and URIs."""

    prefix: str
    bucket: str
    region: str
    training_role: str
    model_role: str
    bedrock_role: str
    import_role: str
    expiry_role: str
    caller_role: str
    expiry_failed: str
    idle_function: str
    idle_role: str
    idle_failed: str
    training_image: str
    serving_image: str
    topic: str
    tags: dict[str, str]


class PlanEvent(NamedTuple):
    """Plan's event.

    Attributes:
        input: the execution's input, which Plan checks.
        execution: the execution's ARN.
        settings: the settings as deployed (`Settings.model_dump`).
        stack: the stack's facts.
    """

    input: Any
    execution: str
    settings: JsonObject
    stack: StackFacts


class Refusal(NamedTuple):
    """Plan's answer if the user has to mend something. `refusal` says in one line what to mend."""

    refusal: str


class GpuMemory(NamedTuple):
    """The lower bound of a model's memory on one GPU, and the memory by instance type, in GB. None means not known here."""

    needs: float
    has: dict[str, float | None]


class PlannedBaseModel(NamedTuple):
    """The base model on the day of the plan. The keys of `gpu_memory_gb` are `training` and `endpoint`."""

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


Promote = Literal["always", "better", "clearly_better"]
"""The rule by which a tuned model is served."""


class AssessPlan(NamedTuple):
    """The S3 prefix for the base model's answers, and the settings by which Assess decides.

    `judge_decides` says whether training.evaluation.promote_by is judge.
    """

    baseline: str
    enabled: bool
    promote: Promote
    max_faulty_share: float
    judge_decides: bool = False


class JudgePlan(NamedTuple):
    """How a model of Bedrock compares the answers of the base and the tuned model.

    Attributes:
        model: the model's id for Converse.
        rows: the most rows that it compares.
        max_bytes: the longest request, in bytes of UTF-8. A longer row is left out, so that the cost has a bound.
        input_usd: the price of a million input tokens.
        output_usd: the price of a million output tokens.
    """

    model: str
    rows: int
    max_bytes: int
    input_usd: float
    output_usd: float


class RegisterPlan(NamedTuple):
    """How to register the model in SageMaker's Model Registry.

    Attributes:
        group: the name of the model package group, which is the stack's prefix.
        tags: the tags of the group. A version in a group cannot have tags.
        container: the container of the version, without the location of the model.
        instance_types: the instance types that the run would serve the model on.
        metadata: what is known of the model when the run is planned, by its name in CustomerMetadataProperties.
    """

    group: str
    tags: list[AwsRequest]
    container: AwsRequest
    instance_types: list[str]
    metadata: dict[str, str | None]


class CustomizePlan(NamedTuple):
    """How to customize a Bedrock model.

    Attributes:
        request: the request of CreateModelCustomizationJob without its names and token.
        timeout_hours: the job's time limit.
        deployment: the request of CreateCustomModelDeployment without its model. None if the custom model cannot be called on
            demand.
    """

    request: AwsRequest
    timeout_hours: int
    deployment: AwsRequest | None


class ImportPlan(NamedTuple):
    """The request of CreateModelImportJob without its names, token and model, and the time limit of waiting for the job."""

    request: AwsRequest
    timeout_hours: int


class ExpiryPlan(NamedTuple):
    """When and how the endpoint is deleted.

    Attributes:
        minutes: the minutes from the start of a deployment.
        role: ARN of the role that deletes the endpoint.
        dead_letter: ARN of the queue for a deletion that failed.
    """

    minutes: int
    role: str
    dead_letter: str


class IdlePlan(NamedTuple):
    """When and how an endpoint that nobody uses is deleted.

    Attributes:
        minutes: the minutes without use.
        function: ARN of the function that looks for use.
        role: ARN of the role that calls the function.
        dead_letter: ARN of the queue for a call that failed.
        topic: ARN of the topic that gets a message when the endpoint is gone.
    """

    minutes: int
    function: str
    role: str
    dead_letter: str
    topic: str


class DeployPlan(NamedTuple):
    """How to bring the endpoint up.

    Attributes:
        endpoint: the endpoint's name.
        model: the request of CreateModel without its name, container and tags.
        container: the PrimaryContainer of CreateModel, without the location of the model.
        variant: the variant of CreateEndpointConfig, without its names.
        tags: the tags of model, endpoint config and endpoint.
        startup_timeout_minutes: the time limit for the container's start.
        poll_seconds: the first wait between two looks, in seconds.
        expiry: when and how the endpoint is deleted at the latest. None means that it stays.
        idle: when and how the endpoint is deleted because nobody uses it. None means that it stays.
    """

    endpoint: str
    model: AwsRequest
    container: AwsRequest
    variant: AwsRequest
    tags: list[AwsRequest]
    startup_timeout_minutes: int
    poll_seconds: int
    expiry: ExpiryPlan | None
    idle: IdlePlan | None = None


class ServePlan(NamedTuple):
    """The model of an earlier run, for a run that only serves it.

    Attributes:
        run: the run that made the model.
        job: its training job.
        model: S3 prefix of the model, with its slash.
        manifest: S3 URI of data prep's manifest of that run.
        why: one line with the scores, and why the model is served.
        scores: the scores of that run's evaluation.
        again: the input of an execution that serves the model again.
    """

    run: str
    job: str
    model: str
    manifest: str
    why: str
    scores: JsonObject
    again: JsonObject


class HowToCall(NamedTuple):
    """How to call the endpoint: the base URL for any OpenAI client, and the lines of a Python program that calls it."""

    base_url: str
    python: list[str]


class RunRecord(NamedTuple):
    """The part of a run's record that is known when the run is planned.

    `changed` holds the settings that differ from Tuneway's defaults, by their dotted names, each with `default` and `value`.
    `settings` holds the settings that differ from the deployed ones, by their dotted names. `model_run` is the run that made
    the model: the run itself, or the earlier run whose model it serves. `instruction` is the system message that all rows of
    the training share, or None. Plan fills in `dataset.instruction`, and the state machine puts data prep's answer in its
    place, as with `formats`, the number of files by the format of their rows. `max_tokens` is the longest answer of the
    evaluation. A user who calls the model with both calls it as it was evaluated.
    `prices` and `fleet` are there to count what was spent. `fleet` is None for a run without an endpoint. `max_cost` is the
    setting of that name. Two runs with the same `dataset_key` train on the same tokens (`pipeline.source.figures`).
    """

    folder: str
    run: str
    model_run: str
    execution: str
    settings: JsonObject
    changed: JsonObject
    instruction: str | None
    max_tokens: int
    base_model: str
    licences: dict[str, str | None]
    bedrock_mode: BedrockMode
    bedrock_base_model: str | None
    estimate: Estimate
    prices: Prices
    fleet: EndpointInstances | None
    region: str
    max_cost: float | None = None
    dataset_key: str | None = None
    training_instance_count: int = 1
    formats: dict[str, int] = {}  # noqa: RUF012 - nothing changes a contract's value


class Plan(NamedTuple):
    """Plan's result, which every later state reads.

    `train` is the request of CreateTrainingJob without its name. `keep_models` is bedrock.keep_models. A run that serves the
    model of an earlier run has `serve`, and neither `dataset` nor `prepare`, `train` nor `assess`. `register` is None if
    model_registry is false, and for a run that makes no model. `judge` is None without training.evaluation.judge_model.
    """

    run: str
    name: str
    warnings: list[str]
    base_model: PlannedBaseModel
    dataset: PlannedDataset | None
    estimate: Estimate
    prepare: Preparation | None
    train: AwsRequest | None
    assess: AssessPlan | None
    customize: CustomizePlan | None
    import_model: ImportPlan | None
    keep_models: int
    deploy: DeployPlan | None
    record: RunRecord
    serve: ServePlan | None = None
    register: RegisterPlan | None = None
    judge: JudgePlan | None = None
    refusal: None = None
