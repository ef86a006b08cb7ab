"""Local AWS for the functions of the pipeline, called as they are: they find it as they would find AWS."""

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
    """A Hub that has the models of the cache."""
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    with HubServer(cache) as server:
        yield server


@pytest.fixture
def bucket(aws: RunningAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, in the account that boto3's own clients reach."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    name = f"test-{uuid4()}"
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name
