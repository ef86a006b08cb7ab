"""`tuneway watch`: shows an execution while it runs, and at its end what a person needs of it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from botocore.exceptions import ClientError
from rich.markup import escape

from cli.context import ConnectedStack, SettingsFile, connect, console
from cli.reader import RunReader, WatchedStack
from cli.result import print_end
from cli.spending import so_far
from cli.view import HEARTBEAT, Plain, Tree
from pipeline import aws, names
from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

POLL_SECONDS = 3.0
"""The seconds between two looks. The terminal is drawn again each second, because times pass."""

MOST_LISTED = 1000
"""The most executions among which a beginning of a name is searched, the newest first."""

_INTERRUPTED = 130
"""The exit code of a process that Ctrl-C has ended, as a shell has it."""


@dataclass(frozen=True)
class WatchEnd:
    """An execution that has ended.

    Attributes:
        description: the answer of DescribeExecution.
        seconds: the seconds that each step took, by the state's name.
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
        str | None,
        typer.Argument(
            help="ARN, name, run, or the beginning of a name. Without it: the newest that runs, or the newest."
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Show an execution while it runs, also one that was started in the console."""
    connected = connect(settings)
    if not follow(connected, find(connected, execution), settings):
        raise typer.Exit(1)


def follow(connected: ConnectedStack, execution_arn: str, settings_file: Path | None = None) -> bool:
    """Show an execution until it ends, and then its result. Ctrl-C ends the process, and leaves the execution alone.

    Args:
        connected: the stack.
        execution_arn: the execution's ARN.
        settings_file: the settings file that the user has named, for the commands that are shown.

    Returns:
        Whether the execution has succeeded.
    """
    name = execution_arn.rpartition(":")[2]
    option = f" --settings {settings_file}" if settings_file else ""
    try:
        return show(connected, execution_arn, console, options=option).succeeded
    except KeyboardInterrupt:
        console.print(
            f"The run goes on without you. Come back: tuneway watch {escape(name + option)}\n"
            f"Stop it: tuneway stop {escape(name + option)}"
        )
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
    """Return the ARN of the execution that the user means.

    Raises:
        Refused: there is none, or more than one begins with these characters.
    """
    client, machine = connected.client("stepfunctions"), connected.stack.state_machine
    if wanted is None:
        for running in ({"statusFilter": "RUNNING"}, {}):
            newest = client.list_executions(stateMachineArn=machine, maxResults=1, **running)["executions"]
            if newest:
                return str(newest[0]["executionArn"])
        raise Refused(f"the stack {connected.stack.name} has had no execution yet; start one with `tuneway run`")
    if wanted.startswith("arn:"):
        return wanted
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{wanted}"
    if re.fullmatch(r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/]{1,80}", wanted):
        try:
            client.describe_execution(executionArn=arn)
        except ClientError as error:
            if aws.code(error) != "ExecutionDoesNotExist":
                raise
        else:
            return arn
    listed = _listed(connected)
    matches = [one for one in listed if one["name"].startswith(wanted) or names.run_id(one["executionArn"]) == wanted]
    if len(matches) == 1:
        return str(matches[0]["executionArn"])
    if not matches:
        raise Refused(
            f"no execution of the stack {connected.stack.name} is called {quoted(wanted)} or begins with it; "
            "choose one that `tuneway runs` lists"
        )
    some = ", ".join(one["name"] for one in matches[:5])
    raise Refused(f"{len(matches)} executions begin with {quoted(wanted)}: {some}; give more characters of the name")


def _listed(connected: ConnectedStack) -> Iterator[dict[str, Any]]:
    """Yield the newest executions (API reference, ListExecutions: the most recent first)."""
    pages = connected.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=connected.stack.state_machine, PaginationConfig={"MaxItems": MOST_LISTED})
    for page in found:
        yield from page["executions"]
