"""The same rows for every recipe: chats to train on and held-out ones to be scored on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.checks import Checks
from data_prep.delimited import CsvFile
from data_prep.request import PrepDataset, PrepRequest, S3Location
from data_prep.rows import read_jsonl
from pipeline import settings
from pipeline.contracts.data import CsvForm
from pipeline.errors import Refused
from training.messages import read_row

if TYPE_CHECKING:
    from training.data import Encoder
    from training.messages import Messages

ROOT = Path(__file__).parent.parent
MOST_TOKENS = 10**6
"""What is too long, `choose` leaves out."""


def read(file: Path, fields: str | None = None) -> list[Messages]:
    """Returns the fit rows of a .csv or .jsonl file as data prep writes them.

    Args:
        file: the dataset.
        fields: DIALOGUE:SUMMARY, its columns; None: config.yaml's.

    Raises:
        pipeline.errors.Refused: neither of the two formats, or a column that is not there.
    """
    dataset = settings.load(ROOT / "config.yaml").dataset
    dialogue, _, summary = (fields or f"{dataset.fields.dialogue}:{dataset.fields.summary}").partition(":")
    if file.suffix not in (".csv", ".jsonl"):
        raise Refused(f"'{file.name}' is neither .csv nor .jsonl; name one of them")
    reader = CsvFile if file.suffix == ".csv" else read_jsonl
    nowhere = S3Location("", "")
    wanted = PrepDataset("", None, (), dialogue, summary, CsvForm(), {}, {}, 1.0, dataset.instruction, 0)
    checks = Checks(PrepRequest(wanted, nowhere, nowhere, MOST_TOKENS, None, 0, None))
    with file.open("rb") as stream:
        checked = checks.check(reader(stream, file.name, (dialogue, summary)))
        return [read_row(line) for reason, *_, line in checked if reason is None]


def choose(
    chats: list[Messages], encoder: Encoder, *, rows: int, max_length: int, seed: int
) -> tuple[list[Messages], int]:
    """Draws `rows` rows of at most `max_length` tokens.

    Returns:
        The rows and their tokens together: what every recipe is measured by, so neither padding nor what another
        template adds counts.

    Raises:
        ValueError: there are not as many.
    """
    fit = [(chat, length) for chat in chats if (length := encoder.row(chat)["length"]) <= max_length]
    if len(fit) < rows:
        raise ValueError(f"{len(fit)} rows of at most {max_length} tokens, {rows} are needed")
    drawn = random.Random(seed).sample(fit, rows)
    return [chat for chat, _ in drawn], sum(length for _, length in drawn)
