"""`tuneway plan`: shows what an execution would do, before it is started. It only reads, and spends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.context import Json, SettingsFile, connect, console, print_json
from cli.dataset import local_dataset
from cli.run_input import run_input

Dataset = Annotated[
    Path | None, typer.Option(help="Your own file or folder. Without it, the dataset of the settings or the input.")
]
Columns = Annotated[str | None, typer.Option("--fields", help="DIALOGUE:SUMMARY, the names of its two columns.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of this run, such as training.epochs=2. May be repeated.")
]
InputFile = Annotated[Path | None, typer.Option("--input", help="A JSON file with an execution's input.")]


def plan(
    dataset: Dataset = None,
    fields: Columns = None,
    set_: Set = None,
    input_: InputFile = None,
    as_json: Json = False,
    settings: SettingsFile = None,
) -> None:
    """Show what a run would do and cost, before it is started."""
    from cli import plan_view  # what data prep and Plan import is slow to load, and no other command needs it
    from cli.planned import plan_run

    own = local_dataset(dataset) if dataset else None
    given = run_input(input_, own, fields, set_ or [])
    connected = connect(settings)
    found = plan_run(connected, given, own, Console(stderr=True))
    if as_json:
        print_json(plan_view.as_document(found))
        return
    console.print(
        f"[bold]Plan[/bold] for the stack {connected.stack.name} in {connected.stack.region}; nothing is started"
    )
    console.print()
    plan_view.show(found, console, own and own.described(given))
