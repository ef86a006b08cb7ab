"""`tuneway run`: shows the plan, asks, uploads the dataset, starts an execution, and goes on as `tuneway watch`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from cli.context import SettingsFile, Yes, confirm, connect, console
from cli.dataset import local_dataset
from cli.plan import Columns, Dataset, InputFile, Set
from cli.run_input import run_input
from cli.start import start
from pipeline.money.words import dollars


def run(
    dataset: Dataset = None,
    fields: Columns = None,
    set_: Set = None,
    input_: InputFile = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not watch the run.")] = False,
    yes: Yes = False,
    settings: SettingsFile = None,
) -> None:
    """Show the plan, upload the dataset, start a run, and watch it."""
    from cli import plan_view
    from cli.planned import plan_run
    from cli.upload import upload

    own = local_dataset(dataset) if dataset else None
    given = run_input(input_, own, fields, set_ or [])
    connected = connect(settings)
    found = plan_run(connected, given, own, console)
    plan_view.show(found, console, own and own.described(given))
    most = found.plan.estimate.total
    costs = f"at most {dollars(most)} dollars" if most is not None else "a price that is not known"
    confirm(f"Start this run for {costs}?", yes=yes)
    if own:
        bucket = connected.stack.bucket
        count = upload(own.files, connected.client("s3"), bucket, console)
        files = f"{count} file{'s' * (count != 1)} uploaded" if count else "uploaded already, by an earlier run"
        console.print(escape(f"Dataset s3://{bucket}/{given['dataset']['source']}: {files}"))
    start(connected, given, detach=detach)
