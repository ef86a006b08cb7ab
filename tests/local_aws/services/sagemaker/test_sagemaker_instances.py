"""The instance types of a request: their order and counts, and the lists that the service model's rules refuse."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.core.authorization import service_model
from local_aws.core.shapes import ServiceError, validate
from local_aws.services.sagemaker.instances import pools, preferences

G5, G6 = {"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlarge"}


def job(**resources: Any) -> dict[str, Any]:
    return {"ResourceConfig": {"VolumeSizeInGB": 30, **resources}}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (job(**G5, InstanceCount=2), [("ml.g5.xlarge", 2)]),
        (job(InstancePreferences=[G6, G5], InstanceCount=1), [("ml.g6.xlarge", 1), ("ml.g5.xlarge", 1)]),
        (
            job(InstancePreferences=[{**G6, "InstanceCount": 1}, {**G5, "InstanceCount": 2}]),
            [("ml.g6.xlarge", 1), ("ml.g5.xlarge", 2)],
        ),
    ],
)
def test_instance_types_are_in_the_order_of_the_request_with_their_counts(
    request_: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    assert [(one.type, one.count) for one in preferences(request_)] == expected


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (job(InstanceCount=1), "local AWS trains on up to 4 instances"),
        (job(**G5), "local AWS trains on up to 4 instances"),
        (job(**G5, InstanceCount=5), "local AWS trains on up to 4 instances"),
        (job(InstancePreferences=[G5, {**G6}], InstanceCount=5), "local AWS trains on up to 4 instances"),
        (job(**G5, InstanceCount=1, SelectedInstanceType="ml.g5.xlarge"), "SelectedInstanceType is read-only"),
        (job(InstancePreferences=[G6], **G5, InstanceCount=1), "InstancePreferences and InstanceType are mutually"),
        (job(InstancePreferences=[G6], InstanceGroups=[], InstanceCount=1), "and InstanceGroups are mutually"),
        (
            job(InstancePreferences=[G6], InstanceCount=1) | {"EnableManagedSpotTraining": True},
            "and EnableManagedSpotTraining are mutually exclusive",
        ),
        (job(InstancePreferences=[G6, G5, G6], InstanceCount=1), "can appear only once"),
        (job(InstancePreferences=[G6, G5]), "InstanceCount must be set on every one"),
        (job(InstancePreferences=[{**G6, "InstanceCount": 1}, G5]), "InstanceCount must be set on every one"),
        (job(InstancePreferences=[{**G6, "InstanceCount": 1}], InstanceCount=1), "InstanceCount must be set on every"),
        (job(InstancePreferences=[{**G6, "TrainingPlanArns": ["a"]}], InstanceCount=1), "no training plans"),
    ],
)
def test_members_that_exclude_a_list_of_types_are_refused(request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServiceError, match=reason) as refused:
        preferences(request_)
    assert refused.value.code == "ValidationException"


def variant(**members: Any) -> dict[str, Any]:
    return {"VariantName": "AllTraffic", "ModelName": "m", "InitialInstanceCount": 1, **members}


def test_pools_are_in_the_order_of_their_priorities() -> None:
    assert pools(variant(**G5)) == ["ml.g5.xlarge"]
    assert pools(variant(InstancePools=[{**G5, "Priority": 3}, {**G6, "Priority": 1}])) == [
        "ml.g6.xlarge",
        "ml.g5.xlarge",
    ]
    assert pools(variant()) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"InstancePools": [{**G5, "Priority": 1}], **G5}, "InstanceType and InstancePools of .* mutually exclusive"),
        ({"InstancePools": [{**G5, "Priority": 1, "ModelNameOverride": "x"}]}, "leave ModelNameOverride out"),
    ],
)
def test_members_that_exclude_pools_are_refused(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServiceError, match=reason):
        pools(variant(**members))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"InstancePools": [{**G5, "Priority": 6}]}, "less than or equal to 5"),
        ({"InstancePools": [{**G5, "Priority": 0}]}, "greater than or equal to 1"),
        ({"InstancePools": [{**G5, "Priority": 1}] * 6}, "less than or equal to 5"),
        ({"InstancePools": []}, "greater than or equal to 1"),
        ({**G5, "VariantInstanceProvisionTimeoutInSeconds": 299}, "greater than or equal to 300"),
        ({**G5, "VariantInstanceProvisionTimeoutInSeconds": 3601}, "less than or equal to 3600"),
    ],
)
def test_the_limits_of_the_service_model_are_checked(members: dict[str, Any], reason: str) -> None:
    params = {"EndpointConfigName": "c", "ProductionVariants": [variant(**members)]}
    with pytest.raises(ServiceError, match=reason):
        validate(service_model("sagemaker").operation_model("CreateEndpointConfig"), params)
