"""Fixtures for the commands: local AWS, an empty bucket, the command line in this process, and a tiny model's encoder."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from cli import tokens
from cli.main import main
from local import tiny_model
from tests.local_aws.conftest import REGION, RunningAws, aws
from tests.unit.pipeline.conftest import bucket
from training.encoder import Encoder
from training.model_files import LocalFolder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["aws", "bucket", "encoder", "tuneway"]


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Tuneway(Protocol):
    def __call__(self, settings: Path, command: str, *arguments: str) -> Done: ...


@pytest.fixture
def tuneway(aws: RunningAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tuneway:
    """Run a command of `tuneway` as a user of the local account. Nothing of it is a terminal."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def run(settings: Path, command: str, *arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tuneway", command, *arguments, "--settings", str(settings)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        written = capsys.readouterr()
        said = end.value.code if isinstance(end.value.code, str) else None
        code = 1 if said else int(end.value.code or 0)
        return Done(code, written.out, written.err + (f"{said}\n" if said else ""))

    return run


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
