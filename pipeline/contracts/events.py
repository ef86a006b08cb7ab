"""The events and answers of the steps after the data, and of the cleanup."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipeline.contracts.planned import DeployPlan, RunRecord
from pipeline.contracts.values import AwsRequest, JsonObject


class TrainEvent(NamedTuple):
    """What the run's names begin with, the count of redrives, and CreateTrainingJob without its name."""

    name: str
    redrive: int
    request: AwsRequest


class Training(NamedTuple):
    """How far the training job is.

    Attributes:
        phase: "working" or "completed".
        job: its name.
        progress: one line.
        wait_seconds: until the next look.
        model: S3 prefix with its slash, of a completed job.
        billed_seconds: of all the run's jobs and their instances, by instance type, of a completed job.
    """

    phase: Literal["working", "completed"]
    job: str
    progress: str
    wait_seconds: int
    model: str = ""
    billed_seconds: dict[str, int] = {}  # noqa: RUF012 - nothing changes a contract's value


class AssessEvent(NamedTuple):
    """`AssessPlan` with what is to be judged; `manifest` is data prep's."""

    baseline: str
    enabled: bool
    promote: Literal["always", "better", "clearly_better"]
    max_faulty_share: float
    record: RunRecord
    training: Training
    manifest: str


class Assessment(NamedTuple):
    """The verdict.

    Attributes:
        promoted: whether the model is served.
        why: one line: the scores, what was decided by which setting, and whether too many answers repeat themselves or are cut.
        warnings: the same of the answers, and how many rows were longer than a sequence, which only the job's tokenizer knew.
        scores: of base and tuned ROUGE and chrF with their 95% intervals, length in words and shares of empty, truncated,
            copied and repeating answers, the same of the references as far as it has a meaning, and ROUGE and chrF of the
            difference.
    """

    promoted: bool
    why: str
    warnings: list[str]
    scores: JsonObject


class CustomizeEvent(NamedTuple):
    """As `TrainEvent`, of Bedrock; `follow` is false for the start, which keeps what refuses the job."""

    name: str
    redrive: int
    request: AwsRequest
    timeout_hours: int
    follow: bool


class Customization(NamedTuple):
    """How far Bedrock's job is; `jobs` is how many the run has made, `custom_model` an ARN, of a completed job."""

    phase: Literal["not wanted", "refused", "working", "completed"]
    job: str | None
    jobs: int
    progress: str
    wait_seconds: int = 0
    custom_model: str | None = None


class Deployment(NamedTuple):
    """How far the endpoint is.

    Attributes:
        phase: "skipped" before and without Deploy; the last three are the smoke test's.
        progress: one line.
        wait_seconds: until the next look.
        endpoint: its name.
        config: the endpoint config asked for.
        until: when the endpoint deletes itself (ISO 8601, UTC); None: never.
        warnings: for the user.
        asked: whether this run has asked for the config.
        before: the config that the endpoint was on then.
        since: when the attempt began, in epoch seconds.
        redrive: the attempt.
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


class DeployEvent(NamedTuple):
    """The model's S3 prefix, and what the call before returned, if there was one."""

    name: str
    redrive: int
    model: str
    request: DeployPlan
    progress: Deployment | None


class SmokeTestEvent(NamedTuple):
    """Endpoint and config to ask, the test split's S3 folder, the S3 URI to write, and the counts of redrives."""

    endpoint: str
    config: str
    test: str
    samples: str
    deployed_at_redrive: int
    redrive: int


class SmokeTested(NamedTuple):
    """`samples` has the URI of the dialogues, references and answers, which are no part of an execution's history."""

    phase: Literal["passed", "superseded", "redeploy"]
    samples: list[str]


class RecordEvent(NamedTuple):
    """All that the steps before have answered."""

    record: RunRecord
    training: Training
    manifest: str
    assessment: Assessment
    deployed: Deployment
    customization: Customization


class Spent(NamedTuple):
    """What a run has cost; None where a price is not known."""

    training_seconds_billed: int
    training_instance_types: list[str]
    training_usd: float | None
    bedrock_usd_at_most: float | None
    prices_as_of: str


class Recorded(NamedTuple):
    """What a run has spent so far."""

    spent: Spent


class CleanupEvent(NamedTuple):
    """The ended execution's ARN, how often it had been redriven then, and the stack's prefix and region."""

    execution: str
    redrives: int
    prefix: str
    region: str


class CleanedUp(NamedTuple):
    """What is still in motion, a line each; subject and message for the user, null where the execution runs again."""

    left: list[str]
    subject: str | None
    message: str | None
