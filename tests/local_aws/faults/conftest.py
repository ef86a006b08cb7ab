"""The local AWS of the tests of faults, and the functions that set and count faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.local_aws.conftest import REGION, RunningAws, control, start, stop
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def faults_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    """A local AWS for these tests alone, because a fault would also hit the calls of other tests."""
    running = start(tmp_path_factory.mktemp("faults"))
    running.client("s3").create_bucket(Bucket="faults", CreateBucketConfiguration={"LocationConstraint": REGION})
    yield running
    assert stop(running) == 0


@pytest.fixture
def aws(faults_aws: RunningAws) -> Iterator[RunningAws]:
    """Local AWS, whose faults end with each test."""
    yield faults_aws
    set_faults(faults_aws)


def set_faults(aws: RunningAws, *items: Any) -> list[dict[str, Any]]:
    """Replace the list of faults, and return the new list."""
    body = json.dumps(items).encode()
    with urlopen(Request(f"{aws.endpoint}/_tuneway/faults", body, method="POST")) as answer:
        return list(json.loads(answer.read()))


def fired_counts(aws: RunningAws) -> list[int]:
    """Return how often each fault of the list has fired."""
    with urlopen(f"{aws.endpoint}/_tuneway/faults") as answer:
        return [fault["fired"] for fault in json.loads(answer.read())]


@pytest.fixture(scope="package")
def job_role(faults_aws: RunningAws) -> str:
    """The role of training jobs, whose files are in S3 and whose quota is large."""
    training.upload_files(faults_aws)
    control(faults_aws, "quotas", **{"ml.g5.xlarge for training job usage": 20})
    control(faults_aws, "sagemaker", status_seconds=0.05)
    return faults_aws.role("training", *training.statements(), service="sagemaker")
