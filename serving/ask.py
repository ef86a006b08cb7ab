"""Asks the served model: one question, or every row of a file. `tuneway ask` is its command.

The answer goes to standard output as it comes, and everything else to standard error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from serving import deployed, questions
from serving import stack as stacks
from serving.batch import Batch, run
from serving.measured import MeasuredAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.models import Model, Tell
    from serving.stack import Stack

MODELS: dict[str, Callable[[Stack, Tell], Model]] = {"endpoint": deployed.endpoint, "bedrock": deployed.bedrock}
"""The places in which a stack's model may be served."""


def one(settings_file: Path | None, model: str, name: str) -> bool:
    """Ask one question. Return whether there was an answer.

    Args:
        settings_file: the settings file of the stack.
        model: the place of the model, one of `MODELS`.
        name: the question's file, or - for standard input.

    Raises:
        Refused: the question cannot be read, or no model is served.
        NotAnswered: the model gave no answer.
    """
    question = questions.read(name)
    asked = MODELS[model](stacks.find_stack(stacks.load(settings_file)), _teller())
    answer = MeasuredAnswer(asked, question)
    for piece in answer.pieces():
        print(piece, end="", flush=True)
    print(flush=True)
    print(f"{asked.title} {asked.id} (run {asked.run}): {answer.line()}", file=sys.stderr)
    return bool(answer.text.strip())


def rows(
    settings_file: Path | None, model: str, file: Path, output: Path | None, field: str | None, at_once: int
) -> bool:
    """Ask for every row of a file. Return whether every row has an answer.

    Args:
        settings_file: the settings file of the stack.
        model: the place of the model, one of `MODELS`.
        file: the file, in a format that data prep reads.
        output: the file for the answers. None stands for a file beside the input.
        field: the column with the dialogue. None: the settings say the format of the rows.
        at_once: how many rows are asked at once.

    Raises:
        Refused: the file cannot be read, an argument is wrong, or no model is served.
        NotAnswered: the model answers no row now. The answers so far are kept.
    """
    settings = stacks.load(settings_file)
    batch = Batch.of(file, output, field, at_once, settings)
    return run(batch, MODELS[model](stacks.find_stack(settings), _teller()))


def _teller() -> Tell:
    """Return a function that prints each line to standard error once, and not at each try of the SDK."""
    told: set[str] = set()

    def tell(line: str) -> None:
        if line not in told:
            told.add(line)
            print(line, file=sys.stderr, flush=True)

    return tell
