"""The same rows for every recipe: chats to train on and held-out ones to be scored on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.checks import Accepted, Checks
from data_prep.formats import chat
from data_prep.request import Fields
from data_prep.rows import reader
from pipeline import settings

if TYPE_CHECKING:
    from training.data import Chat, Encoder

ROOT = Path(__file__).parent.parent


def read(file: Path, fields: str | None = None) -> list[Chat]:
    """Returns the fit rows of a .csv or .jsonl file as the chats that data prep makes of them.

    Args:
        file: the dataset.
        fields: DIALOGUE:SUMMARY, its columns; None: config.yaml's.

    Raises:
        pipeline.errors.Refused: neither of the two formats, or a column that is not there.
    """
    dataset, checks = settings.load(ROOT / "config.yaml").dataset, Checks(0)
    dialogue, _, summary = (fields or f"{dataset.fields.dialogue}:{dataset.fields.summary}").partition(":")
    with file.open("rb") as stream:
        fit = [checks.fit(row) for row in reader(file.name)(stream, file.name, Fields(dialogue, summary))]
    return [
        json.loads(chat(dataset.instruction, row.dialogue, row.summary))["messages"]
        for row in fit
        if isinstance(row, Accepted)
    ]


def choose(chats: list[Chat], encoder: Encoder, *, rows: int, max_length: int, seed: int) -> tuple[list[Chat], int]:
    """Draws `rows` chats of at most `max_length` tokens.

    Returns:
        The chats and their tokens together: what every recipe is measured by, so neither padding nor what another
        template adds counts.

    Raises:
        ValueError: there are not as many.
    """
    fit = [(chat, length) for chat in chats if (length := encoder.row(chat)["length"]) <= max_length]
    if len(fit) < rows:
        raise ValueError(f"{len(fit)} rows of at most {max_length} tokens, {rows} are needed")
    drawn = random.Random(seed).sample(fit, rows)
    return [chat for chat, _ in drawn], sum(length for _, length in drawn)
