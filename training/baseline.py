"""Keeps the base model's answers on the test rows, so that a later run with the same prompts need not ask it again.

Plan finds the answers by the settings. The job decides by a digest whether they are exactly the answers that it would get.
They arrive in a channel and leave with the model, so that the job needs no network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import transformers

from training.answering import READ_TOKENS
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
    """Return the digest of everything that decides about the base model's answers, in hexadecimal digits.

    Args:
        folder: the base model's files. Their names and contents count, so that a moved branch or another upload is noticed.
        prompts: token ids of the test rows, in their order.
        end_ids: tokens that end an answer.
        recipe: its settings for the generation of answers count. The rows per batch count, too, and so does how many tokens
            are read at once: they decide how each row is padded, which changes a GPU's rounding.
        device: its kind counts, and the number format and the attention with which the base answers on it.
    """
    precision = device.precision(own_dtype(folder))
    inputs: dict[str, Any] = {
        "prompts": [list(prompt) for prompt in prompts],
        "end_ids": sorted(end_ids),
        "max_new_tokens": recipe.max_new_tokens,
        "eval_batch_size": recipe.eval_batch_size,
        "read_tokens": READ_TOKENS,
        "device": device.name.partition(":")[0],
        "dtype": str(precision.evaluation),
        "attention": precision.attention,
        "versions": [torch.__version__, transformers.__version__],
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read(channel: Path, digest: str) -> list[Answer] | None:
    """Return the channel's answers if they have this digest; None otherwise."""
    try:
        kept = json.loads((channel / FILE).read_text(encoding="utf-8"))
        if kept["digest"] != digest:
            return None
        return [Answer(text=str(answer["text"]), finished=bool(answer["finished"])) for answer in kept["answers"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # no answers, or in a form that this release does not write: the base model is asked again


def write(path: Path, digest: str, answers: Sequence[Answer]) -> None:
    """Write the answers for the next run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"digest": digest, "answers": [asdict(answer) for answer in answers]}
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
