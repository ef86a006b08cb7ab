"""The parts that the commands share: the console, the stack that the settings name, and the question before a change."""

from __future__ import annotations

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


class ConnectedStack(NamedTuple):
    """A deployed stack as the commands see it: the settings of the user's files, and the deployed stack."""

    settings: Settings
    stack: Stack

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
    return ConnectedStack(settings, stack)


def confirm(question: str, *, yes: bool) -> None:
    """Ask for y or n, unless the user has already said --yes.

    Raises:
        Refused: the answer is no, or there is no terminal to answer in.
    """
    if yes:
        return
    if not console.is_terminal:
        raise Refused(f"{question} This needs an answer, and there is no terminal; add --yes")
    if not typer.confirm(question):
        raise Refused("nothing was changed; run the same command again, and answer y")
