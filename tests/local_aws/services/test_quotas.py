"""Service Quotas of SageMaker instances and of imported models on local AWS, and the ways to set them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from local_aws.services.quotas import IMPORTED_MODELS, SAGEMAKER_QUOTAS, Quotas
from tests.local_aws.conftest import control, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

TRAINING = "ml.g5.xlarge for training job usage"


@pytest.fixture
def reset(aws: RunningAws) -> Iterator[None]:
    control(aws, "quotas", **dict.fromkeys(SAGEMAKER_QUOTAS.values(), 1))
    yield
    control(aws, "quotas", **dict.fromkeys(SAGEMAKER_QUOTAS.values(), 1))


def value(aws: RunningAws, code: str) -> float:
    listed = aws.client("service-quotas").list_service_quotas(ServiceCode="sagemaker")["Quotas"]
    return float(next(quota["Value"] for quota in listed if quota["QuotaCode"] == code))


@pytest.mark.usefixtures("reset")
def test_a_quota_can_be_set_to_zero(aws: RunningAws) -> None:
    assert value(aws, "L-B6D80D9C") == 1
    control(aws, "quotas", **{TRAINING: 0})
    assert value(aws, "L-B6D80D9C") == 0
    assert value(aws, "L-1928E07B") == 1
    listed = aws.client("service-quotas").list_service_quotas(ServiceCode="sagemaker", MaxResults=1)
    assert (listed["Quotas"][0]["QuotaName"], listed["Quotas"][0]["Value"]) == (TRAINING, 0)
    assert listed["NextToken"]


def test_an_unknown_service_is_no_such_resource(aws: RunningAws) -> None:
    client = aws.client("service-quotas")
    assert refusal(client.list_service_quotas, ServiceCode="ec2")[0] == "NoSuchResourceException"


def test_the_default_quotas_of_aws_are_zero(aws: RunningAws) -> None:
    default = aws.client("service-quotas").list_aws_default_service_quotas(ServiceCode="sagemaker")["Quotas"]
    assert {quota["Value"] for quota in default} == {0}


def test_the_quota_of_imported_models_is_a_default_until_it_is_set(tmp_path: Path, aws: RunningAws) -> None:
    client, imported = aws.client("service-quotas"), {"ServiceCode": "bedrock", "QuotaCode": "L-45B04988"}
    default = client.get_aws_default_service_quota(**imported)["Quota"]
    assert (default["QuotaName"], default["Value"], default["Adjustable"]) == (IMPORTED_MODELS, 3, True)
    listed = client.list_aws_default_service_quotas(ServiceCode="bedrock")["Quotas"]
    assert [quota["QuotaCode"] for quota in listed] == ["L-45B04988"]
    missing = refusal(client.get_aws_default_service_quota, ServiceCode="sagemaker", QuotaCode="L-45B04988")
    assert missing[0] == "NoSuchResourceException"
    (tmp_path / "quotas.json").write_text(json.dumps({IMPORTED_MODELS: 5}))
    without, own = Quotas(tmp_path / "nothing.json"), Quotas(tmp_path / "quotas.json")
    assert (without.values()[IMPORTED_MODELS], without.applied().get(IMPORTED_MODELS)) == (3, None)
    assert own.values()[IMPORTED_MODELS] == own.applied()[IMPORTED_MODELS] == 5


@pytest.mark.usefixtures("reset")
def test_one_quota_can_be_read(aws: RunningAws) -> None:
    control(aws, "quotas", **{TRAINING: 7})
    quota = aws.client("service-quotas").get_service_quota(ServiceCode="sagemaker", QuotaCode="L-B6D80D9C")["Quota"]
    assert (quota["QuotaName"], quota["Value"]) == (TRAINING, 7)


def test_the_file_in_the_state_folder_sets_quotas_too(tmp_path: Path) -> None:
    (tmp_path / "quotas.json").write_text(json.dumps({TRAINING: 3}))
    values = Quotas(tmp_path / "quotas.json").values()
    assert (values[TRAINING], values["ml.g5.xlarge for endpoint usage"]) == (3, 1)


def test_reading_quotas_needs_a_grant(aws: RunningAws) -> None:
    session = aws.session(aws.role("quota-without-grants"))
    with pytest.raises(ClientError, match="servicequotas:ListServiceQuotas"):
        aws.client("service-quotas", session).list_service_quotas(ServiceCode="sagemaker")
