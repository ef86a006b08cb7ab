"""The parts that the commands share: the console, the stack that the settings name, and the question before a change."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import boto3
import typer
from rich.console import Console

from pipeline import aws
from pipeline.errors import Refused
from serving import stack as stacks

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from serving.stack import Stack

console = Console(highlight=False, soft_wrap=True, emoji=False)
"""Where results go. It has no colours where standard output is no terminal."""

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="The settings file of the stack, laid over config.yaml.")
]
"""The option of every command that looks at a stack."""

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
"""The option of every command that asks before it changes something."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of every command whose result other programs may read."""


class ConnectedStack(NamedTuple):
    """A deployed stack as the commands see it.

    Attributes:
        settings: the settings of the user's files.
        stack: the deployed stack.
        options: the options with which another command finds the same stack. It begins with a space, or is empty.
    """

    settings: Settings
    stack: Stack
    options: str = ""

    def client(self, service: str) -> Any:
        """Return a client of the stack's region."""
        return aws.client(service, region_name=self.stack.region)


def connect(settings_file: Path | None) -> ConnectedStack:
    """Return the settings and the stack that they name.

    Raises:
        SettingsError: a settings file is wrong.
        Refused: the stack is not deployed.
    """
    settings = stacks.load(settings_file)
    stack = stacks.find_stack(settings)
    # The functions of `pipeline` make their clients without a Region, as AWS Lambda sets it.
    boto3.setup_default_session(region_name=stack.region)
    return ConnectedStack(settings, stack, f" --settings {shlex.quote(str(settings_file))}" if settings_file else "")


def confirm(question: str, *, yes: bool) -> None:
    """Ask for y or n, unless the user has already said --yes. Any other answer than y ends the command, and changes nothing.

    Raises:
        Refused: there is no terminal to answer in.
    """
    if yes:
        return
    if not console.is_terminal:
        raise Refused(f"{question} This needs an answer, and there is no terminal; add --yes")
    try:
        agreed = typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or the end of the input
        typer.echo(err=True)
        agreed = False
    if not agreed:
        typer.echo("nothing was changed", err=True)
        raise typer.Exit(1)


def print_json(value: Any) -> None:
    """Print a result for other programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
