"""Amazon Bedrock on this machine: customization and import jobs, custom and imported models, deployments, inference, tags.

MiniStack answers the other operations (guardrails, ...). Botocore's models of Bedrock check requests and shape answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Registered, Request, Response, register_control, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import BEDROCK, BEDROCK_RUNTIME
from local_aws.services.bedrock import imports, jobs, models, runtime, serving
from local_aws.services.bedrock.account import Bedrock, listed, not_found, now

if TYPE_CHECKING:
    from pathlib import Path

_PATHS = (
    r"/(foundation-models|model-customization-jobs|custom-models|model-customization/custom-model-deployments"
    r"|provisioned-model-throughputs?|imported-models|model-import-jobs)(/|$)|/(tag|untag|listTagsFor)Resources?$"
)
_OWN_ARN = re.compile(
    r".*:(custom-model|model-customization-job|custom-model-deployment|provisioned-model|imported-model|model-import-job)/"
)
_TAG_LIMIT = 200
OPERATIONS = (imports, jobs, runtime, serving)
"""The modules with the other operations."""


@BEDROCK.operation
def get_foundation_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    model = models.find(params["modelIdentifier"], request.region, bedrock.controls.legacy_model)
    if model is None:
        text = "Could not resolve the foundation model from the provided model identifier."
        raise ServiceError("ResourceNotFoundException", text, 404)
    return {"modelDetails": model.details(request.region, now())}


@BEDROCK.operation
def get_custom_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return bedrock.account(request).model(params["modelIdentifier"])


@BEDROCK.operation
def list_custom_models(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    rows = []
    for model in bedrock.account(request).custom_models.values():
        base = model["baseModelArn"]
        wanted = {params.get("baseModelArnEquals", base), params.get("foundationModelArnEquals", base)}
        if wanted == {base} and params.get("modelStatus", "Active") == "Active":
            rows.append({**model, "baseModelName": base.rsplit("/", 1)[-1], "ownerAccountId": request.account})
    return listed(rows, params, "modelSummaries", "modelName", "creationTime")


# Unconfirmed: DeleteCustomModel while a deployment (also one being deleted) or throughput uses the model | Here:
#   `ConflictException`, wording our own | Source: the operation's errors; the User Guide says it of distilled
#   models only
@BEDROCK.operation
def delete_custom_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any]:
    account = bedrock.account(request)
    with account.lock:
        arn = account.model(params["modelIdentifier"])["modelArn"]
        if users := serving.users(bedrock, arn, request):
            raise ServiceError("ConflictException", f"The custom model is in use by {', '.join(users)}.")
        del account.custom_models[arn]
        bedrock.tags.pop(arn, None)
    return {}


def _tags(bedrock: Bedrock, arn: str, request: Request) -> dict[str, str] | None:
    """Return the tags of a resource, None for a resource of MiniStack."""
    if not _OWN_ARN.match(arn):
        return None
    if arn not in bedrock.account(request).arns():
        raise not_found(f"resource ARN {arn}")
    return bedrock.tags.setdefault(arn, {})


@BEDROCK.operation
def tag_resource(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any] | None:
    current = _tags(bedrock, params["resourceARN"], request)
    if current is None:
        return None
    tags = current | {tag["key"]: tag["value"] for tag in params["tags"]}
    if len(tags) > _TAG_LIMIT:
        raise ServiceError("TooManyTagsException", "The resource has too many tags.")
    current.update(tags)
    return {}


@BEDROCK.operation
def list_tags_for_resource(bedrock: Bedrock, params: dict[str, Any], request: Request) -> dict[str, Any] | None:
    tags = _tags(bedrock, params["resourceARN"], request)
    return None if tags is None else {"tags": [{"key": key, "value": value} for key, value in tags.items()]}


def control(bedrock: Bedrock, request: Request) -> Response:
    """Answer /_tuneway/bedrock: POST sets settings by name. Both methods return them, and the state of each copy."""
    if request.method == "POST":
        try:
            bedrock.controls.change(json.loads(request.body))
        except (ValueError, AttributeError) as error:
            return Response(400, {"Content-Type": "text/plain"}, f"{error}\n".encode())
    shown = asdict(bedrock.controls) | {"copies": bedrock.copies.states()}
    return Response(200, {"Content-Type": "application/json"}, json.dumps(shown).encode())


def register(state_dir: Path, endpoint_url: str) -> None:
    """Answer Bedrock's and Bedrock Runtime's calls on this server."""
    bedrock = Bedrock(endpoint_url, state_dir=state_dir.resolve())
    register_service(
        Registered(
            "bedrock",
            lambda request: BEDROCK.handle(bedrock, request),
            paths=_PATHS,
            signing_name="bedrock",
            model="bedrock",
            tags=lambda arn: bedrock.tags.get(arn, {}),
        )
    )
    register_service(
        Registered(
            "bedrock-runtime",
            partial(BEDROCK_RUNTIME.handle, bedrock),
            paths="/model/",
            signing_name="bedrock",
            namespace="bedrock",
        )
    )
    register_control("bedrock", partial(control, bedrock))
