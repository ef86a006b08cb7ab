"""A local AWS with a tiny model behind an endpoint of a stack, and the environment of a user of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.local_aws.conftest import REGION, ROOT, RunningAws, start, stop
from tests.local_aws.services.sagemaker import openai_endpoint
from tests.local_aws.services.sagemaker.openai_endpoint import BEARER
from tests.serving import stacks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "Tiny"
RUN = "0123456789"


@dataclass(frozen=True)
class Served:
    """An endpoint that serves, the role that may call it, and the environment of a user of the account."""

    aws: RunningAws
    role: str
    environment: dict[str, str]
    serving_role: str

    def ask(self, settings: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python -m serving.ask` as the user."""
        command = [sys.executable, "-m", "serving.ask", "--settings", str(settings), *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    aws = start(tmp_path_factory.mktemp("serving"))
    serving_role = openai_endpoint.prepare_account(aws, tmp_path_factory.mktemp("models"))
    openai_endpoint.serve_tiny(aws, NAME, serving_role)
    role = aws.role("Caller", BEARER, openai_endpoint.invoke(NAME))
    home = tmp_path_factory.mktemp("home")
    environment = {
        "HOME": str(home),
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONIOENCODING": "UTF-8",
    }
    aws.client("s3").create_bucket(Bucket=stacks.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield Served(aws, role, environment, serving_role)
    assert stop(aws) == 0


@pytest.fixture
def user(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The user whose environment this process has for the time of a test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture(scope="session")
def settings(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack whose endpoint serves the tiny model."""
    stacks.serve(served.aws, NAME, RUN)
    return stacks.create(served.aws, "asked", NAME, served.role, tmp_path_factory.mktemp("settings"))
