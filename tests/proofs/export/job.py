"""Make a folder to read: the product's own training code writes it to /opt/ml/model after a few steps."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import record_formats
from local.model import REPO
from training.messages import as_chat, read_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.settings import Settings
    from training.messages import Chat

ROOT = Path(__file__).resolve().parents[3]
CHATS = 5
"""Number of held-out dialogues that every reader gets."""
MAX_NEW_TOKENS = 40
# These change the model a good deal in half a minute on two cores. The others are the recipe's defaults (QLoRA in NF4).
HYPERPARAMETERS = {
    "base_model": REPO,
    "device": "cpu",
    "learning_rate": "2e-3",
    "warmup_steps": "0",
    "gradient_accumulation_steps": "1",
    "max_length": "256",
    "max_steps": "8",
    "max_new_tokens": str(MAX_NEW_TOKENS),
}
_ROWS = {"train": 32, "validation": 4, "test": CHATS}
_MOST_CHARACTERS = 500
"""The longest dialogue. With its summary and the template, it has at most max_length tokens."""


class JobError(Exception):
    """The training job failed. The message is its last line."""


def chats(split: str, settings: Settings) -> list[Chat]:
    """Return the first short rows of a split of data/, as data preparation writes them."""
    return [as_chat(read_row(line)) for line in _lines(split, settings)]


def train(base: Path, cache: Path, settings: Settings) -> Path:
    """Lay `base` out as SageMaker lays out /opt/ml, train there, and return the model's folder.

    Raises:
        JobError: the job failed.
    """
    for split in _ROWS:
        folder = base / "input" / "data" / split
        folder.mkdir(parents=True)
        (folder / f"{split}.jsonl").write_bytes(b"".join(_lines(split, settings)))
    config = base / "input" / "config" / "hyperparameters.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(HYPERPARAMETERS), encoding="utf-8")
    environment = offline(cache) | {"SAGEMAKER_BASE_DIR": str(base), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "training.train"]
    done = subprocess.run(
        command, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise JobError("training.train: " + (done.stdout.strip().splitlines() or ["no output"])[-1])
    return base / "model"


def offline(cache: Path) -> dict[str, str]:
    """Return the environment of a program that may use the Hub's cache, but not the network."""
    own: dict[str, Any] = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | own


def _lines(split: str, settings: Settings) -> Iterator[bytes]:
    with (ROOT / "data" / "dialogues" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["dialogue"]) <= _MOST_CHARACTERS][: _ROWS[split]]
    for row in rows:
        columns = settings.dataset.instruction, row["dialogue"], row["summary"]
        yield record_formats.row_line(record_formats.row_of_columns(*columns))
