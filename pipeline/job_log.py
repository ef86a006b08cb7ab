"""Reads the training job's log, for all who need it: its phase, its steps with their losses, and the time left.

The job prints a line per phase, per logged step, per validation and per batch of answers (`training.train`, `training.watch`,
`training.evaluate`), and once what it expects of the phases after the training (`training.forecast`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import names, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PHASES = ("download", "load", "load_quantized", "train", "load_base", "evaluate_base", "export", "evaluate_tuned")
"""The job's phases in their order. A job of an earlier version begins with "load"."""

PACE_STEPS = 20
"""The most of the last logged steps that give the pace."""

SLOWER = 1.4
"""From this change of the pace of training on, the forecast is taken to change by as much. Rows differ by less."""

MOST_CORRECTION = 3
"""The most by which something measured changes the forecast."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PHASE = re.compile(r"^phase=(?P<phase>\w+)$")
_STEP = re.compile(rf"\bstep=(?P<done>\d+)/(?P<all>\d+) .*?\bloss=(?P<loss>{_NUMBER})")
_RATE = re.compile(rf"\blearning_rate=(?P<rate>{_NUMBER}(?:e[+-]?[0-9]+)?)")
_TOKENS = re.compile(r"\btokens=(?P<tokens>\d+)\b")
_SPEED = re.compile(rf"\btokens_per_second=(?P<speed>{_NUMBER})")
_VALIDATED = re.compile(rf"^eval_loss=(?P<loss>{_NUMBER})(?: seconds=(?P<seconds>{_NUMBER}))?")
_ANSWERED = re.compile(
    rf"\bevaluated=(?P<done>\d+)/(?P<all>[1-9]\d*) model=(?P<model>base|tuned)(?: share=(?P<share>{_NUMBER}))?"
)
_FORECAST = re.compile(r"^forecast ")
_SECONDS = re.compile(rf"\b(?P<phase>\w+?)_seconds=(?P<seconds>{_NUMBER})")
_EVERY = re.compile(r"\beval_steps=(?P<steps>\d+)")
ENDED = re.compile(r"^\w+_seconds=")
"""The line with the seconds of all phases. The job prints it when its model is complete."""


def newest_events(logs: Any, job: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest events of the first host's last log stream. A spot job has one stream per start.

    Args:
        logs: a client of CloudWatch Logs. Its errors are raised.
        job: the training job's name.
        limit: the most events.
    """
    group = names.TRAINING_LOGS
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/algo-1-")["logStreams"]
    if not streams:
        return []
    stream = max(one["logStreamName"] for one in streams)
    events: list[dict[str, Any]] = logs.get_log_events(
        logGroupName=group, logStreamName=stream, limit=limit, startFromHead=False
    )["events"]
    return events


class Step(NamedTuple):
    """A logged step: when it was logged, its number, its tokens so far, and the seconds of all validations before it."""

    at: float
    number: int
    tokens: int
    validated: float


class JobLog:
    """What the lines of a training job's log say, up to the last one that was added.

    A spot job that was interrupted has several starts. Its losses stay, and its phases begin anew.

    Attributes:
        history: the logged steps with loss and learning rate, and the validations, in the form of the job's metrics.json. The
            log does not say the step of a validation, so it has the last logged one.
        phase: the phase of the job's own code; None before the first.
        step: the number of the last logged step.
        steps: the number of all steps; 0 before the first.
        tokens: the tokens of all steps so far.
        tokens_per_second: the pace of the last logged steps.
        answered: the rows that the model ("base" or "tuned") has answered, and all rows.
        seconds: the seconds of each phase that has ended.
        published: whether the model is complete.
        forecast: the seconds that the job expects of the phases after its training.
        eval_steps: the steps between two validations; None if there is only the one at the end.
    """

    def __init__(self) -> None:
        """Begin with no line."""
        self.history: list[dict[str, float]] = []
        self.tokens: int | None = None
        self.tokens_per_second: float | None = None
        self._start()

    def _start(self) -> None:
        self.phase: str | None = None
        self.step, self.steps = 0, 0
        self.answered: dict[str, tuple[int, int]] = {}
        self.seconds: dict[str, float] = {}
        self.published = False
        self._since = 0.0
        self._answered_at, self._share = 0.0, 0.0
        self._base_answered: dict[int, float] = {}
        self._at: list[Step] = []
        self._validations: list[float] = []
        self.forecast: dict[str, float] = {}
        self.eval_steps: int | None = None

    @property
    def losses(self) -> dict[int, float]:
        """The loss of each logged step."""
        return {int(entry["step"]): entry["loss"] for entry in self.history if "loss" in entry}

    @property
    def eval_losses(self) -> list[float]:
        """The validation losses. The first one is the base model's."""
        return [entry["eval_loss"] for entry in self.history if "eval_loss" in entry]

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Read log events, in their order: their `timestamp` in milliseconds and their `message`."""
        for event in events:
            self._add(event["timestamp"] / 1000, event["message"])

    def _add(self, at: float, line: str) -> None:
        if found := _PHASE.search(line):
            if self._begins_anew(found["phase"]):
                self._start()
            self._end_phase(at)
            self.phase, self._since = found["phase"], at
        elif found := _STEP.search(line):
            self.step, self.steps = int(found["done"]), int(found["all"])
            rate = _RATE.search(line)
            self.history.append(
                {"step": self.step, "loss": float(found["loss"])}
                | ({"learning_rate": float(rate["rate"])} if rate else {})
            )
            self.tokens = int(tokens["tokens"]) if (tokens := _TOKENS.search(line)) else None
            # An older job does not print its tokens. Then each step counts the same.
            self._at.append(Step(at, self.step, self.tokens or self.step, sum(self._validations)))
            self.tokens_per_second = float(speed["speed"]) if (speed := _SPEED.search(line)) else None
        elif found := _VALIDATED.search(line):
            step = self.history[-1]["step"] if self.history else 0
            self.history.append({"step": step, "eval_loss": float(found["loss"])})
            self._validations.append(float(found["seconds"] or 0))
        elif found := _ANSWERED.search(line):
            done, all_of = int(found["done"]), int(found["all"])
            self.answered[found["model"]] = done, all_of
            self._answered_at = at
            self._share = float(found["share"] or 0) or done / all_of
            # The tuned model answers the same batches as the base, whose seconds are measured and not expected.
            if found["model"] == "base":
                self._base_answered[done] = at - self._since
            elif done in self._base_answered and self._base_answered.get(all_of):
                self._share = self._base_answered[done] / self._base_answered[all_of]
        elif _FORECAST.search(line):
            self.forecast = {found["phase"]: float(found["seconds"]) for found in _SECONDS.finditer(line)}
            self.eval_steps = int(every["steps"]) if (every := _EVERY.search(line)) else None
        elif ENDED.search(line):
            self._end_phase(at)
            self.published = True

    def _begins_anew(self, phase: str) -> bool:
        """Return whether the phase comes before the one that the log has had last, or is the same."""
        known = self.phase in PHASES and phase in PHASES
        return known and PHASES.index(phase) <= PHASES.index(str(self.phase))

    def _end_phase(self, at: float) -> None:
        if self.phase:
            self.seconds[self.phase] = at - self._since

    def seconds_left(self, now: float) -> float | None:
        """Return the expected seconds until the model is complete, or None before two steps are logged.

        The remaining steps take as long as the last ones. For the phases after the training, the job's own forecast counts,
        corrected by what is measured.

        Args:
            now: the time, in epoch seconds.
        """
        if self.published:
            return 0.0
        if self.phase not in PHASES[PHASES.index("train") :] or not self.forecast:
            return None
        here = self._training_left(now) if self.phase == "train" else self._phase_left(now)
        if here is None:
            return None
        return here + sum(self._expected(phase) for phase in PHASES[PHASES.index(self.phase) + 1 :])

    def _training_left(self, now: float) -> float | None:
        if len(self._at) < 2:
            return None
        last, validation = self._at[-1], max(self._validations, default=0.0)
        if last.number >= self.steps:
            return 0.0
        pace = _seconds_per_token(self._recent()) * last.tokens / last.number
        left = max((self.steps - last.number) * pace - (now - last.at), 0)
        # A validation also comes at the end, before the last step is logged.
        between = 0 if not self.eval_steps else (self.steps - 1) // self.eval_steps - last.number // self.eval_steps
        return left + (max(between, 0) + 1) * validation * self._slower()

    def _recent(self) -> list[Step]:
        """Return the last logged steps. The first one is slower than the others: it loads kernels and fills caches."""
        usual = self._at[1:] if len(self._at) > 2 else self._at
        return usual[-max(2, min(PACE_STEPS, len(usual) // 2) + 1) :]

    def _slower(self) -> float:
        """Return by how much the job has become slower or faster since the forecast was made.

        An instance of one's own hardly changes. A machine that others use, too, does, and not for long. So the mean over all
        steps is compared with the first ones. Two validations do the same work, and tell it best.
        """
        usual = self._at[1:]
        if len(self._validations) > 1 and self._validations[0]:
            change = self._validations[-1] / self._validations[0]
        elif len(usual) > 3:
            change = _seconds_per_token(usual) / (_seconds_per_token(usual[: max(2, len(usual) // 3)]) or 1)
        else:
            return 1.0
        return _limited(change) if not 1 / SLOWER < change < SLOWER else 1.0

    def _phase_left(self, now: float) -> float:
        assert self.phase is not None
        elapsed, expected = now - self._since, self._expected(self.phase)
        done, _ = self.answered.get(self.phase.removeprefix("evaluate_"), (0, 0))
        if self.phase.startswith("evaluate_") and done:
            paced = (self._answered_at - self._since) / self._share * (1 - self._share)
            return max(paced - (now - self._answered_at), 0)
        return max(expected - elapsed, 0)

    def _expected(self, phase: str) -> float:
        base, measured = self.forecast.get("evaluate_base"), self.seconds.get("evaluate_base")
        change = _limited(measured / base) if base and measured else self._slower()
        return self.forecast.get(phase, 0.0) * change


def _seconds_per_token(steps: list[Step]) -> float:
    """Return the pace between the first and the last of these steps, without the validations."""
    first, last = steps[0], steps[-1]
    return max(last.at - first.at - (last.validated - first.validated), 0.0) / max(last.tokens - first.tokens, 1)


def _limited(change: float) -> float:
    return min(max(change, 1 / MOST_CORRECTION), MOST_CORRECTION)


def last_line(events: list[dict[str, Any]], now: float) -> str:
    """Return the progress by the newest log events: the last step or batch of answers, and the time left at its pace.

    Args:
        events: the newest events, in their order.
        now: the time, in epoch seconds.
    """
    for kind in (_ANSWERED, _STEP):
        seen = [(event["timestamp"] / 1000, found) for event in events if (found := kind.search(event["message"]))]
        if not seen:
            continue
        at, last = seen[-1]
        done, all_of = int(last["done"]), int(last["all"])
        if kind is _STEP:
            line = f"step {done} of {all_of}, loss {float(last['loss']):.3f}"
            part = "of training"
        else:
            seen = [entry for entry in seen if entry[1]["model"] == last["model"]]
            line = f"{last['model']} model has answered {done} of {all_of} rows"
            part = "of these"
        began, first = seen[0]
        if done == all_of or done == int(first["done"]):
            return line
        remaining = (at - began) / (done - int(first["done"])) * (all_of - done) - (now - at)
        return f"{line}, {times.about(max(remaining, 0))} {part} left"
    return ""
