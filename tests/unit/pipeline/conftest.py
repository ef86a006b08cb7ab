"""Local AWS for the functions of the pipeline, called as they are: they find it as they would find AWS."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.unit.local.conftest import REGION, LocalAws, aws

__all__ = ["aws", "bucket"]


@pytest.fixture
def bucket(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, in the account that boto3's own clients reach."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    name = f"test-{uuid4()}"
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name
