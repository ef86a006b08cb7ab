"""The events and answers of the steps that make, serve, ask and retire models in Bedrock."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipeline.contracts.values import AwsRequest


class BedrockJob(NamedTuple):
    """The progress of the job that makes the run's model in Bedrock, by customization or by import.

    `jobs` is the number of jobs that the run has made. `model` is the ARN of the custom or imported model, once the job is
    completed.
    """

    phase: Literal["not wanted", "refused", "working", "completed"]
    job: str | None
    jobs: int
    progress: str
    wait_seconds: int = 0
    model: str | None = None


class ModelDeployment(NamedTuple):
    """The progress of the deployment that serves a custom model on demand.

    Attributes:
        phase: "superseded" means that another run's model has taken the deployment.
        progress: the progress in one line.
        wait_seconds: the seconds until the next look.
        arn: the deployment's ARN, once it exists.
        asked: whether this run has already requested its model.
        before: the deployment's model at the time of that request.
        since: when the attempt began, in epoch seconds.
        redrive: the count of redrives in which the attempt began.
    """

    phase: Literal["working", "serving", "superseded"]
    progress: str = ""
    wait_seconds: int = 0
    arn: str = ""
    asked: bool = False
    before: str | None = None
    since: int = 0
    redrive: int = 0


class ModelDeploymentEvent(NamedTuple):
    """The custom model to serve, and the answer of the previous call, if there was one.

    `request` is the request of CreateCustomModelDeployment without its model.
    """

    redrive: int
    model: str
    request: AwsRequest
    progress: ModelDeployment | None


class BedrockAnswer(NamedTuple):
    """The result of asking the run's model in Bedrock for summaries.

    Attributes:
        phase: "waking" until the model answers.
        progress: the progress in one line.
        wait_seconds: the seconds until the next call.
        model_id: the `modelId` of a call: the ARN of the deployment or of the imported model.
        api: the operation that the model understands.
        call: a command that asks the model, for the user.
        samples: the S3 URI of the file with dialogues, references and answers.
        units: the custom model units of a copy of an imported model, if Bedrock tells them.
        since: when the attempt began, in epoch seconds.
        redrive: the count of redrives in which the attempt began.
    """

    phase: Literal["waking", "passed"]
    progress: str
    wait_seconds: int
    model_id: str
    api: Literal["Converse", "InvokeModel"]
    call: str | None = None
    samples: list[str] = []  # noqa: RUF012 - nothing changes a contract's value
    units: int | None = None
    since: int = 0
    redrive: int = 0


class AskBedrockEvent(NamedTuple):
    """The event of asking the run's model in Bedrock.

    Attributes:
        model_id: the ARN of the deployment or of the imported model.
        instruction: the system message that all rows of the training share, for the command in the answer. None: none.
        max_tokens: the longest answer of the evaluation, for the command too.
        evaluation: S3 URI of the tuned model's evaluation.json, which has held-out dialogues.
        samples: S3 URI of the file to write.
        redrive: the count of redrives now.
        progress: the answer of the previous call, if there was one.
    """

    model_id: str
    instruction: str | None
    max_tokens: int
    evaluation: str
    samples: str
    redrive: int
    progress: BedrockAnswer | None


class RetireEvent(NamedTuple):
    """What to delete.

    Attributes:
        prefix: the stack's prefix.
        state_machine: the ARN of the state machine whose executions are the stack's runs.
        model: the ARN of the run's custom or imported model.
        keep: the number of models of its kind to keep.
    """

    prefix: str
    state_machine: str
    model: str
    keep: int


class Retired(NamedTuple):
    """The names of the deleted models, and a line for each model that had to stay, as warnings for the user."""

    deleted: list[str]
    warnings: list[str]
