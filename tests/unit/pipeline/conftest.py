"""Fixtures for the pipeline's functions: local AWS, which they reach as they would reach AWS, and a Hub with a tiny model."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from local import tiny_model
from tests.hub_server import HubServer
from tests.local_aws.conftest import REGION, RunningAws, aws

__all__ = ["aws", "bucket", "cache", "models"]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub cache with the tiny random Llama."""
    folder = tmp_path_factory.mktemp("hub")
    tiny_model.ensure(folder)
    return folder


@pytest.fixture
def models(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with the models of the cache. Waits between tries take no time."""
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    with HubServer(cache) as server:
        yield server


@pytest.fixture
def bucket(aws: RunningAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket. The fixture also points boto3's clients, and so the functions, at local AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    name = f"test-{uuid4()}"
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name
