"""Starts an execution of the stack's state machine, and goes on as `tuneway watch`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from cli.context import console

if TYPE_CHECKING:
    from cli.context import ConnectedStack
    from pipeline.contracts.values import JsonObject


def start(connected: ConnectedStack, run_input: JsonObject, *, detach: bool) -> None:
    """Start an execution with this input, and watch it to its end unless `detach` is set.

    Raises:
        typer.Exit: the run has not succeeded.
    """
    answer = connected.client("stepfunctions").start_execution(
        stateMachineArn=connected.stack.state_machine, input=json.dumps(run_input)
    )
    arn = answer["executionArn"]
    name = arn.rpartition(":")[2]
    console.print(f"[bold]Execution[/bold] {escape(name)} has started.")
    if detach:
        again = escape(name + connected.options)
        console.print(f"To watch it: tuneway watch {again}; to stop it: tuneway stop {again}")
        return
    from cli.watch import follow

    if not follow(connected, arn):
        raise typer.Exit(1)
