"""A local AWS with a tiny model behind an endpoint of a stack, and the environment of a user of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from local import tiny_model
from tests.local_aws import importable
from tests.local_aws.conftest import ACCOUNT, REGION, ROOT, RunningAws, start, stop
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
        """Run `tuneway ask` as the user."""
        return self.tuneway(settings, "ask", *arguments, text=text)

    def tuneway(
        self, settings: Path, command: str, *arguments: str, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of `tuneway` as the user."""
        command_line = [sys.executable, "-m", "cli", command, *arguments, "--settings", str(settings)]
        return subprocess.run(
            command_line,
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=300,  # An imported model wakes first.
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


TAG = {"key": "tuneway:stack", "value": "both"}
MAY = {
    "Effect": "Allow",
    "Action": "bedrock:InvokeModelWithResponseStream",
    "Resource": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:imported-model/*",
    "Condition": {"StringEquals": {"aws:ResourceTag/tuneway:stack": "both"}},
}


@pytest.fixture(scope="session")
def model(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The ARN of an imported tiny model, which no call has woken yet."""
    aws = served.aws
    files = importable.as_transformers_4(tiny_model.ensure(tmp_path_factory.mktemp("hub")))
    importable.put(aws.client("s3"), stacks.BUCKET, "imported", files)
    body = json.dumps({"restore_seconds": 0.5, "import_seconds": 0.1}).encode()
    with urlopen(Request(f"{aws.endpoint}/_tuneway/bedrock", body)) as answer:
        assert answer.status == 200
    read = {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{stacks.BUCKET}*"}
    bedrock = aws.client("bedrock")
    job = bedrock.create_model_import_job(
        jobName="imported",
        importedModelName="imported",
        roleArn=aws.role("imports", read, service="bedrock"),
        modelDataSource={"s3DataSource": {"s3Uri": f"s3://{stacks.BUCKET}/imported/"}},
        importedModelTags=[TAG],
    )["jobArn"]
    return str(importable.ended(bedrock, job)["importedModelArn"])


@pytest.fixture(scope="session")
def both(served: Served, settings: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a stack with an endpoint and an imported model."""
    role = served.aws.role("CallerOfBoth", openai_endpoint.BEARER, openai_endpoint.invoke(NAME), MAY)
    return stacks.create(served.aws, "both", NAME, role, tmp_path_factory.mktemp("both"))
