"""Amazon Bedrock on this machine: foundation models, customization jobs, custom models, what serves them, and tags.

Operations that are not here (invocation, guardrails, updates, ...) are left to MiniStack. Requests are
checked against botocore's model of Bedrock and answers written by it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Request, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import BEDROCK
from local_aws.services.bedrock import jobs, models
from local_aws.services.bedrock.serving import Serving, listed

if TYPE_CHECKING:
    from pathlib import Path

_PATHS = (
    r"/foundation-models(/|$)",
    r"/model-customization-jobs(/|$)",
    r"/custom-models(/|$)",
    r"/model-customization/custom-model-deployments(/|$)",
    r"/provisioned-model-throughputs?(/|$)",
    r"/(imported-models|model-import-jobs)(/|$)",
    r"/(tag|untag|listTagsFor)Resources?$",
)
_OWN_ARN = re.compile(
    r".*:(custom-model|model-customization-job|custom-model-deployment|provisioned-model|imported-model|model-import-job)/"
)
_TAG_LIMIT = 200


class BedrockOperations(Serving):
    """The state of Bedrock, and its operations beside those of what serves a model."""

    def __init__(self, endpoint_url: str) -> None:
        tags: dict[str, dict[str, str]] = {}
        super().__init__(jobs.Jobs(endpoint_url, tags.__setitem__), tags)

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, for aws:ResourceTag conditions."""
        return self._tags.get(arn, {})

    def _held(self, request: Request) -> jobs.BedrockAccount:
        return self._jobs.account(request.account, request.region)

    @BEDROCK.operation
    def get_foundation_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        model = models.find(params["modelIdentifier"], request.region)
        if model is None:
            raise ServiceError(
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the provided model identifier.",
                404,
            )
        return {"modelDetails": model.details(request.region, datetime.now(UTC))}

    @BEDROCK.operation
    def list_foundation_models(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        now = datetime.now(UTC)
        listed = [m.details(request.region, now) for m in models.FOUNDATION_MODELS if request.region in m.regions]
        listed = [m for m in listed if params.get("byProvider", m["providerName"]).lower() == m["providerName"].lower()]
        members = {
            "byCustomizationType": "customizationsSupported",
            "byOutputModality": "outputModalities",
            "byInferenceType": "inferenceTypesSupported",
        }
        for name, member in members.items():
            if name in params:
                listed = [model for model in listed if params[name] in model[member]]
        return {"modelSummaries": listed}

    @BEDROCK.operation
    def create_model_customization_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"jobArn": self._jobs.create(params, request.account, request.region)}

    @BEDROCK.operation
    def get_model_customization_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return dict(self._held(request).job(params["jobIdentifier"]).details)

    @BEDROCK.operation
    def get_custom_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return dict(self._held(request).model(params["modelIdentifier"]))

    @BEDROCK.operation
    def list_model_customization_jobs(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        rows = []
        for job in self._held(request).jobs:
            details = job.details
            rows.append(
                {
                    "jobArn": job.arn,
                    "baseModelArn": details["baseModelArn"],
                    "jobName": details["jobName"],
                    "status": details["status"],
                    "statusDetails": details["statusDetails"],
                    "creationTime": details["creationTime"],
                    "lastModifiedTime": details["lastModifiedTime"],
                    "endTime": details.get("endTime"),
                    "customModelArn": details.get("outputModelArn"),
                    "customModelName": details["outputModelName"],
                    "customizationType": details["customizationType"],
                }
            )
        return listed(rows, params, "modelCustomizationJobSummaries", "jobName")

    @BEDROCK.operation
    def stop_model_customization_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._held(request)
        self._jobs.stop(held.job(params["jobIdentifier"]), held)
        return {}

    @BEDROCK.operation
    def list_custom_models(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        rows = []
        for arn, model in self._held(request).custom_models.items():
            base = model["baseModelArn"]
            wanted = (params.get("baseModelArnEquals"), params.get("foundationModelArnEquals"))
            if any(w is not None and w != base for w in wanted) or params.get("modelStatus", "Active") != "Active":
                continue
            rows.append(
                {
                    "modelArn": arn,
                    "modelName": model["modelName"],
                    "creationTime": model["creationTime"],
                    "baseModelArn": base,
                    "baseModelName": base.rsplit("/", 1)[-1],
                    "customizationType": model["customizationType"],
                    "ownerAccountId": request.account,
                    "modelStatus": "Active",
                }
            )
        return listed(rows, params, "modelSummaries", "modelName")

    # Unconfirmed: DeleteCustomModel while a deployment (also one being deleted) or throughput uses the model | Here:
    #   `ConflictException`, wording our own | Source: the operation's errors; the User Guide says it of distilled
    #   models only
    @BEDROCK.operation
    def delete_custom_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._held(request)
        with held.lock:
            arn = held.model(params["modelIdentifier"])["modelArn"]
            users = self.users(arn, request)
            if users:
                raise ServiceError("ConflictException", f"The custom model is in use by {', '.join(users)}.")
            del held.custom_models[arn]
            self._tags.pop(arn, None)
        return {}

    def _taggable(self, arn: str, request: Request) -> dict[str, str] | None:
        """The tags of a resource; None for one of a kind that MiniStack has."""
        if not _OWN_ARN.match(arn):
            return None
        held = self._held(request)
        known = arn in held.custom_models or self.holds(arn, request)
        if not known and all(job.arn != arn for job in held.jobs):
            raise ServiceError("ResourceNotFoundException", f"The provided resource ARN {arn} was not found.", 404)
        return self._tags.setdefault(arn, {})

    @BEDROCK.operation
    def tag_resource(self, params: dict[str, Any], request: Request) -> dict[str, Any] | None:
        held = self._taggable(params["resourceARN"], request)
        if held is None:
            return None
        tags = held | {tag["key"]: tag["value"] for tag in params["tags"]}
        if len(tags) > _TAG_LIMIT:
            raise ServiceError("TooManyTagsException", "The resource has too many tags.")
        held.update(tags)
        return {}

    @BEDROCK.operation
    def untag_resource(self, params: dict[str, Any], request: Request) -> dict[str, Any] | None:
        held = self._taggable(params["resourceARN"], request)
        if held is None:
            return None
        for key in params["tagKeys"]:
            held.pop(key, None)
        return {}

    @BEDROCK.operation
    def list_tags_for_resource(self, params: dict[str, Any], request: Request) -> dict[str, Any] | None:
        held = self._taggable(params["resourceARN"], request)
        if held is None:
            return None
        return {"tags": [{"key": key, "value": value} for key, value in held.items()]}


def register(_state_dir: Path, endpoint_url: str) -> None:
    """Answer Bedrock's calls on this server."""
    bedrock = BedrockOperations(endpoint_url)
    register_service(
        "bedrock",
        handler=lambda request: BEDROCK.handle(bedrock, request),
        paths=_PATHS,
        signing_names=("bedrock",),
        model="bedrock",
        tags=bedrock.tags,
    )
