"""A local AWS with a tiny model behind an endpoint, and the environment of a user of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.local_aws.conftest import REGION, RunningAws, start, stop
from tests.local_aws.services.sagemaker import openai_endpoint
from tests.local_aws.services.sagemaker.openai_endpoint import BEARER

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "Tiny"


@dataclass(frozen=True)
class Served:
    """An endpoint that serves, the role that may call it, and the environment of a user of the account."""

    aws: RunningAws
    role: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    aws = start(tmp_path_factory.mktemp("serving"))
    openai_endpoint.serve_tiny(aws, NAME, openai_endpoint.prepare_account(aws, tmp_path_factory.mktemp("models")))
    role = aws.role("Caller", BEARER, openai_endpoint.invoke(NAME))
    home = tmp_path_factory.mktemp("home")
    environment = {
        "HOME": str(home),
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield Served(aws, role, environment)
    assert stop(aws) == 0


@pytest.fixture
def user(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The user whose environment this process has for the time of a test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served
