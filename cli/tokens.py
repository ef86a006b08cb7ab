"""Counts a run's tokens and steps, and shows rows as the model sees them, with the training's own template and masking.

That needs the packages of the group `preview` (`make preview`). Without them, and beyond `MOST_ROWS` rows, the numbers are
estimates, and say so.
"""

from __future__ import annotations

import fnmatch
import os
from importlib.util import find_spec
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import Refused
from training.errors import TrainingError
from training.messages import read_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from training.encoder import Encoder, TokenizedChat
    from training.messages import Messages
    from training.model_files import ModelFolder
    from training.recipe import Recipe

MOST_ROWS = 2_000
"""The most rows of the training split that are tokenized. It takes a second or two."""

CHARACTERS_PER_TOKEN = 4
"""The assumption without a tokenizer. It is about right for English."""

SHOWN_ROWS = 5

INSTALL = "`make preview` installs it once"
_TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
"""The files of a base model that are not weights (`training.hub.WANTED`)."""


class ShownRow(NamedTuple):
    """A row of the training split as the model sees it.

    Attributes:
        number: its place among the rows of the training split, from 1 on.
        parts: its text. Context, which is not learned, and learned answers stand in turn, and the first part is context.
        tokens: the number of all its tokens. None without the tokenizer.
        learned_tokens: the number of the tokens that are learned.
    """

    number: int
    parts: list[str]
    tokens: int | None
    learned_tokens: int | None


class TokenCount(NamedTuple):
    """The tokens and the steps of a training.

    Attributes:
        rows: the rows on which the job trains.
        left_out: the rows that are longer than training.max_length, which the job leaves out.
        cut: the rows that lose their first turns, because training.long_conversations is cut. None without the tokenizer.
        longest: the tokens of the longest row on which the job trains.
        per_epoch: the tokens of all these rows.
        learned: those of them that are learned. None without the tokenizer.
        steps: the optimizer steps.
        rows_per_step: the rows of one of them.
        trained: the tokens of all steps.
        estimate: why the numbers are estimates. None if they are exact.
    """

    rows: int
    left_out: int
    cut: int | None
    longest: int
    per_epoch: int
    learned: int | None
    steps: int
    rows_per_step: int
    trained: int
    estimate: str | None


class _Length(NamedTuple):
    whole: int
    learned: int


def why_not() -> str | None:
    """Return why the tokens cannot be counted on this machine. None if they can."""
    return None if find_spec("transformers") else f"the tokenizer is not installed; {INSTALL}"


def load_encoder(folder: Path, name: str) -> Encoder | str:
    """Return the training's encoder with the base model's tokenizer, or why there is none here."""
    # No line about a missing torch, and no call of the Hub: the files are here.
    os.environ |= {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from training.encoder import Encoder, end_ids, load_tokenizer

    try:
        tokenizer = load_tokenizer(folder, name)
        return Encoder(tokenizer, end_ids(folder, tokenizer))
    except TrainingError as error:
        raise Refused(str(error)) from error
    except (ImportError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:120]
        return f"the tokenizer of {name} does not load here ({why})"


def fetch_tokenizer(model: ModelFolder, folder: Path) -> None:
    """Write the small files of a base model, which are not its weights. The folder appears whole or not at all."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    for name in model.sizes:
        if any(fnmatch.fnmatch(name, pattern) for pattern in _TOKENIZER_FILES):
            (part / name).write_bytes(model.read(name))
    part.rename(folder)


def rows_of(file: Path) -> Iterator[Messages]:
    """Yield the rows of a split that data prep has written."""
    with file.open("rb") as lines:
        yield from map(read_row, lines)


def count(file: Path, rows: int, recipe: Recipe, encoder: Encoder | str) -> TokenCount:
    """Count the tokens and steps of a training.

    Args:
        file: the training split.
        rows: its rows.
        recipe: the hyperparameters of the job.
        encoder: the training's encoder, or why there is none.

    Raises:
        Refused: the job would refuse the rows, because there are too few or all are too long.
    """
    cuts = recipe.long_conversations == "cut"
    characters = cut = 0
    lengths: list[_Length | None] = []
    for number, row in enumerate(rows_of(file)):
        text = sum(len(message["content"]) for message in row)
        characters += text
        if isinstance(encoder, str):
            whole = -(-text // CHARACTERS_PER_TOKEN)
            # With cut, a long conversation keeps about as much as fits.
            whole = min(whole, recipe.max_length) if cuts and len(row) > 3 else whole
            lengths.append(_Length(whole, 0) if whole <= recipe.max_length else None)
        elif number < MOST_ROWS:
            one, lost = _fit(encoder, row, recipe)
            lengths.append(None if one is None else _Length(one["length"], _learned(one)))
            cut += lost > 0
            counted = characters
    used = [length for length in lengths if length is not None]
    exact = len(lengths) == rows and not isinstance(encoder, str)
    # Beyond the counted rows, the others have as many tokens per character.
    scale = 1.0 if len(lengths) == rows else characters / counted
    usable = len(used) if len(lengths) == rows else round(rows * len(used) / len(lengths))
    if exact or not used:
        _check(usable, rows, recipe)
    schedule = recipe.schedule(max(1, usable))
    per_epoch = round(sum(length.whole for length in used) * scale)
    learned = None if isinstance(encoder, str) else round(sum(length.learned for length in used) * scale)
    trained = round(per_epoch / max(1, usable) * schedule.steps * recipe.rows_per_step)
    if exact:
        trained = _trained([length.whole for length in used], recipe, schedule.steps)
    return TokenCount(
        rows=usable,
        left_out=rows - usable,
        cut=None if isinstance(encoder, str) else round(cut * rows / len(lengths)),
        longest=max((length.whole for length in used), default=0),
        per_epoch=per_epoch,
        learned=learned,
        steps=schedule.steps,
        rows_per_step=recipe.rows_per_step,
        trained=trained,
        estimate=None if exact else _why_estimate(encoder, len(lengths), rows),
    )


def _learned(row: TokenizedChat) -> int:
    """Return the number of the tokens that are learned."""
    return sum(end - start for start, end in row["spans"])


def _fit(encoder: Encoder, row: Messages, recipe: Recipe) -> tuple[TokenizedChat | None, int]:
    """Return what the job makes of a row."""
    try:
        return encoder.fit(row, recipe.max_length, cut=recipe.long_conversations == "cut")
    except TrainingError as error:
        raise Refused(str(error)) from error


def _check(usable: int, rows: int, recipe: Recipe) -> None:
    """Refuse what the job would refuse."""
    if not usable:
        raise Refused(
            f"every row of the training split ({rows}) is longer than training.max_length {recipe.max_length} tokens: raise "
            "it, or shorten the rows"
        )
    try:
        recipe.check_rows(usable, rows - usable)
    except TrainingError as error:
        raise Refused(str(error)) from error


def _trained(lengths: Sequence[int], recipe: Recipe, steps: int) -> int:
    from training.order import training_order  # numpy comes with the tokenizer

    order = training_order(
        lengths, steps=steps, rows_per_step=recipe.rows_per_step, batch_size=recipe.batch_size, seed=recipe.seed
    )
    return sum(lengths[row] for row in order)


def _why_estimate(encoder: Encoder | str, counted: int, rows: int) -> str:
    if isinstance(encoder, str):
        return f"{CHARACTERS_PER_TOKEN} characters per token are assumed, because {encoder}"
    return f"from the first {counted:,} of {rows:,} rows"


def shown_rows(file: Path, rows: int, recipe: Recipe, encoder: Encoder | str) -> list[ShownRow]:
    """Return some rows of the training split, at equal distances, as the model sees them."""
    step = max(1, rows // SHOWN_ROWS)
    chosen = islice(enumerate(rows_of(file), 1), 0, None, step)
    return [_shown(number, row, recipe, encoder) for number, row in islice(chosen, SHOWN_ROWS)]


def _shown(number: int, row: Messages, recipe: Recipe, encoder: Encoder | str) -> ShownRow:
    if isinstance(encoder, str):
        parts = [""]
        for message in row:
            parts[-1] += f"{message['role']}: "
            if message.get("learned"):
                parts += [message["content"], "\n"]
            else:
                parts[-1] += f"{message['content']}\n"
        return ShownRow(number, parts[:-1], None, None)
    fitted, _ = _fit(encoder, row, recipe)
    one = fitted or encoder.row(row)  # a row that the job leaves out is shown whole
    decode: Any = encoder.tokenizer.decode
    borders = [0, *(border for span in one["spans"] for border in span)]
    parts = [decode(one["input_ids"][start:end]) for start, end in pairwise(borders)]
    return ShownRow(number, parts, one["length"], _learned(one))
