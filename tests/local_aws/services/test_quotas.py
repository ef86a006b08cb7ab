"""Service Quotas of SageMaker instances, and the ways to set them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from local_aws.services.quotas import SAGEMAKER_QUOTAS, Quotas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

TRAINING = "ml.g5.xlarge for training job usage"


def post(aws: RunningAws, values: dict[str, float]) -> None:
    with urlopen(Request(f"{aws.endpoint}/_tuneway/quotas", json.dumps(values).encode(), method="POST")) as answer:
        assert answer.status == 200


@pytest.fixture
def reset(aws: RunningAws) -> Iterator[None]:
    post(aws, dict.fromkeys(SAGEMAKER_QUOTAS.values(), 1))
    yield
    post(aws, dict.fromkeys(SAGEMAKER_QUOTAS.values(), 1))


def value(aws: RunningAws, code: str) -> float:
    quota = aws.client("service-quotas").get_service_quota(ServiceCode="sagemaker", QuotaCode=code)["Quota"]
    return float(quota["Value"])


@pytest.mark.usefixtures("reset")
def test_a_quota_can_be_set_to_none(aws: RunningAws) -> None:
    assert value(aws, "L-B6D80D9C") == 1
    post(aws, {TRAINING: 0})
    assert value(aws, "L-B6D80D9C") == 0
    assert value(aws, "L-1928E07B") == 1
    listed = aws.client("service-quotas").list_service_quotas(ServiceCode="sagemaker", MaxResults=1)
    assert (listed["Quotas"][0]["QuotaName"], listed["Quotas"][0]["Value"]) == (TRAINING, 0)
    assert listed["NextToken"]


def test_an_unknown_code_is_no_such_resource(aws: RunningAws) -> None:
    quotas = aws.client("service-quotas")
    for call in (quotas.get_service_quota, quotas.get_aws_default_service_quota):
        with pytest.raises(ClientError) as refused:
            call(ServiceCode="sagemaker", QuotaCode="L-00000000")
        assert refused.value.response["Error"]["Code"] == "NoSuchResourceException"


def test_a_new_account_starts_with_nothing_by_default(aws: RunningAws) -> None:
    default = aws.client("service-quotas").get_aws_default_service_quota(
        ServiceCode="sagemaker", QuotaCode="L-B6D80D9C"
    )
    assert default["Quota"]["Value"] == 0


def test_a_file_in_the_state_dir_sets_them_too(tmp_path: Path) -> None:
    (tmp_path / "quotas.json").write_text(json.dumps({TRAINING: 3}))
    quotas = Quotas(tmp_path)
    assert quotas.value(TRAINING) == 3
    assert quotas.value("ml.g5.xlarge for endpoint usage") == 1


def test_reading_needs_a_grant(aws: RunningAws) -> None:
    nobody = aws.session(aws.role("quota-nobody"))
    with pytest.raises(ClientError, match="servicequotas:GetServiceQuota"):
        aws.client("service-quotas", nobody).get_service_quota(ServiceCode="sagemaker", QuotaCode="L-B6D80D9C")
