"""Reads the training job's log: its phase, its steps with their losses, and the time left.

The job prints a line per phase, per logged step, per validation and per batch of answers (`training.train`, `training.watch`,
`training.evaluate`), and once what it expects of the phases after the training (`training.forecast`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PHASES = ("load", "load_quantized", "train", "load_base", "evaluate_base", "export", "evaluate_tuned")
"""The job's phases in their order."""

PACE_STEPS = 20
"""How many of the last logged steps give the pace."""

MOST_CORRECTION = 3
"""The most by which the measured time of the base model's answers changes the forecast for the tuned model's."""

_PHASE = re.compile(r"^phase=(?P<phase>\w+)$")
_STEP = re.compile(r"\bstep=(?P<done>\d+)/(?P<all>\d+) .*?\bloss=(?P<loss>[0-9.]+)")
_TOKENS = re.compile(r"\btokens=(?P<tokens>\d+)\b")
_SPEED = re.compile(r"\btokens_per_second=(?P<speed>[0-9.]+)")
_VALIDATED = re.compile(r"^eval_loss=(?P<loss>[0-9.]+)(?: seconds=(?P<seconds>[0-9.]+))?")
_ANSWERED = re.compile(r"\bevaluated=(?P<done>\d+)/(?P<all>\d+) model=(?P<model>base|tuned)")
_FORECAST = re.compile(r"^forecast ")
_SECONDS = re.compile(r"\b(?P<phase>\w+?)_seconds=(?P<seconds>[0-9.]+)")
_EVERY = re.compile(r"\beval_steps=(?P<steps>\d+)")
_ENDED = re.compile(r"^load_seconds=")


class Step(NamedTuple):
    """A logged step: when it was logged, its number, and the seconds of the validations since the log began."""

    at: float
    number: int
    validated: float


class JobLog:
    """What the lines of a training job's log say, up to the last one that was added.

    A spot job that was interrupted has several starts. Its losses stay, and its phases begin anew.

    Attributes:
        phase: the phase of the job's own code; None before the first.
        step: the number of the last logged step.
        steps: the number of all steps; 0 before the first.
        losses: the loss of each logged step.
        eval_losses: the validation losses. The first one is the base model's.
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
        self.losses: dict[int, float] = {}
        self.eval_losses: list[float] = []
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
        self._answered_at = 0.0
        self._at: list[Step] = []
        self._validations: list[float] = []
        self.forecast: dict[str, float] = {}
        self.eval_steps: int | None = None

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Read log events, in their order: their `timestamp` in milliseconds and their `message`."""
        for event in events:
            self._add(event["timestamp"] / 1000, event["message"])

    def _add(self, at: float, line: str) -> None:
        if found := _PHASE.search(line):
            if found["phase"] == PHASES[0]:
                self._start()
            self._end_phase(at)
            self.phase, self._since = found["phase"], at
        elif found := _STEP.search(line):
            self.step, self.steps = int(found["done"]), int(found["all"])
            self.losses[self.step] = float(found["loss"])
            self._at.append(Step(at, self.step, sum(self._validations)))
            self.tokens = int(tokens["tokens"]) if (tokens := _TOKENS.search(line)) else None
            self.tokens_per_second = float(speed["speed"]) if (speed := _SPEED.search(line)) else None
        elif found := _VALIDATED.search(line):
            self.eval_losses.append(float(found["loss"]))
            self._validations.append(float(found["seconds"] or 0))
        elif found := _ANSWERED.search(line):
            self.answered[found["model"]] = int(found["done"]), int(found["all"])
            self._answered_at = at
        elif _FORECAST.search(line):
            self.forecast = {found["phase"]: float(found["seconds"]) for found in _SECONDS.finditer(line)}
            self.eval_steps = int(every["steps"]) if (every := _EVERY.search(line)) else None
        elif _ENDED.search(line):
            self._end_phase(at)
            self.published = True

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
        if self.phase not in PHASES[2:] or not self.forecast:
            return None
        here = self._training_left(now) if self.phase == "train" else self._phase_left(now)
        if here is None:
            return None
        return here + sum(self._expected(phase) for phase in PHASES[PHASES.index(self.phase) + 1 :])

    def _training_left(self, now: float) -> float | None:
        # The first step is slower than the others: it loads kernels and fills caches.
        steps = self._at[-PACE_STEPS - 1 :] if len(self._at) <= 2 else self._at[1:][-PACE_STEPS - 1 :]
        if len(steps) < 2:
            return None
        first, last = steps[0], steps[-1]
        pace = (last.at - first.at - (last.validated - first.validated)) / max(last.number - first.number, 1)
        left = max((self.steps - last.number) * pace - (now - last.at), 0) if last.number < self.steps else 0.0
        # A validation also comes at the end, before the last step is logged.
        between = 0 if not self.eval_steps else (self.steps - 1) // self.eval_steps - last.number // self.eval_steps
        validations = max(between, 0) + (last.number < self.steps)
        return left + validations * (max(self._validations, default=0.0))

    def _phase_left(self, now: float) -> float:
        assert self.phase is not None
        elapsed, expected = now - self._since, self._expected(self.phase)
        done, rows = self.answered.get(self.phase.removeprefix("evaluate_"), (0, 0))
        if self.phase.startswith("evaluate_") and done:
            return max((self._answered_at - self._since) / done * (rows - done) - (now - self._answered_at), 0)
        return max(expected - elapsed, 0)

    def _expected(self, phase: str) -> float:
        seconds = self.forecast.get(phase, 0.0)
        base, measured = self.forecast.get("evaluate_base"), self.seconds.get("evaluate_base")
        if phase == "evaluate_tuned" and base and measured:
            seconds *= min(max(measured / base, 1 / MOST_CORRECTION), MOST_CORRECTION)
        return seconds


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
        return f"{line}, about {duration(max(remaining, 0))} {part} left"
    return ""


def duration(seconds: float) -> str:
    """Return a length of time in words, such as "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s" if minutes else f"{rest} s"
