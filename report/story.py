"""What a report tells: everything that is known of a run when its page is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.money import endpoint_name

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.contracts.values import JsonObject


class Phase(NamedTuple):
    """A part of a run's time: a state of the execution, or a status of the training job.

    Attributes:
        name: the state's or the status's name.
        start: when it began.
        end: when it ended. None while it goes on.
        attempt: how often the run has come to this state, with this time.
        redrives: how often the execution had been redriven when it began.
    """

    name: str
    start: datetime
    end: datetime | None
    attempt: int = 1
    redrives: int = 0


class Failure(NamedTuple):
    """Why the run ended badly: the step, AWS's or Tuneway's name of the error, the reason, and what the user can do."""

    step: str | None
    error: str
    reason: str
    remedy: str


class Story(NamedTuple):
    """The parts of a report. A part is None, or empty, if the run has not come to it or if it could not be read.

    Attributes:
        run: the run's id.
        execution: the execution's ARN.
        status: DescribeExecution's status. While the page is written by a state of the execution itself, it is the status to
            which that state leads: "SERVING" while Bedrock is still at work, else "SUCCEEDED".
        started: when the execution began.
        written: when the page was written.
        region: the stack's Region.
        bucket: the stack's bucket.
        redrives: how often the execution was redriven.
        plan: Plan's result, as JSON.
        record: the run's run.json.
        spent: what the run has cost so far, as JSON: as the cleanup has counted it at the run's end, else that of run.json.
        manifest: data prep's manifest.
        evaluation: the training job's evaluation.json.
        judge: the judge model's judge.json.
        metrics: its metrics.json.
        recipe: its recipe.json.
        history: the logged steps and validations of the training (`metrics.history`, or read from the job's log).
        smoke_test: dialogues with the endpoint's answers.
        bedrock_smoke_test: the same dialogues with the answers of the model in Bedrock.
        deployed: Deploy's last answer.
        phases: the states of the execution, in order.
        job: the training job's name.
        job_phases: the statuses of the training job, in order.
        failure: why the run ended badly.
        log: the last lines of the training job's log, for a run without a model.
        unread: a line for each part that could not be read.
        warnings: Plan's and the steps' warnings.
        call: how to call the endpoint, as the smoke test has answered.
    """

    run: str
    execution: str
    status: str
    started: datetime
    written: datetime
    region: str
    bucket: str
    redrives: int = 0
    plan: JsonObject | None = None
    record: JsonObject | None = None
    spent: JsonObject | None = None
    manifest: JsonObject | None = None
    evaluation: JsonObject | None = None
    judge: JsonObject | None = None
    metrics: JsonObject | None = None
    recipe: JsonObject | None = None
    history: list[dict[str, Any]] = []  # noqa: RUF012 - nothing changes a story
    smoke_test: list[JsonObject] = []  # noqa: RUF012 - as above
    bedrock_smoke_test: list[JsonObject] = []  # noqa: RUF012 - as above
    deployed: JsonObject | None = None
    phases: list[Phase] = []  # noqa: RUF012 - as above
    job: str | None = None
    job_phases: list[Phase] = []  # noqa: RUF012 - as above
    failure: Failure | None = None
    log: list[str] = []  # noqa: RUF012 - as above
    unread: list[str] = []  # noqa: RUF012 - as above
    warnings: list[str] = []  # noqa: RUF012 - as above
    call: JsonObject | None = None

    @property
    def serves_again(self) -> str | None:
        """The earlier run whose model this run serves, if it makes none itself."""
        serve = (self.plan or {}).get("serve")
        return str(serve["run"]) if serve else None

    @property
    def serving(self) -> JsonObject | None:
        """The endpoint that serves the run's model. None if it has ended since, so that it no longer costs money."""
        serving: JsonObject | None = (self.record or {}).get("serving")
        if serving and self.spent is not None:
            name = endpoint_name(serving["endpoint"])
            return serving if any(one["what"] == name for one in self.spent.get("ongoing") or []) else None
        return serving

    @property
    def scores(self) -> JsonObject | None:
        """The scores of base and tuned model, with their intervals."""
        recorded: JsonObject = (self.record or {}).get("scores") or {}
        # The training job does not know what a judge model has found. The record does.
        return recorded if recorded.get("judge") else self.evaluation or recorded or None

    @property
    def state_machine(self) -> str:
        """The ARN of the state machine."""
        return self.execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
