"""Deployments and Provisioned Throughput of custom models.

A deployment answers as runtime.py says. A throughput serves nothing: it exists so that a teardown finds it.

Sources: Bedrock API Reference; "Deploy a custom model for on-demand inference" in the User Guide (Regions and base models);
"Delete a custom model deployment" in the Nova User Guide (status Deleting, which the service model does not list);
"Delete a Provisioned Throughput" (at once; never before the end of a commitment); "Delete a custom model" (its throughput
and deployments first); cloud-custodian's tests/terraform/bedrock_deployable_custom_model (the refusal to delete a
deployment that is Creating, and that Llama 3.1 8B cannot be deployed on demand). PARITY.md lists the beliefs that nobody
could confirm.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local_aws.core import faults
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import BEDROCK
from local_aws.services.bedrock import models
from local_aws.services.bedrock.account import (
    Bedrock,
    Resource,
    ResourceKind,
    Update,
    listed,
    new_id,
    not_found,
)

if TYPE_CHECKING:
    from local_aws.core.registry import Request

DEPLOYMENT = ResourceKind(
    "custom-model-deployment",
    "custom model deployment",
    "Active",
    "customModelDeploymentArn",
    ("modelDeploymentName", "customModelDeploymentName"),
    ("createdAt", "lastUpdatedAt"),
)
THROUGHPUT = ResourceKind(
    "provisioned-model", "provisioned model", "InService", "provisionedModelArn", ("provisionedModelName",)
)
_UNEXPECTED = "Encountered an unexpected error when processing the request, please try again"
_MUTATING = "Custom model deployment is in a mutating state"
_TERMS = {"OneMonth": timedelta(days=30), "SixMonths": timedelta(days=180)}


def users(bedrock: Bedrock, model_arn: str, request: Request) -> list[str]:
    """Return the ARNs of the resources that use a custom model, also during their deletion."""
    moment = bedrock.clock()
    return [r.arn for r in bedrock.account(request).resources.values() if r.uses(model_arn, moment)]


# Unconfirmed: A used name of a deployment or throughput | Here: `ValidationException`, worded like that of a customization
#   job | Source: the create operations have no ConflictException
def _create(
    bedrock: Bedrock, request: Request, kind: ResourceKind, name: str, params: dict[str, Any], details: dict[str, Any]
) -> str:
    """Add a resource, or find the one of the same clientRequestToken. Return its ARN."""
    account, token = bedrock.account(request), params.get("clientRequestToken")
    with account.lock:
        same = [resource for resource in account.resources.values() if resource.kind is kind]
        for resource in same:
            if token and resource.token == token:
                return resource.arn
        if any(resource.name == name for resource in same):
            raise ServiceError("ValidationException", f"The provided {kind.words} name is currently in use.")
        arn = f"arn:aws:bedrock:{request.region}:{request.account}:{kind.type}/{new_id()}"
        fault = faults.take("deployment", "fail", "slow").how if kind is DEPLOYMENT else ""
        made = bedrock.after_change(faults.SLOW_SECONDS if fault == "slow" else 0)
        failure = _UNEXPECTED if fault == "fail" else ""
        account.resources[arn] = Resource(kind, arn, name, token, bedrock.clock(), made, details, failure)
        bedrock.tag(arn, params.get("tags"))
    return arn


def _find(bedrock: Bedrock, request: Request, kind: ResourceKind, identifier: str) -> Resource:
    for resource in bedrock.account(request).resources.values():
        if resource.kind is kind and identifier in (resource.arn, resource.name, resource.arn.rsplit("/", 1)[-1]):
            return resource
    raise not_found(kind.words)


def _listed(bedrock: Bedrock, params: dict[str, Any], request: Request, kind: ResourceKind, key: str) -> dict[str, Any]:
    found = [resource for resource in bedrock.account(request).resources.values() if resource.kind is kind]
    rows = [resource.describe(bedrock.clock()) for resource in found]
    rows = [row for row in rows if params.get("modelArnEquals", row["modelArn"]) == row["modelArn"]]
    return listed(rows, params, key, kind.names[-1], kind.times[0])


# Unconfirmed: On-demand deployment of a model that only has Provisioned Throughput (Llama 3.1 8B) | Here:
#   `ValidationException`, wording our own | Source: that fixture and the User Guide say that it cannot be deployed
def _deployable(bedrock: Bedrock, arn: str, request: Request) -> dict[str, Any]:
    """Return a custom model that can be deployed. Its base model is only in a Region that has deployments."""
    model = bedrock.account(request).model(arn)
    base = models.find(model["baseModelArn"], request.region)
    if base is None or not base.on_demand:
        raise ServiceError("ValidationException", "The provided model does not support on-demand deployment.")
    return model


@BEDROCK.operation
def create_custom_model_deployment(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    model = _deployable(bedrock, params["modelArn"], request)
    details = {"modelArn": model["modelArn"], "description": params.get("description")}
    arn = _create(bedrock, request, DEPLOYMENT, params["modelDeploymentName"], params, details)
    bedrock.prepare_deployments()
    return {"customModelDeploymentArn": arn}


# Unconfirmed: Updating a deployment that is Creating, Updating or Deleting, or that Failed | Here: `ValidationException`,
#   "Custom model deployment is in a mutating state"; of a failed one, wording our own | Source: as of deleting one; the
#   operation has no ConflictException
# Unconfirmed: A deployment while it is updated | Here: Active, and `modelArn` is the old model's until `UpdateCompleted`;
#   after `UpdateFailed` it stays so, without a `failureMessage` | Source: API Reference of GetCustomModelDeployment:
#   `failureMessage` is for the status Failed, and `updateDetails` is a member beside the status
@BEDROCK.operation
def update_custom_model_deployment(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account = bedrock.account(request)
    with account.lock:
        deployment = _find(bedrock, request, DEPLOYMENT, params["customModelDeploymentIdentifier"])
        model, moment = _deployable(bedrock, params["modelArn"], request), bedrock.clock()
        if deployment.changes(moment):
            raise ServiceError("ValidationException", _MUTATING)
        if deployment.status(moment) == "Failed":
            raise ServiceError("ValidationException", "Custom model deployment is in the Failed status.")
        fault = faults.take("deployment", "update-failed", "slow").how
        ends = bedrock.after_change(faults.SLOW_SECONDS if fault == "slow" else 0)
        deployment.details["modelArn"] = deployment.model_arn(moment)
        deployment.update = Update(model["modelArn"], ends, fault == "update-failed")
    return {"customModelDeploymentArn": deployment.arn}


@BEDROCK.operation
def get_custom_model_deployment(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    deployment = _find(bedrock, request, DEPLOYMENT, params["customModelDeploymentIdentifier"])
    return deployment.describe(bedrock.clock())


@BEDROCK.operation
def list_custom_model_deployments(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return _listed(bedrock, params, request, DEPLOYMENT, "modelDeploymentSummaries")


# Unconfirmed: Deleting a deployment that is Creating, Updating or Deleting | Here: `ValidationException`, "Custom model
#   deployment is in a mutating state" | Source: cloud-custodian's bedrock_deployable_custom_model fixture, seen while
#   Creating; the API Reference also lists ConflictException
@BEDROCK.operation
def delete_custom_model_deployment(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with bedrock.account(request).lock:
        deployment = _find(bedrock, request, DEPLOYMENT, params["customModelDeploymentIdentifier"])
        if deployment.changes(bedrock.clock()):
            raise ServiceError("ValidationException", _MUTATING)
        deployment.gone = bedrock.after_change()
    bedrock.prepare_deployments()
    return {}


# Unconfirmed: Model units of a new account | Here: as many as asked for | Source: AWS's quotas differ by account and are
#   often 0
@BEDROCK.operation
def create_provisioned_model_throughput(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    base = models.find(params["modelId"], request.region)
    if base is not None:
        model_arn = base_arn = base.arn(request.region)
    else:
        model = bedrock.account(request).model(params["modelId"])
        model_arn, base_arn = model["modelArn"], model["baseModelArn"]
    term = params.get("commitmentDuration")
    details = {
        **dict.fromkeys(("modelUnits", "desiredModelUnits"), params["modelUnits"]),
        **dict.fromkeys(("modelArn", "desiredModelArn"), model_arn),
        "foundationModelArn": base_arn,
        "commitmentDuration": term,
        "commitmentExpirationTime": bedrock.clock() + _TERMS[term] if term else None,
    }
    arn = _create(bedrock, request, THROUGHPUT, params["provisionedModelName"], params, details)
    return {"provisionedModelArn": arn}


@BEDROCK.operation
def get_provisioned_model_throughput(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return _find(bedrock, request, THROUGHPUT, params["provisionedModelId"]).describe(bedrock.clock())


@BEDROCK.operation
def list_provisioned_model_throughputs(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return _listed(bedrock, params, request, THROUGHPUT, "provisionedModelSummaries")


# Unconfirmed: Deleting Provisioned Throughput that is Creating, or before its term is over | Here: `ConflictException`,
#   wording our own (30 and 180 days per term) | Source: the operation's errors; "You can't delete ... before the
#   commitment term is over" names no code
@BEDROCK.operation
def delete_provisioned_model_throughput(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account = bedrock.account(request)
    with account.lock:
        throughput = _find(bedrock, request, THROUGHPUT, params["provisionedModelId"])
        until = throughput.details["commitmentExpirationTime"]
        if throughput.status(bedrock.clock()) != THROUGHPUT.ready:
            raise ServiceError("ConflictException", "The provisioned model is in the Creating status.")
        if until is not None and bedrock.clock() < until:
            text = "You can't delete a Provisioned Throughput before the commitment term is over."
            raise ServiceError("ConflictException", text)
        bedrock.forget(account, throughput)
    return {}
