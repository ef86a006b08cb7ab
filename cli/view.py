"""Shows an execution: as a tree that is drawn again each second, or as plain lines where the output is no terminal."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.history import BEDROCK, QUICK, STEPS, StepRow, epoch
from pipeline.times import about, duration, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from cli.history import StepStatus
    from cli.reader import SeenRun

MARKS: dict[StepStatus, tuple[str, str]] = {
    "done": ("\N{CHECK MARK}", "green"),
    "running": ("\N{BLACK CIRCLE}", "cyan"),
    "failed": ("\N{MULTIPLICATION X}", "red"),
    "waiting": ("\N{MIDDLE DOT}", "dim"),
}
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 16
"""The most characters of the curve of the losses."""

HEARTBEAT = 60.0
"""The most seconds without a line where the output is no terminal."""

PROGRESS_SECONDS = 10.0
"""The least seconds between two lines about the progress of one step. A line about its beginning or end comes at once."""

_LOOKING = {"PrepareData": "reads the rows", "ShardData": "reads the rows", "MergeData": "merges the shards"}
_PHASES = {
    "download": "gets the base model",
    "load": "loads model and rows",
    "load_quantized": "loads the model, and measures its pace",
    "train": "trains",
    "load_base": "loads the base model to compare with",
    "evaluate_base": "asks the base model",
    "export": "merges the model, and checks it",
    "evaluate_tuned": "asks the tuned model",
}


class Line(NamedTuple):
    """A line of the view about one step.

    Attributes:
        key: what the line says without its times. A plain line is printed when the key changes.
        text: the line.
    """

    key: str
    text: str


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """Return the values as a curve of `width` characters at most. Each is the mean of the values that it stands for."""
    if not values:
        return ""
    columns = min(width, len(values))
    cuts = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(cuts)]
    low, span = min(means), max(means) - min(means)
    if not span:
        return BARS[0] * columns
    return "".join(BARS[min(int((mean - low) / span * len(BARS)), len(BARS) - 1)] for mean in means)


def training_lines(found: SeenRun, row: StepRow, now: float) -> list[Line]:
    """Return the lines about the training job: its phase with the time left, and its losses."""
    job, log = found.job, found.log
    if job is None:
        return []
    status = job.get("SecondaryStatus", "Starting")
    transitions = job.get("SecondaryStatusTransitions") or [{"StartTime": job["CreationTime"]}]
    since = max(now - epoch(transitions[-1]["StartTime"]), 0)
    if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
        text = row.progress if row.status == "done" and row.progress else f"job {status}"
        head = Line(text, text)
    elif status != "Training" or log.phase is None:
        head = Line(status, f"job {status} for {duration(since)}")
    else:
        words = _PHASES.get(log.phase, log.phase)
        if log.phase == "train" and log.steps:
            words = f"{words}: step {log.step} of {log.steps}"
        elif log.phase == "train":
            words = "measures the base model's loss" if not log.eval_losses else "begins the first step"
        model = log.phase.removeprefix("evaluate_")
        if model in log.answered:
            done, rows = log.answered[model]
            words = f"{model} model answers: {done} of {rows}"
        left = log.seconds_left(now)
        head = Line(words, words if left is None else f"{words}, {about(left)} left")
    lines = [head]
    if log.losses:
        losses = [log.losses[step] for step in sorted(log.losses)]
        text = f"loss {losses[-1]:.3f} {sparkline(losses)}"
        if log.tokens_per_second is not None and log.phase == "train":
            text += f" {log.tokens_per_second:,.0f} tokens/s"
        elif log.eval_losses:
            text += f" eval {log.eval_losses[0]:.2f} to {log.eval_losses[-1]:.2f}"
        lines.append(Line("", text))
    return lines


def endpoint_line(found: SeenRun, row: StepRow, now: float) -> Line | None:
    """Return the line about the endpoint: its status, since when or until when."""
    endpoint = found.endpoint
    if endpoint is None:
        return None
    if row.status == "done" and found.lost_endpoint:
        return Line("lost", "the endpoint is gone, or serves another run's model")
    status = endpoint["EndpointStatus"]
    if status == "InService":
        until = (found.history.answers.get("Deploy") or {}).get("until")
        return Line(status, f"endpoint InService{f' until {moment(until)}' if until else ''}")
    since = endpoint.get("LastModifiedTime") or endpoint.get("CreationTime")
    reason = f": {endpoint['FailureReason']}" if endpoint.get("FailureReason") else ""
    return Line(status, f"endpoint {status}{f' for {duration(max(now - epoch(since), 0))}' if since else ''}{reason}")


def details(found: SeenRun, row: StepRow, now: float) -> list[Line]:
    """Return the lines beside a step."""
    if row.trouble:
        text = row.trouble if row.status == "failed" else f"is tried again: {row.trouble}"
        return [Line(text, text)]
    if row.name == "Train" and found.job:
        return training_lines(found, row, now)
    line = None
    if row.name == "Deploy":
        line = endpoint_line(found, row, now)
    elif found.bedrock and row is found.history.follows_bedrock():
        status, created = found.bedrock
        line = Line(status, f"Bedrock's job is {status} for {duration(max(now - created, 0))}")
    if line:
        return [line]
    text = data_text(found, row) or row.progress
    return [Line(text, text)] if text else []


def data_text(found: SeenRun, row: StepRow) -> str:
    """Return the text beside a step that prepares data; empty for other steps."""
    if row.name == "ShardData" and found.shards:
        failed = f", {found.shards['failed']} failed" if found.shards["failed"] else ""
        return f"{found.shards['succeeded']} of {found.shards['total']} shards{failed}"
    counts = (found.history.answers.get(row.name) or {}).get("counts") if row.name in _LOOKING else None
    if row.status == "done" and counts:
        kept = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test") if split in counts)
        return f"rows: {kept}"
    return _LOOKING.get(row.name, "") if row.status == "running" else ""


def rows(found: SeenRun) -> list[StepRow]:
    """Return the rows in the order in which they are shown, with the steps that are still to come."""
    history, ended = found.history, found.status not in ("RUNNING", "PENDING_REDRIVE")
    shown = [row for row in history.rows.values() if row.name not in QUICK or row.status in ("running", "failed")]
    if not ended:
        shown += [StepRow(name) for name in history.expected()]
    order = {name: index for index, name in enumerate(STEPS)}
    return sorted(shown, key=lambda row: order.get(row.name, len(STEPS)))


def stopwatch(seconds: float) -> str:
    """Return a length of time that still grows in few characters, such as "2:05" or "1:02:05"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def elapsed(found: SeenRun, now: float) -> float:
    """Return the seconds since the execution was started, up to its end."""
    stopped = found.execution.get("stopDate")
    return max((epoch(stopped) if stopped else now) - epoch(found.execution["startDate"]), 0)


class Tree:
    """The view in a terminal."""

    def __init__(self, console: Console, stack: str, money: Callable[[SeenRun, float], str]) -> None:
        """Take the console, the stack's name, and the function that says what was spent."""
        self._console, self._stack, self._money = console, stack, money
        self._found: SeenRun | None = None
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=1, transient=False)

    def __enter__(self) -> Tree:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw a last time."""
        self._live.stop()

    def update(self, found: SeenRun) -> None:
        """Show what is known now."""
        self._found = found
        self._live.refresh()

    def _render(self) -> RenderableType:
        if self._found is None:
            return Text("reading the execution")
        with self._found.lock:
            return self.picture(self._found, time.time())

    def picture(self, found: SeenRun, now: float) -> RenderableType:
        """Return the view at a time. If the terminal is low, the steps to come share a line."""
        shown = rows(found)
        lines = {row.name: details(found, row, now) for row in shown}
        foot = self._foot(found, now)
        height = 2 + len(foot) + sum(max(1, len(lines[row.name])) for row in shown) + 1
        waiting = [row for row in shown if row.status == "waiting"]
        if height > self._console.height and waiting:
            shown = [row for row in shown if row.status != "waiting"]
            foot.insert(0, Text(f"then {', '.join(row.name for row in waiting)}", style="dim"))
        head = Text.assemble(
            (found.name, "bold"),
            f"  {found.status}",
            f"  {stopwatch(elapsed(found, now))}",
            (f"  stack {self._stack}", "dim"),
        )
        if found.history.redrives:
            head.append(f"  redrive {found.history.redrives}", style="dim")
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right", style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.expand = True
        branch = [row for row in shown if row.name in BEDROCK]
        trunk = [row for row in shown if row.name not in BEDROCK]
        record = [row for row in trunk if row.name in STEPS and STEPS.index(row.name) > STEPS.index(BEDROCK[-1])]
        trunk = [row for row in trunk if row not in record]
        last = not branch and not record
        for index, row in enumerate(trunk):
            self._add(table, "", row, lines[row.name], now, last=last and index == len(trunk) - 1)
        if branch:
            table.add_row(Text(f"{'├' if record else '└'}─ Bedrock"), "", "")
            for index, row in enumerate(branch):
                above = "│  " if record else "   "
                self._add(table, above, row, lines[row.name], now, last=index == len(branch) - 1)
        for row in record:
            self._add(table, "", row, lines[row.name], now, last=row is record[-1])
        return Group(head, table, *foot)

    def _foot(self, found: SeenRun, now: float) -> list[Text]:
        foot = [Text(line, style="yellow", no_wrap=True, overflow="ellipsis") for line in found.unknown.values()]
        if money := self._money(found, now):
            foot.append(Text(money, no_wrap=True, overflow="ellipsis"))
        if found.status == "RUNNING":
            foot.append(Text("Ctrl-C leaves the run alone", style="dim"))
        return foot

    @staticmethod
    def _add(table: Table, above: str, row: StepRow, lines: list[Line], now: float, *, last: bool) -> None:
        mark, style = MARKS[row.status]
        dim = "dim" if row.status == "waiting" else ""
        name = Text.assemble(f"{above}{'└' if last else '├'}─ ", (mark, style), " ", (row.name, dim))
        spent = row.elapsed(now)
        first = Text(lines[0].text if lines else "", style="red" if row.status == "failed" else "")
        table.add_row(name, "" if spent is None else stopwatch(spent), first)
        for line in lines[1:]:
            table.add_row(f"{above}{' ' if last else '│'}", "", Text(line.text))


class Plain:
    """The view where the output is no terminal: a line for each change, and one at least each `heartbeat` seconds."""

    def __init__(self, console: Console, stack: str, heartbeat: float = HEARTBEAT) -> None:
        """Take the console, the stack's name, and the longest silence."""
        self._console, self._stack, self._heartbeat = console, stack, heartbeat
        self._found: SeenRun | None = None
        self._statuses: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._printed_at: dict[str, float] = {}
        self._unknown: set[str] = set()
        self._begun = False
        self._last = time.time()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Plain:
        """Begin to watch for silence."""
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._beats.join()

    def update(self, found: SeenRun) -> None:
        """Print a line for each change."""
        with self._lock:
            now, self._found = time.time(), found
            for line in self.changes(found, now):
                self._print(line, now)

    def changes(self, found: SeenRun, now: float) -> list[str]:
        """Return the lines about what has changed since the last call."""
        lines = [] if self._begun else [f"{found.name} {found.status}, stack {self._stack}"]
        self._begun = True
        for row in rows(found):
            if row.status == "waiting":
                continue
            before, beside = self._statuses.get(row.name), details(found, row, now)
            text = "; ".join(line.text for line in beside)
            key = beside[0].key if beside else ""
            changed = before != row.status
            if not changed and (row.status != "running" or key == self._keys.get(row.name) or not text):
                continue
            # Of a training job with many steps, not every step is a line.
            if not changed and now - self._printed_at.get(row.name, 0) < PROGRESS_SECONDS:
                continue
            self._statuses[row.name], self._keys[row.name], self._printed_at[row.name] = row.status, key, now
            words = " begins" if changed and not text else ""
            if row.status != "running":
                words = f" {row.status}, after {duration(row.elapsed(now) or 0)}"
            lines.append(f"{row.name}{words}{f': {text}' if text else ''}")
        unknown = set(found.unknown.values())
        lines += sorted(unknown - self._unknown)
        self._unknown = unknown
        return lines

    def _beat(self) -> None:
        while not self._stop.wait(0.5):
            if time.time() - self._last < self._heartbeat:
                continue
            with self._lock:
                now = time.time()
                if self._found is None:
                    self._print("reading the execution", now)
                    continue
                with self._found.lock:
                    row = self._found.history.current
                    beside = details(self._found, row, now) if row else []
                text = f": {beside[0].text}" if beside else ""
                name = row.name if row else self._found.status
                so_far = f", {duration(row.elapsed(now) or 0)} so far" if row else ""
                self._print(f"{name}{text}{so_far}", now)

    def _print(self, line: str, now: float) -> None:
        passed = f" {stopwatch(elapsed(self._found, now)):>7}" if self._found else ""
        self._console.print(f"{datetime.fromtimestamp(now, UTC):%H:%M:%S}{passed}  {escape(line)}")
        self._last = now
