"""Fixtures for the command line: local AWS, an empty bucket, and the encoder of a tiny model as `tuneway plan` loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli import tokens
from local import tiny_model
from tests.local_aws.conftest import aws
from tests.unit.pipeline.conftest import bucket
from training.encoder import Encoder
from training.model_files import LocalFolder

__all__ = ["aws", "bucket", "encoder"]

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The training's encoder with the tokenizer of the tiny model, whose weights are not fetched."""
    model: Path = tiny_model.ensure(tmp_path_factory.mktemp("hub"))
    folder = tmp_path_factory.mktemp("tokenizers") / "tiny"
    tokens.fetch_tokenizer(LocalFolder(model), folder)
    assert not list(folder.glob("*.safetensors"))
    loaded = tokens.load_encoder(folder, tiny_model.REPO)
    assert isinstance(loaded, Encoder)
    return loaded
