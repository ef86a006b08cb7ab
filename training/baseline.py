"""The base model's answers on the test rows, kept: a later run that asks the same of it need not score it again.

Plan finds them by the settings, the job itself decides by a digest whether they are exactly what it would get. They come in
by a channel and leave with the model, so that no network is needed inside the job.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import transformers

from training.evaluate import Answer
from training.layout import sha256
from training.model import own_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.device import Device
    from training.recipe import Recipe

FILE = "baseline.json"


def digest(
    folder: Path, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], recipe: Recipe, device: Device
) -> str:
    """Returns what tells one scoring of a base from another, in hexadecimal digits.

    Args:
        folder: the base model's files; their names and contents count, so that a moved branch or another upload is seen.
        prompts: token ids of the test rows, in their order.
        end_ids: tokens that end an answer.
        recipe: of it, how answers are generated. The rows of a batch count, too: they decide how each is padded, which a
            GPU's rounding shows.
        device: its kind counts, and in which number format and by which attention the base answers on it.
    """
    precision = device.precision(own_dtype(folder))
    asked: dict[str, Any] = {
        "prompts": [list(prompt) for prompt in prompts],
        "end_ids": sorted(end_ids),
        "max_new_tokens": recipe.max_new_tokens,
        "eval_batch_size": recipe.eval_batch_size,
        "device": device.name.partition(":")[0],
        "dtype": str(precision.evaluation),
        "attention": precision.attention,
        "versions": [torch.__version__, transformers.__version__],
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def read(channel: Path, digest: str) -> list[Answer] | None:
    """Returns the answers of the channel, if it has any and they are those of `digest`."""
    try:
        kept = json.loads((channel / FILE).read_text(encoding="utf-8"))
        if kept["digest"] != digest:
            return None
        return [Answer(text=str(answer["text"]), finished=bool(answer["finished"])) for answer in kept["answers"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # none, or of a form that this release does not write: the base is asked again


def write(path: Path, digest: str, answers: Sequence[Answer]) -> None:
    """Writes the answers for the next run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"digest": digest, "answers": [asdict(answer) for answer in answers]}
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
