"""A local AWS of their own for faults, and what says and counts them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import REGION, RunningAws, start, stop
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    running = start(tmp_path_factory.mktemp("faults"))
    place = {"LocationConstraint": REGION}
    running.client("s3").create_bucket(Bucket="faults", CreateBucketConfiguration=place)
    yield running
    assert stop(running) == 0


@pytest.fixture
def aws(own: RunningAws) -> Iterator[RunningAws]:
    yield own
    post(own)


def post(aws: RunningAws, *items: Any) -> list[dict[str, Any]]:
    body = json.dumps(items).encode()
    with urlopen(Request(f"{aws.endpoint}/_tuneway/faults", body, method="POST")) as answer:
        return list(json.loads(answer.read()))


def fired(aws: RunningAws) -> list[int]:
    with urlopen(f"{aws.endpoint}/_tuneway/faults") as answer:
        return [fault["fired"] for fault in json.loads(answer.read())]


def failure(call: Any, **params: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture(scope="package")
def job_role(own: RunningAws) -> str:
    training.stocked(own)
    training.control(own, "quotas", **{"ml.g5.xlarge for training job usage": 20})
    training.control(own, "sagemaker", status_seconds=0.05)
    return own.role("training", *training.statements(), service="sagemaker")
