"""Deployments of custom models and Provisioned Throughput of local Bedrock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.core.registry import Request
from local_aws.core.shapes import ServiceError
from local_aws.services.bedrock import serving
from local_aws.services.bedrock.account import Bedrock
from tests.local_aws.conftest import ACCOUNT, REGION, eventually, failure
from tests.local_aws.services.bedrock.conftest import LLAMA_8B, LLAMA_70B, TAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local_aws.conftest import RunningAws


def test_a_deployment_is_created_blocks_the_deletion_of_its_model_and_is_deleted(
    aws: RunningAws, custom_model: Callable[..., str]
) -> None:
    bedrock, model = aws.client("bedrock"), custom_model()
    params = {"modelDeploymentName": "life", "modelArn": model, "tags": TAGS, "clientRequestToken": "deployment-1"}
    created = bedrock.create_custom_model_deployment(**params)
    arn = created["customModelDeploymentArn"]
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert arn.startswith(f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model-deployment/")
    assert bedrock.create_custom_model_deployment(**params)["customModelDeploymentArn"] == arn
    again = failure(bedrock.create_custom_model_deployment, modelDeploymentName="life", modelArn=model)
    assert again[:2] == ("ValidationException", "The provided custom model deployment name is currently in use.")

    def status() -> str:
        return str(bedrock.get_custom_model_deployment(customModelDeploymentIdentifier="life")["status"])

    delete, identifier = bedrock.delete_custom_model_deployment, {"customModelDeploymentIdentifier": arn}
    mutating = ("ValidationException", "Custom model deployment is in a mutating state", 400)
    assert status() == "Creating"
    assert failure(delete, **identifier) == mutating
    [row] = bedrock.list_custom_model_deployments(statusEquals="Creating", modelArnEquals=model)[
        "modelDeploymentSummaries"
    ]
    assert (row["customModelDeploymentName"], row["modelArn"], row["status"]) == ("life", model, "Creating")
    assert eventually(lambda: status() == "Active")
    assert (
        bedrock.list_custom_model_deployments(statusEquals="Creating", modelArnEquals=model)["modelDeploymentSummaries"]
        == []
    )

    bedrock.tag_resource(resourceARN=arn, tags=[{"key": "more", "value": "m"}])
    tags = [*TAGS, {"key": "more", "value": "m"}]
    assert bedrock.list_tags_for_resource(resourceARN=arn)["tags"] == tags
    used = failure(bedrock.delete_custom_model, modelIdentifier=model)
    assert (used[0], arn in used[1], used[2]) == ("ConflictException", True, 400)

    delete(**identifier)
    assert status() == "Deleting"
    assert failure(delete, **identifier) == mutating
    assert failure(bedrock.delete_custom_model, modelIdentifier=model)[0] == "ConflictException"

    def is_deleted() -> bool:
        pages = bedrock.get_paginator("list_custom_model_deployments").paginate(modelArnEquals=model)
        return not [d for page in pages for d in page["modelDeploymentSummaries"]]

    assert eventually(is_deleted)
    assert failure(delete, **identifier)[::2] == ("ResourceNotFoundException", 404)
    assert failure(bedrock.list_tags_for_resource, resourceARN=arn)[0] == "ResourceNotFoundException"
    bedrock.delete_custom_model(modelIdentifier=model)


def test_deployments_are_listed_by_model_and_name_in_pages(aws: RunningAws, custom_model: Callable[..., str]) -> None:
    bedrock, one, other = aws.client("bedrock"), custom_model(), custom_model()
    for name, model in (("list-a", one), ("list-b", one), ("list-c", other)):
        bedrock.create_custom_model_deployment(modelDeploymentName=name, modelArn=model)

    def names(**params: Any) -> list[list[str]]:
        pages = bedrock.get_paginator("list_custom_model_deployments").paginate(sortOrder="Ascending", **params)
        return [[d["customModelDeploymentName"] for d in page["modelDeploymentSummaries"]] for page in pages]

    assert names(nameContains="list-") == [["list-a", "list-b", "list-c"]]
    assert names(nameContains="list-", maxResults=2) == [["list-a", "list-b"], ["list-c"]]
    assert names(modelArnEquals=one) == [["list-a", "list-b"]]
    assert names(nameContains="b", modelArnEquals=one) == [["list-b"]]
    assert names(nameContains="list-", createdBefore=datetime.now(UTC) - timedelta(hours=1)) == [[]]


def test_a_model_that_is_missing_or_has_no_on_demand_deployment_is_refused(
    aws: RunningAws, custom_model: Callable[..., str]
) -> None:
    create, model = aws.client("bedrock").create_custom_model_deployment, custom_model(LLAMA_8B)
    assert failure(create, modelDeploymentName="eight", modelArn=model)[0] == "ValidationException"
    missing = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/{LLAMA_70B}/{'0' * 12}"
    assert failure(create, modelDeploymentName="missing", modelArn=missing)[::2] == ("ResourceNotFoundException", 404)


def test_throughput_is_there_until_its_deletion_and_a_committed_one_cannot_be_deleted(
    aws: RunningAws, custom_model: Callable[..., str]
) -> None:
    bedrock, model = aws.client("bedrock"), custom_model(LLAMA_8B)
    created = bedrock.create_provisioned_model_throughput(
        provisionedModelName="hourly", modelId=model, modelUnits=1, tags=TAGS
    )
    arn = created["provisionedModelArn"]
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    committed = bedrock.create_provisioned_model_throughput(
        provisionedModelName="committed", modelId=model, modelUnits=2, commitmentDuration="OneMonth"
    )["provisionedModelArn"]
    delete = bedrock.delete_provisioned_model_throughput
    assert failure(delete, provisionedModelId=arn)[::2] == ("ConflictException", 400)

    def get(identifier: str) -> dict[str, Any]:
        return dict(bedrock.get_provisioned_model_throughput(provisionedModelId=identifier))

    assert get("hourly")["status"] == "Creating"
    assert eventually(lambda: get(committed)["status"] == "InService" == get(arn)["status"])
    assert (get(arn)["modelArn"], get(arn)["foundationModelArn"]) == (
        model,
        f"arn:aws:bedrock:{REGION}::foundation-model/{LLAMA_8B}",
    )
    assert "commitmentExpirationTime" not in get(arn)
    assert get(committed)["commitmentExpirationTime"] > datetime.now(UTC) + timedelta(days=27)
    listed = bedrock.list_provisioned_model_throughputs(modelArnEquals=model, sortOrder="Ascending")
    assert [t["provisionedModelName"] for t in listed["provisionedModelSummaries"]] == ["hourly", "committed"]
    assert bedrock.list_tags_for_resource(resourceARN=arn)["tags"] == TAGS
    assert failure(bedrock.delete_custom_model, modelIdentifier=model)[0] == "ConflictException"
    assert failure(delete, provisionedModelId=committed) == (
        "ConflictException",
        "You can't delete a Provisioned Throughput before the commitment term is over.",
        400,
    )
    delete(provisionedModelId=arn)
    assert failure(bedrock.get_provisioned_model_throughput, provisionedModelId=arn)[0] == "ResourceNotFoundException"
    listed = bedrock.list_provisioned_model_throughputs(modelArnEquals=model)
    assert [t["provisionedModelName"] for t in listed["provisionedModelSummaries"]] == ["committed"]


def test_a_throughput_can_be_deleted_when_its_commitment_is_over() -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    request = Request("POST", "/", {}, {}, b"", ACCOUNT, REGION, "arn:aws:iam::0:root")
    bedrock = Bedrock("", clock=lambda: clock[0])
    params = {"provisionedModelName": "p", "modelId": LLAMA_70B, "modelUnits": 1, "commitmentDuration": "SixMonths"}
    arn = serving.create_provisioned_model_throughput(bedrock, params, request)["provisionedModelArn"]
    delete = serving.delete_provisioned_model_throughput
    clock[0] += timedelta(days=179)
    with pytest.raises(ServiceError, match="before the commitment term is over"):
        delete(bedrock, {"provisionedModelId": arn}, request)
    clock[0] += timedelta(days=1)
    delete(bedrock, {"provisionedModelId": arn}, request)
    assert bedrock.account(request).resources == {}
    assert bedrock.tags == {}


def test_a_role_may_delete_only_the_resources_with_the_tag_of_its_policy(
    aws: RunningAws, custom_model: Callable[..., str]
) -> None:
    bedrock, model = aws.client("bedrock"), custom_model()
    arns = {}
    for stack in ("tune", "other"):
        tags = [{"key": "stack", "value": stack}]
        deployment = bedrock.create_custom_model_deployment(
            modelDeploymentName=f"tagged-{stack}", modelArn=model, tags=tags
        )
        throughput = bedrock.create_provisioned_model_throughput(
            provisionedModelName=f"tagged-{stack}", modelId=model, modelUnits=1, tags=tags
        )
        arns[stack] = (deployment["customModelDeploymentArn"], throughput["provisionedModelArn"])
    condition = {"StringEquals": {"aws:ResourceTag/stack": "tune"}}
    root = f"arn:aws:bedrock:{REGION}:{ACCOUNT}"
    kinds = {
        "CustomModelDeployment": "custom-model-deployment",
        "ProvisionedModelThroughput": "provisioned-model",
    }
    caller = aws.role(
        "deletes-tagged",
        *(
            {
                "Effect": "Allow",
                "Action": f"bedrock:Delete{noun}",
                "Resource": f"{root}:{kind}/*",
                "Condition": condition,
            }
            for noun, kind in kinds.items()
        ),
    )
    client = aws.client("bedrock", aws.session(caller))

    def delete(stack: str) -> None:
        deployment, throughput = arns[stack]
        client.delete_custom_model_deployment(customModelDeploymentIdentifier=deployment)
        client.delete_provisioned_model_throughput(provisionedModelId=throughput)

    assert eventually(
        lambda: (
            bedrock.get_provisioned_model_throughput(provisionedModelId=arns["other"][1])["status"] == "InService"
            and bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=arns["other"][0])["status"]
            == "Active"
        )
    )
    delete("tune")
    assert aws.decisions(action="bedrock:DeleteCustomModelDeployment", resource=arns["tune"][0], allowed=True)
    deployment, throughput = arns["other"]
    denied = failure(client.delete_custom_model_deployment, customModelDeploymentIdentifier=deployment)
    assert denied[::2] == ("AccessDeniedException", 403)
    denied = failure(client.delete_provisioned_model_throughput, provisionedModelId=throughput)
    assert denied[::2] == ("AccessDeniedException", 403)
    assert bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "InService"
