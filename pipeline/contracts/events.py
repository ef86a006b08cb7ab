"""The events and answers of the steps after the data, and of the cleanup."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipeline.contracts.bedrock import BedrockAnswer, BedrockJob
from pipeline.contracts.money import Pace, Spent, SpentPart
from pipeline.contracts.planned import AssessPlan, DeployPlan, HowToCall, IdlePlan, JudgePlan, RegisterPlan, RunRecord
from pipeline.contracts.values import AwsRequest, JsonObject


class TrainEvent(NamedTuple):
    """The beginning of the run's names, the count of redrives, and the request of CreateTrainingJob without its name.

    `record` has the limit of the run's cost. None means no limit.
    """

    name: str
    redrive: int
    request: AwsRequest
    record: RunRecord | None = None


class Training(NamedTuple):
    """The progress of the training job.

    Attributes:
        phase: "working" or "completed".
        job: the job's name.
        progress: the progress in one line.
        wait_seconds: the seconds until the next look.
        model: S3 prefix of the model, with its slash, once the job is completed.
        billed_seconds: the billed seconds by instance type, of all instances of all the run's jobs, once the job is completed.
        job_seconds: the seconds of the completed job, from the start of its instances to their end. None if the run needed
            several jobs, or if the job was interrupted.
    """

    phase: Literal["working", "completed"]
    job: str
    progress: str
    wait_seconds: int
    model: str = ""
    billed_seconds: dict[str, int] = {}  # noqa: RUF012 - nothing changes a contract's value
    job_seconds: int | None = None


class JudgeEvent(NamedTuple):
    """How to compare the answers, and the model with its answers."""

    plan: JudgePlan
    record: RunRecord
    training: Training


class Judged(NamedTuple):
    """What the judge model found.

    Attributes:
        failed: why there is no win rate, in one line with the remedy. None if there is one.
        warnings: a line about rows that were not judged.
        verdicts: the win rate with its interval, and the counts (`pipeline.judging.summary`). None without a win rate.
        usd: the cost of the calls, in dollars. None if it is not known.
        tokens: the tokens that Converse has counted, in words.
    """

    failed: str | None
    warnings: list[str]
    verdicts: JsonObject | None = None
    usd: float | None = None
    tokens: str = ""


class AssessEvent(NamedTuple):
    """The settings of Assess, and the model to judge.

    `manifest` is the S3 URI of data prep's manifest. `judged` is None in a run without a judge model.
    """

    plan: AssessPlan
    record: RunRecord
    training: Training
    manifest: str
    judged: Judged | None = None


class Assessment(NamedTuple):
    """The judgement of the tuned model.

    Attributes:
        promoted: whether the model is to be served.
        passes: whether the model passes endpoint.promote, also if endpoint.enabled is false.
        why: one line with the scores, the decision, the setting behind it, and whether too many answers repeat themselves or
            are cut.
        warnings: lines about answers that repeat themselves or are cut, and about rows that were longer than a sequence. Only
            the job's tokenizer could count the latter.
        scores: for the base and the tuned model: the scores of training.evaluation.metrics with their 95% intervals, the length
            in words, and the shares of empty, truncated, copied and repeating answers. For the references: the same, as far as
            it has a meaning. For the difference: the scores. `pipeline.scores` reads them.
        pace: how fast the training job was. None for a model of an earlier run.
        judging: what the judge model has cost. None in a run without one.
    """

    promoted: bool
    passes: bool
    why: str
    warnings: list[str]
    scores: JsonObject
    pace: Pace | None = None
    judging: SpentPart | None = None


class RegisterEvent(NamedTuple):
    """How to register the model, the run's record, and the answers of the steps that made and judged the model."""

    plan: RegisterPlan
    record: RunRecord
    training: Training
    manifest: str
    assessment: Assessment


class RegisteredModel(NamedTuple):
    """The run's version in the Model Registry.

    Attributes:
        version: its ARN. None if the run registers none, or if it could not be registered.
        status: its ModelApprovalStatus, also if a person has changed it.
        warnings: warnings for the user.
    """

    version: str | None
    status: str | None
    warnings: list[str]


class Deployment(NamedTuple):
    """The progress of the endpoint.

    Attributes:
        phase: "skipped" before Deploy and in a run without it. The smoke test sets "superseded", "passed" and "redeploy".
        progress: the progress in one line.
        wait_seconds: the seconds until the next look.
        endpoint: the endpoint's name.
        config: the endpoint config that the run wants.
        until: when the endpoint deletes itself (ISO 8601, UTC). None means never.
        warnings: warnings for the user.
        asked: whether this run has already requested the config.
        before: the endpoint's config at the time of that request.
        since: when the attempt began, in epoch seconds.
        redrive: the count of redrives in which the attempt began.
        earlier_seconds: how long the endpoints of the run's earlier attempts lived at most.
    """

    phase: Literal["skipped", "working", "serving", "superseded", "passed", "redeploy"]
    progress: str = ""
    wait_seconds: int = 0
    endpoint: str = ""
    config: str = ""
    until: str | None = None
    warnings: list[str] = []  # noqa: RUF012 - as above
    asked: bool = False
    before: str | None = None
    since: int = 0
    redrive: int = 0
    earlier_seconds: int = 0


class CustomizeEvent(NamedTuple):
    """The event of Bedrock's customization job, as `TrainEvent`.

    `follow` is false for the start of the job. The start then returns an error as its answer and does not raise it.
    `record`, `training` and `deployed` are there to keep the limit of the run's cost. None means no limit.
    """

    name: str
    redrive: int
    request: AwsRequest
    timeout_hours: int
    follow: bool
    record: RunRecord | None = None
    training: Training | None = None
    deployed: Deployment | None = None


class ImportEvent(NamedTuple):
    """The event of Bedrock's import job, as `CustomizeEvent`. `model` is the S3 prefix of the model to import."""

    name: str
    redrive: int
    model: str
    request: AwsRequest
    timeout_hours: int
    follow: bool
    record: RunRecord | None = None
    training: Training | None = None
    deployed: Deployment | None = None


class DeployEvent(NamedTuple):
    """The model's S3 prefix, and the answer of the previous call, if there was one.

    `record`, `training` and `bedrock` are there to keep the limit of the run's cost. None means no limit.
    """

    name: str
    redrive: int
    model: str
    plan: DeployPlan
    progress: Deployment | None
    record: RunRecord | None = None
    training: Training | None = None
    bedrock: BedrockJob | None = None


class SmokeTestEvent(NamedTuple):
    """The event of the smoke test.

    Attributes:
        endpoint: the endpoint's name.
        config: the endpoint config to test.
        run: the run whose model it serves.
        again: the input of an execution that serves the model again.
        evaluation: S3 URI of the model's evaluation.json, which has held-out dialogues.
        samples: S3 URI of the file to write.
        deployed_at_redrive: the count of redrives when the config was deployed.
        redrive: the count of redrives now.
        idle: when and how the endpoint is deleted because nobody uses it, from now on. None means that it stays.
        caller_role: ARN of the role that may call the endpoint, for the answer's program.
        region: the stack's region.
        instruction: the system message that all rows of the training share, or None.
        max_tokens: the longest answer of the evaluation.
        formats: the number of the dataset's files by the format of their rows.
    """

    endpoint: str
    config: str
    run: str
    again: JsonObject
    evaluation: str
    samples: str
    deployed_at_redrive: int
    redrive: int
    idle: IdlePlan | None
    caller_role: str
    region: str
    instruction: str | None
    max_tokens: int
    formats: dict[str, int]


class SmokeTested(NamedTuple):
    """The result of the smoke test.

    `samples` has the S3 URI of the file with dialogues, references and answers. The file keeps these out of the execution's
    history. `call` says how to call the endpoint, if it has passed.
    """

    phase: Literal["passed", "superseded", "redeploy"]
    samples: list[str]
    call: HowToCall | None = None


class IdleEvent(NamedTuple):
    """The event of the function that looks for use of the endpoint. The schedule holds it, so it outlives deploys.

    Attributes:
        endpoint: the endpoint's name.
        config: the endpoint config whose use counts.
        run: the run whose model it serves.
        again: the input of an execution that serves the model again.
        since: when the smoke test ended, in epoch seconds.
        minutes: the minutes without use after which the endpoint is deleted.
        topic: ARN of the topic that gets a message when the endpoint is gone.
    """

    endpoint: str
    config: str
    run: str
    again: JsonObject
    since: int
    minutes: int
    topic: str


class Idleness(NamedTuple):
    """What the endpoint was found to be, and why. "other" is an endpoint on the config of another deployment."""

    state: Literal["gone", "other", "in use", "idle"]
    why: str


class RecordEvent(NamedTuple):
    """The answers of all earlier steps."""

    record: RunRecord
    training: Training
    manifest: str
    assessment: Assessment
    deployed: Deployment
    bedrock: BedrockJob
    answer: BedrockAnswer | None
    registered: RegisteredModel | None = None


class Recorded(NamedTuple):
    """The answer of Record: the cost of the run so far."""

    spent: Spent


class ReportEvent(NamedTuple):
    """The event of the report.

    Attributes:
        execution: ARN of the execution that the page tells.
        moment: "serving" while Bedrock is still at work, "done" at the end of the run, both asked by a state of the execution
            itself. "ended" after the execution's end, good or bad.
        bucket: the stack's bucket.
        region: the stack's region.
        spent: what the run has cost until its end, as the cleanup has counted it. None: the run's record has it.
    """

    execution: str
    moment: Literal["serving", "done", "ended"]
    bucket: str
    region: str
    spent: Spent | None = None


class Reported(NamedTuple):
    """The S3 URI of the run's page, and a line for each part that could not be read. None if no page could be written."""

    page: str | None
    warnings: list[str]


class CleanupEvent(NamedTuple):
    """The event of the cleanup.

    Attributes:
        execution: ARN of the execution that ended.
        redrives: how often it had been redriven when it ended.
        prefix: the stack's prefix.
        region: the stack's region.
    """

    execution: str
    redrives: int
    prefix: str
    region: str


class CleanedUp(NamedTuple):
    """The answer of the cleanup.

    Attributes:
        left: one line for each job or endpoint that has not ended yet.
        subject: the subject of the message for the user. None if the execution runs again.
        message: its text. None if the execution runs again.
        spent: what the run has cost. None if it made nothing, or if that is not known.
    """

    left: list[str]
    subject: str | None
    message: str | None
    spent: Spent | None
