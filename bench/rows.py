"""Choose the rows, the same for every recipe: chats to train on, and held-out chats to score."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.checks import Checks
from data_prep.delimited import CsvFile
from data_prep.request import PrepRequest, S3Location
from data_prep.row_formats import RowFormats
from data_prep.rows import read_jsonl
from pipeline import settings
from pipeline.contracts.data import CsvForm, DatasetRequest, Fields
from pipeline.errors import Refused
from training.messages import read_row

if TYPE_CHECKING:
    from training.encoder import Encoder
    from training.messages import Messages

ROOT = Path(__file__).parent.parent
MOST_TOKENS = 10**6
"""A limit that no row reaches. `choose` leaves out the rows that are too long."""


def read(file: Path, fields: str | None = None) -> list[Messages]:
    """Read a .csv or .jsonl file. Return its accepted rows as the chats that data prep makes of them.

    Args:
        file: the dataset.
        fields: DIALOGUE:SUMMARY, its columns; None for those of config.yaml.

    Raises:
        pipeline.errors.Refused: the file has neither of the two formats, or a column is missing.
    """
    dataset = settings.load(ROOT / "config.yaml").dataset
    dialogue, _, summary = (fields or f"{dataset.fields.dialogue}:{dataset.fields.summary}").partition(":")
    if file.suffix not in (".csv", ".jsonl"):
        raise Refused(f"'{file.name}' is neither .csv nor .jsonl; name one of them")
    nowhere = S3Location("", "")
    wanted = DatasetRequest("", None, [], Fields(dialogue, summary), CsvForm(), {}, {}, 1.0, dataset.instruction, 0)
    checks = Checks(PrepRequest(wanted, nowhere, nowhere, MOST_TOKENS, None, 0, None))
    with file.open("rb") as stream:
        formats = RowFormats(wanted.fields, "columns")
        is_csv = file.suffix == ".csv"
        rows = CsvFile(stream, file.name, formats) if is_csv else read_jsonl(stream, file.name, formats.fallback)
        checked = checks.check(rows)
        return [read_row(line) for reason, *_, line in checked if reason is None]


def choose(
    chats: list[Messages], encoder: Encoder, *, rows: int, max_length: int, seed: int
) -> tuple[list[Messages], int]:
    """Draw `rows` chats of at most `max_length` tokens.

    Returns:
        The chats, and the number of all their tokens. Every recipe is measured by this number, so neither padding nor the
        additions of another template count.

    Raises:
        ValueError: there are not enough chats.
    """
    short = [(chat, length) for chat in chats if (length := encoder.row(chat)["length"]) <= max_length]
    if len(short) < rows:
        raise ValueError(f"the dataset has {len(short)} rows of at most {max_length} tokens; {rows} are needed")
    sample = random.Random(seed).sample(short, rows)
    return [chat for chat, _ in sample], sum(length for _, length in sample)
