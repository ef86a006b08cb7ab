"""Turns the events of an execution's history into rows: a row per step, with its status, its seconds and its last answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

StepStatus = Literal["waiting", "running", "done", "failed"]

STEPS = (
    "Plan",
    "PrepareData",
    "ShardData",
    "MergeData",
    "Train",
    "Judge",
    "Assess",
    "RegisterModel",
    "Deploy",
    "SmokeTest",
    "RecordServing",
    "ReportServing",
    "TellServing",
    "Customize",
    "ImportModel",
    "FinishCustomize",
    "DeployCustomModel",
    "FinishImport",
    "AskBedrock",
    "RetireModels",
    "Record",
    "Report",
)
"""The states that work, in the order in which they are shown. Those of Bedrock stand together."""

BEDROCK = STEPS[STEPS.index("Customize") : STEPS.index("Record")]
"""The steps of Bedrock's branch."""

QUICK = ("RecordServing", "ReportServing", "TellServing")
"""The steps that are shown only while they run, and if they fail."""

_BEDROCK_JOB = ("FinishCustomize", "FinishImport", "Customize", "ImportModel")
"""The steps whose answer has Bedrock's job, the newest first."""

_ATTEMPT_FAILED = ("TaskFailed", "TaskTimedOut", "TaskSubmitFailed", "TaskStartFailed", "MapRunFailed")
_BAD_ENDS = ("ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")


@dataclass
class StepRow:
    """A step of an execution.

    Attributes:
        name: the state's name.
        status: "running" from its first entry until the execution enters another step. A loop of looks and waits is one row.
        began: when it was entered first since the last redrive, in epoch seconds.
        seconds: the seconds of its earlier visits.
        ended: when it was left last.
        progress: its last output, if that is a line of text.
        trouble: the error of the last attempt, while it is tried again, or at its end.
    """

    name: str
    status: StepStatus = "waiting"
    began: float | None = None
    seconds: float = 0.0
    ended: float | None = None
    progress: str = ""
    trouble: str = ""

    def elapsed(self, now: float) -> float | None:
        """Return the seconds that the step has taken until now, or None if it was never entered."""
        if self.began is None:
            return None
        end = now if self.ended is None or self.status == "running" else self.ended
        return self.seconds + max(end - self.began, 0)


class ExecutionHistory:
    """The rows of an execution, up to the last event that was added.

    Attributes:
        last: the id of the last event.
        rows: the steps that were entered, by name.
        answers: the last answer of each step's function, by the step's name.
        jobs: the names of the run's training jobs, the newest last.
        map_run: the ARN of the last Map Run over shards.
        redrives: how often the execution was redriven.
    """

    def __init__(self) -> None:
        """Begin with no event."""
        self.last = 0
        self.rows: dict[str, StepRow] = {}
        self.answers: dict[str, Any] = {}
        self.jobs: list[str] = []
        self.map_run: str | None = None
        self.redrives = 0
        self._current: StepRow | None = None

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Read events in the order of their ids. Those that were read before are left out."""
        for event in events:
            if event["id"] > self.last:
                self.last = event["id"]
                self._add(event["type"], event, epoch(event["timestamp"]))

    def _add(self, kind: str, event: Mapping[str, Any], at: float) -> None:
        details: Mapping[str, Any] = next((event[key] for key in event if key.endswith("EventDetails")), {})
        row = self._current
        if kind in ("TaskStateEntered", "MapStateEntered"):
            self._enter(details["name"], at)
        elif kind in ("TaskStateExited", "MapStateExited"):
            self._leave(details, at)
        elif kind == "MapRunStarted":
            self.map_run = details["mapRunArn"]
        elif kind == "ExecutionRedriven":
            self._redrive(at)
        elif row:
            self._of_step(kind, row, details, at)

    def _of_step(self, kind: str, row: StepRow, details: Mapping[str, Any], at: float) -> None:
        if kind == "FailStateEntered":  # the step has answered with a refusal, and a Choice led here
            row.status = "failed"
        elif kind == "TaskSucceeded":
            answer = parsed(details.get("output"))
            if isinstance(answer, dict) and "Payload" in answer:
                self.answers[row.name] = answer["Payload"]
                job = answer["Payload"].get("job") if row.name == "Train" else None
                if job and job not in self.jobs:
                    self.jobs.append(job)
        elif kind in _ATTEMPT_FAILED:
            row.trouble = reason(details.get("error"), details.get("cause"))
        elif kind in _BAD_ENDS:
            row.status, row.ended = "failed", row.ended if row.status == "failed" else at
        elif kind == "ExecutionSucceeded":
            row.status = "done"

    def _enter(self, name: str, at: float) -> None:
        if self._current and self._current.name != name and self._current.status == "running":
            self._current.status = "done"
        row = self.rows.setdefault(name, StepRow(name))
        if self._current is not row or row.began is None or row.status != "running":
            # It is not the next look of a loop: the seconds of earlier visits stay, and the time between does not count.
            if row.began is not None and row.ended is not None:
                row.seconds += row.ended - row.began
            row.began = at
        row.status, row.ended = "running", None
        self._current = row

    def _leave(self, details: Mapping[str, Any], at: float) -> None:
        row = self.rows.get(details["name"])
        if row is None:
            return
        row.ended, row.trouble = at, ""
        output = parsed(details.get("output"))
        if isinstance(output, str):
            row.progress = output

    def _redrive(self, at: float) -> None:
        self.redrives += 1
        row = self._current
        if row is None or row.status != "failed":
            return
        # The failed step runs again, and may do so without a new entry.
        if row.began is not None and row.ended is not None:
            row.seconds += row.ended - row.began
        row.status, row.began, row.ended, row.trouble = "running", at, None, ""

    @property
    def current(self) -> StepRow | None:
        """The step that the execution entered last."""
        return self._current

    def follows_bedrock(self) -> StepRow | None:
        """Return the step whose line has the status of Bedrock's job: the one that follows it, or before that its start."""
        for follow, start in (("FinishCustomize", "Customize"), ("FinishImport", "ImportModel")):
            if follow in self.rows:
                return self.rows[follow] if self.rows[follow].status == "running" else None
            if start in self.rows:
                return self.rows[start]
        return None

    @property
    def bedrock(self) -> dict[str, Any] | None:
        """The newest answer of a step that has started or followed a job of Bedrock. None if there is no job."""
        answers = (self.answers.get(name) or {} for name in _BEDROCK_JOB)
        return next((one for one in answers if one.get("job")), None)

    def expected(self) -> list[str]:
        """Return the steps that are still to come, by Plan's answer and by the later ones. Before Plan's answer: every kind."""
        plan = self.answers.get("Plan")
        without: set[str] = {*QUICK, "ShardData", "MergeData", "Judge", "RegisterModel", "ImportModel", "FinishImport"}
        if isinstance(plan, dict) and "run" in plan:
            without = set(QUICK)
            if plan.get("serve"):
                without |= {"PrepareData", "ShardData", "MergeData", "Train", "Assess"}
            elif (plan.get("prepare") or {}).get("shards"):
                without |= {"PrepareData"}
            else:
                without |= {"ShardData", "MergeData"}
            customizes, imports = plan.get("customize"), plan.get("import_model")
            if not plan.get("judge"):
                without |= {"Judge"}
            if not plan.get("register"):
                without |= {"RegisterModel"}
            assessment = self.answers.get("Assess") or {}
            if imports and not assessment.get("passes", True):
                imports = None
            if not customizes:
                without |= {"Customize", "FinishCustomize", "DeployCustomModel"}
            elif not customizes.get("deployment"):
                without |= {"DeployCustomModel", "AskBedrock"}
            if not imports:
                without |= {"ImportModel", "FinishImport"}
            if not customizes and not imports:
                without |= {"AskBedrock", "RetireModels"}
            if not plan.get("deploy") or not assessment.get("promoted", True):
                without |= {"Deploy", "SmokeTest"}
        return [name for name in STEPS if name not in without and name not in self.rows]


def epoch(time: datetime | float) -> float:
    """Return a time of boto3 in epoch seconds."""
    return time if isinstance(time, (int, float)) else time.timestamp()


def parsed(text: str | None) -> Any:
    """Return the value of a JSON text; None if it is missing, cut or no JSON."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def reason(error: str | None, cause: str | None) -> str:
    """Return error and cause in one line: of a function's error its message, else the cause itself."""
    document = parsed(cause)
    if isinstance(document, dict):
        keys = ("errorMessage", "FailureReason", "FailureMessage")
        cause = str(next((document[key] for key in keys if document.get(key)), cause))
    line = visible(" ".join((cause or "").split()))
    return f"{error}: {line}" if error and line else error or line
