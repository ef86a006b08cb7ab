"""The tiny model of `tiny_model.py`, without network, and a job's files."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
import torch
from huggingface_hub import constants

from tests.unit.training.tiny_model import (
    COMMIT,
    NAME,
    QWEN,
    RECIPE,
    TEMPLATE,
    TinyModel,
    make_chat,
    make_conversation,
    make_models,
    make_tokenizer,
    write_channel,
    write_hyperparameters,
)
from training.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.recipe import Recipe

__all__ = [
    "COMMIT",
    "NAME",
    "QWEN",
    "TEMPLATE",
    "TinyModel",
    "make_chat",
    "make_conversation",
    "make_tokenizer",
    "write_channel",
    "write_hyperparameters",
]

torch.set_num_threads(1)  # with such small matrices, a second thread only waits


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Make the tiny models once per session."""
    return make_models(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def folder(tiny: TinyModel, tmp_path: Path) -> Path:
    """Return a copy of the tiny Llama's folder."""
    return shutil.copytree(tiny.folder, tmp_path / "base")


@pytest.fixture(autouse=True)
def _offline(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tiny.cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def device() -> Device:
    """Return the CPU, also on a machine with a GPU."""
    return Device("cpu", None, None)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Return the recipe of a run that learns in a few steps."""
    return RECIPE


@pytest.fixture
def job(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the files of a job as SageMaker does, and yield their root."""
    for split, numbers in {"train": range(40), "validation": range(40, 46), "test": range(46, 52)}.items():
        write_channel(tmp_path, split, [make_chat(number) for number in numbers])
    write_hyperparameters(tmp_path, recipe)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    # The job sets its own handler, with which SIGTERM would not end the test run.
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)
