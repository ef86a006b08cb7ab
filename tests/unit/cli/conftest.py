"""Fixtures for the commands: local AWS, and the command line in this process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from cli.main import main
from tests.local_aws.conftest import REGION, RunningAws, aws

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["aws", "tuneway"]


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
