"""Amazon Bedrock on this machine: foundation models, customization jobs, custom models, what serves them, and tags.

Operations that are not here (invocation, guardrails, updates, ...) are left to MiniStack. Requests are
checked against botocore's model of Bedrock and answers written by it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core import shapes
from local_aws.core.registry import Request, Response, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.bedrock import jobs, listing, models, serving

if TYPE_CHECKING:
    from collections.abc import Callable
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


class Bedrock:
    """The operations, by name. Each takes the parsed input and answers by the output shape."""

    def __init__(self, endpoint_url: str) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        self.jobs = jobs.Jobs(endpoint_url, self._tags.__setitem__)
        self._serving = serving.Serving(self.jobs, self._tags)
        self._operations: dict[str, Callable[[dict[str, Any], Request], dict[str, Any]]] = {
            "GetFoundationModel": self._get_foundation_model,
            "ListFoundationModels": self._list_foundation_models,
            "CreateModelCustomizationJob": self._create_job,
            "GetModelCustomizationJob": lambda p, r: dict(self._held(r).job(p["jobIdentifier"]).details),
            "ListModelCustomizationJobs": self._list_jobs,
            "StopModelCustomizationJob": self._stop_job,
            "GetCustomModel": lambda p, r: dict(self._held(r).model(p["modelIdentifier"])),
            "ListCustomModels": self._list_custom_models,
            "DeleteCustomModel": self._delete_custom_model,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
            "ListTagsForResource": self._list_tags,
            **self._serving.operations,
        }

    def handle(self, request: Request) -> Response | None:
        """Answer one call, or leave it to MiniStack (None)."""
        found = shapes.match_operation("bedrock", request.method, request.path)
        if found is None or found[0].name not in self._operations:
            return None
        operation, labels = found
        try:
            params = shapes.parse_rest(operation, labels, request.query, request.body)
            shapes.validate(operation, params)
            if not _OWN_ARN.match(params.get("resourceARN", ":custom-model/")):
                return None
            result = self._operations[operation.name](params, request)
        except ServiceError as error:
            headers = {"Content-Type": "application/json", "x-amzn-errortype": error.code}
            return Response(error.status, headers, shapes.error_body(error))
        status = int(operation.http.get("responseCode", 200))
        body = shapes.serialize(operation, result, "rest-json")
        return Response(status, {"Content-Type": "application/json"}, body)

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, for aws:ResourceTag conditions."""
        return self._tags.get(arn, {})

    def _held(self, request: Request) -> jobs.Account:
        return self.jobs.account(request.account, request.region)

    def _get_foundation_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        model = models.find(params["modelIdentifier"], request.region)
        if model is None:
            raise ServiceError(
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the provided model identifier.",
                404,
            )
        return {"modelDetails": model.details(request.region, datetime.now(UTC))}

    def _list_foundation_models(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
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

    def _create_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"jobArn": self.jobs.create(params, request.account, request.region)}

    def _list_jobs(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
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
        return listing.page(rows, params, "modelCustomizationJobSummaries", "jobName")

    def _stop_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._held(request)
        self.jobs.stop(held.job(params["jobIdentifier"]), held)
        return {}

    def _list_custom_models(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
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
        return listing.page(rows, params, "modelSummaries", "modelName")

    def _delete_custom_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._held(request)
        with held.lock:
            arn = held.model(params["modelIdentifier"])["modelArn"]
            users = self._serving.users(arn, request)
            if users:
                raise ServiceError("ConflictException", f"The custom model is in use by {', '.join(users)}.")
            del held.custom_models[arn]
            self._tags.pop(arn, None)
        return {}

    def _taggable(self, arn: str, request: Request) -> dict[str, str]:
        held = self._held(request)
        known = arn in held.custom_models or self._serving.holds(arn, request)
        if not known and all(job.arn != arn for job in held.jobs):
            raise ServiceError("ResourceNotFoundException", f"The provided resource ARN {arn} was not found.", 404)
        return self._tags.setdefault(arn, {})

    def _tag_resource(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._taggable(params["resourceARN"], request)
        tags = held | {tag["key"]: tag["value"] for tag in params["tags"]}
        if len(tags) > _TAG_LIMIT:
            raise ServiceError("TooManyTagsException", "The resource has too many tags.")
        held.update(tags)
        return {}

    def _untag_resource(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._taggable(params["resourceARN"], request)
        for key in params["tagKeys"]:
            held.pop(key, None)
        return {}

    def _list_tags(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        held = self._taggable(params["resourceARN"], request)
        return {"tags": [{"key": key, "value": value} for key, value in held.items()]}


def register(_state_dir: Path, endpoint_url: str) -> None:
    """Answer Bedrock's calls on this server."""
    bedrock = Bedrock(endpoint_url)
    register_service(
        "bedrock", handler=bedrock.handle, paths=_PATHS, signing_names=("bedrock",), model="bedrock", tags=bedrock.tags
    )
