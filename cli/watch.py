"""`tuneway watch`: shows an execution while it runs, and at its end what a person needs of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli import known_runs
from cli.context import ConnectedStack, SettingsFile, connect, console
from cli.reader import RunReader, WatchedStack
from cli.result import print_end
from cli.spending import so_far
from cli.view import HEARTBEAT, Plain, Tree
from pipeline.errors import Refused

if TYPE_CHECKING:
    from rich.console import Console

POLL_SECONDS = 3.0
"""The seconds between two looks. The terminal is drawn again each second, because times pass."""

_INTERRUPTED = 130
"""The exit code of a process that Ctrl-C has ended, as a shell has it."""


@dataclass(frozen=True)
class WatchEnd:
    """An execution that has ended.

    Attributes:
        description: the answer of DescribeExecution.
        seconds: the seconds that each step took, by the state's name.
        output: the execution's output; empty if it has not succeeded.
    """

    description: dict[str, Any]
    seconds: dict[str, float]
    output: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether its status is SUCCEEDED."""
        return bool(self.description["status"] == "SUCCEEDED")


def watch(
    execution: Annotated[
        str | None, typer.Argument(help=f"{known_runs.NAMES}; else the newest that runs, or the newest.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Show an execution while it runs, also one that was started in the console."""
    connected = connect(settings)
    if not follow(connected, find(connected, execution)):
        raise typer.Exit(1)


def follow(connected: ConnectedStack, execution_arn: str) -> bool:
    """Show an execution until it ends, and then its result. Ctrl-C ends the process, and leaves the execution alone.

    Returns:
        Whether the execution has succeeded.
    """
    try:
        return show(connected, execution_arn, console, options=connected.options).succeeded
    except KeyboardInterrupt:
        again = escape(execution_arn.rpartition(":")[2] + connected.options)
        console.print(f"The run goes on without you. Come back: tuneway watch {again}\nStop it: tuneway stop {again}")
        raise typer.Exit(_INTERRUPTED) from None


def show(
    account: WatchedStack,
    execution_arn: str,
    screen: Console,
    *,
    options: str = "",
    poll: float = POLL_SECONDS,
    heartbeat: float = HEARTBEAT,
) -> WatchEnd:
    """Show an execution until it ends, and then its result.

    Args:
        account: the stack and its clients.
        execution_arn: the execution's ARN.
        screen: where to show it.
        options: the options of the commands that are shown.
        poll: the seconds between two looks.
        heartbeat: the most seconds without a line where the screen is no terminal.

    Raises:
        Refused: there is no such execution, or the user has to sign in again.
    """
    reader = RunReader(account, execution_arn, f"tuneway watch {execution_arn.rpartition(':')[2]}{options}")
    found, stack = reader.found, account.stack.name

    with Tree(screen, stack, so_far) if screen.is_terminal else Plain(screen, stack, heartbeat) as view:
        while True:
            reader.read()
            view.update(found)
            if found.status != "RUNNING":
                break
            time.sleep(poll)
    print_end(screen, account.stack, found, options)
    now = time.time()
    seconds = {name: round(row.elapsed(now) or 0, 2) for name, row in found.history.rows.items()}
    return WatchEnd(found.execution, seconds, found.output)


def find(connected: ConnectedStack, wanted: str | None) -> str:
    """Return the ARN of the execution that the user means: the named one, else the newest that runs, else the newest.

    Raises:
        Refused: there is none, or Step Functions no longer knows it.
    """
    runs = known_runs.listed(connected)
    if wanted is not None:
        run = known_runs.named(runs, wanted)
    elif runs:
        run = next((run for run in runs if run.status == "RUNNING"), runs[0])
    else:
        raise Refused(known_runs.NO_RUNS)
    if run.execution is None:
        raise Refused(
            f"Step Functions no longer knows the execution of run {run.run}; use `tuneway report {run.run}` for its page"
        )
    return run.execution
