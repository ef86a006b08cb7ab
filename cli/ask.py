"""`tuneway ask`: asks the model that the stack serves, for one dialogue or for every row of a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.context import SettingsFile
from pipeline.errors import Refused


def ask(
    dialogue: Annotated[str | None, typer.Argument(help="A text file, or - for standard input.")] = None,
    model: Annotated[Literal["endpoint", "bedrock"], typer.Option(help="Where the model is asked.")] = "endpoint",
    batch: Annotated[Path | None, typer.Option(help="A file of rows, in each format that data prep reads.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file for a batch's answers: .jsonl or .csv.")] = None,
    field: Annotated[str | None, typer.Option(help="The batch's column with the dialogue.")] = None,
    concurrency: Annotated[int, typer.Option(help="How many rows of a batch are asked at once.")] = 4,
    settings: SettingsFile = None,
) -> None:
    """Ask the model that your stack serves.

    The answer goes to standard output as it comes, and everything else to standard error. The exit code is 0 only if everything
    was answered.
    """
    if (dialogue is None) == (batch is None):
        raise Refused("name one of the two: DIALOGUE (a file, or - for standard input) for one answer, or --batch FILE")
    from serving import ask as asking

    try:
        if batch is not None:
            answered = asking.rows(settings, model, batch, output, field, concurrency)
        else:
            answered = asking.one(settings, model, str(dialogue))
    except KeyboardInterrupt:
        kept = ": the answers of the batch so far are kept, and the same command goes on" if batch else ""
        print(f"interrupted{kept}", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if answered else 1)
