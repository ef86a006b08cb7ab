"""What custom models are served with, and imported models: deployments, Provisioned Throughput, import jobs.

Nothing serves here, and nothing is read to import: a teardown meets what would be left in an account. Statuses follow the
clock, so nothing runs in the background.

Sources: Bedrock API Reference; "Delete a custom model deployment" in the Nova User Guide (status Deleting, which the
service model does not list); "Delete a Provisioned Throughput" (at once; never before the end of a commitment); "Delete a
custom model" (its throughput and deployments first); cloud-custodian's tests/terraform/bedrock_deployable_custom_model
(the refusal to delete a deployment that is Creating, and that Llama 3.1 8B cannot be deployed on demand).
PARITY.md lists what nobody could confirm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import BEDROCK
from local_aws.services.bedrock import jobs, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from local_aws.core.registry import Request

CHANGE = timedelta(seconds=2)
"""How long a resource is being created, and a deployment deleted."""
DEPLOYMENT, THROUGHPUT, IMPORTED, IMPORT_JOB = (
    "custom-model-deployment",
    "provisioned-model",
    "imported-model",
    "model-import-job",
)
_STATUSES = {
    DEPLOYMENT: ("Creating", "Active"),
    THROUGHPUT: ("Creating", "InService"),
    IMPORTED: ("Creating", "Active"),  # Never told: a model is listed once its job is Completed.
    IMPORT_JOB: ("InProgress", "Completed"),
}
_WORDS = {
    DEPLOYMENT: "custom model deployment",
    THROUGHPUT: "provisioned model",
    IMPORTED: "imported model",
    IMPORT_JOB: "model import job",
}
_ON_DEMAND = ("amazon.nova-micro-v1:0:128k", "meta.llama3-3-70b-instruct-v1:0:128k")
_TERMS = {"OneMonth": timedelta(days=30), "SixMonths": timedelta(days=180)}


@dataclass
class Resource:
    """One resource. `details` is what its Get operation answers beside the status."""

    kind: str
    arn: str
    name: str
    details: dict[str, Any]
    token: str | None
    created: datetime
    deleted: datetime | None = None

    # Unconfirmed: Status of a deployment being deleted | Here: `Deleting` in Get and List, refused as `statusEquals` |
    #   Source: the Nova User Guide; the service model only knows Creating, Active and Failed
    def status(self, now: datetime) -> str:
        """The status at a time."""
        if self.deleted is not None:
            return "Deleting"
        return _STATUSES[self.kind][now >= self.created + CHANGE]


def listed(
    rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, created: str = "creationTime"
) -> dict[str, Any]:
    """The output of a list operation; `name` is the member of a summary that nameContains looks at."""
    return page(rows, params, key, name=name, status="status", created=created, size=1000)


class Serving:
    """The operations. Each takes the parsed input and the request, answers by the output shape, or raises ServiceError.

    Args:
        custom_models: holds the custom models, and the lock for all of an account.
        tags: the tags of all resources by ARN.
        clock: what time it is.
    """

    def __init__(
        self,
        custom_models: jobs.Jobs,
        tags: dict[str, dict[str, str]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._jobs, self._tags, self._clock = custom_models, tags, clock
        self._resources: dict[tuple[str, str], dict[str, Resource]] = {}

    def holds(self, arn: str, request: Request) -> bool:
        """Whether the account has this resource."""
        return arn in self._live(request)

    def users(self, model_arn: str, request: Request) -> list[str]:
        """The ARNs of what uses a custom model, those being deleted included."""
        return [r.arn for r in self._live(request).values() if r.details.get("modelArn") == model_arn]

    def _live(self, request: Request) -> dict[str, Resource]:
        """What there is, by ARN, after what is deleted by now was forgotten."""
        with self._jobs.account(request.account, request.region).lock:
            held, now = self._resources.setdefault((request.account, request.region), {}), self._clock()
            for resource in [r for r in held.values() if r.deleted is not None and now >= r.deleted + CHANGE]:
                self._forget(request, resource)
            return {arn: r for arn, r in held.items() if r.kind != IMPORTED or r.status(now) != _STATUSES[IMPORTED][0]}

    def _forget(self, request: Request, resource: Resource) -> None:
        del self._resources[request.account, request.region][resource.arn]
        self._tags.pop(resource.arn, None)

    def _find(self, request: Request, kind: str, identifier: str) -> Resource:
        for resource in self._live(request).values():
            if resource.kind == kind and identifier in (resource.arn, resource.name, resource.arn.rsplit("/", 1)[-1]):
                return resource
        raise ServiceError("ResourceNotFoundException", f"The provided {_WORDS[kind]} was not found.", 404)

    @BEDROCK.operation
    def get_custom_model_deployment(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        resource = self._find(request, DEPLOYMENT, params["customModelDeploymentIdentifier"])
        return self._row(resource, resource.details)

    @BEDROCK.operation
    def get_provisioned_model_throughput(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        resource = self._find(request, THROUGHPUT, params["provisionedModelId"])
        return self._row(resource, resource.details)

    @BEDROCK.operation
    def get_model_import_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        resource = self._find(request, IMPORT_JOB, params["jobIdentifier"])
        return self._row(resource, resource.details)

    @BEDROCK.operation
    def get_imported_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        return dict(self._find(request, IMPORTED, params["modelIdentifier"]).details)

    def _row(self, resource: Resource, members: Iterable[str]) -> dict[str, Any]:
        now = self._clock()
        row = {name: resource.details[name] for name in members if name in resource.details}
        if resource.kind == IMPORT_JOB and resource.status(now) == "Completed":
            done = resource.created + CHANGE
            row |= {"importedModelArn": resource.details["importedModelArn"], "endTime": done, "lastModifiedTime": done}
        elif resource.kind == IMPORT_JOB:
            row.pop("importedModelArn", None)
        return row | {"status": resource.status(now)}

    def _rows(self, request: Request, kind: str, members: Iterable[str] = ()) -> list[dict[str, Any]]:
        found = [resource for resource in self._live(request).values() if resource.kind == kind]
        return [self._row(resource, members or resource.details) for resource in found]

    # Unconfirmed: A used name of a deployment, throughput or import job | Here: `ValidationException`, worded like that
    #   of a customization job | Source: the create operations of the first two have no ConflictException
    def _create(
        self,
        request: Request,
        kind: str,
        name: str,
        params: dict[str, Any],
        details: Callable[[str, datetime], dict[str, Any]],
        tags: list[dict[str, str]] | None,
    ) -> Resource:
        """Add a resource, or answer the one of the same clientRequestToken; `details` is given its ARN and the time."""
        token = params.get("clientRequestToken")
        with self._jobs.account(request.account, request.region).lock:
            self._live(request)  # Forgets what is deleted by now.
            held = self._resources[request.account, request.region]
            same = [resource for resource in held.values() if resource.kind == kind]
            for resource in same:
                if token and resource.token == token:
                    return resource
            if any(resource.name == name for resource in same):
                raise ServiceError("ValidationException", f"The provided {_WORDS[kind]} name is currently in use.")
            arn, now = f"arn:aws:bedrock:{request.region}:{request.account}:{kind}/{jobs.new_id()}", self._clock()
            resource = Resource(kind, arn, name, details(arn, now), token, now)
            held[arn] = resource
            self._tags[arn] = {tag["key"]: tag["value"] for tag in tags or []}
        return resource

    def _custom_model(self, request: Request, identifier: str) -> Mapping[str, Any]:
        return self._jobs.account(request.account, request.region).model(identifier)

    # Unconfirmed: On-demand deployment of a model that only has Provisioned Throughput (Llama 3.1 8B) | Here:
    #   `ValidationException`, wording our own | Source: that fixture and the User Guide say that it cannot be deployed
    @BEDROCK.operation
    def create_custom_model_deployment(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        def details(arn: str, now: datetime) -> dict[str, Any]:
            model = self._custom_model(request, params["modelArn"])
            if model["baseModelArn"].rsplit("/", 1)[-1] not in _ON_DEMAND:
                raise ServiceError("ValidationException", "The provided model does not support on-demand deployment.")
            return {
                "customModelDeploymentArn": arn,
                "modelDeploymentName": params["modelDeploymentName"],
                "modelArn": model["modelArn"],
                "createdAt": now,
                "lastUpdatedAt": now,
                "description": params.get("description"),
            }

        name = params["modelDeploymentName"]
        made = self._create(request, DEPLOYMENT, name, params, details, params.get("tags"))
        return {"customModelDeploymentArn": made.arn}

    @BEDROCK.operation
    def list_custom_model_deployments(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        rows = self._rows(request, DEPLOYMENT)
        for row in rows:
            row.pop("description")
            row["customModelDeploymentName"] = row.pop("modelDeploymentName")
        rows = [row for row in rows if params.get("modelArnEquals", row["modelArn"]) == row["modelArn"]]
        return listed(rows, params, "modelDeploymentSummaries", "customModelDeploymentName", created="createdAt")

    # Unconfirmed: Deleting a deployment that is Creating or Deleting | Here: `ValidationException`, "Custom model
    #   deployment is in a mutating state" | Source: cloud-custodian's bedrock_deployable_custom_model fixture, seen
    #   while Creating; the API Reference also lists ConflictException
    @BEDROCK.operation
    def delete_custom_model_deployment(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        with self._jobs.account(request.account, request.region).lock:
            deployment = self._find(request, DEPLOYMENT, params["customModelDeploymentIdentifier"])
            if deployment.status(self._clock()) != "Active":
                # Seen on AWS as ValidationException, although the operation's errors list ConflictException too.
                raise ServiceError("ValidationException", "Custom model deployment is in a mutating state")
            deployment.deleted = self._clock()
        return {}

    # Unconfirmed: Model units of a new account | Here: as many as asked for | Source: AWS's quotas differ by account
    #   and are often 0
    @BEDROCK.operation
    def create_provisioned_model_throughput(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        def details(arn: str, now: datetime) -> dict[str, Any]:
            base = models.find(params["modelId"], request.region)
            if base is not None:
                model_arn = base_arn = base.arn(request.region)
            else:
                model = self._custom_model(request, params["modelId"])
                model_arn, base_arn = model["modelArn"], model["baseModelArn"]
            term = params.get("commitmentDuration")
            return {
                "provisionedModelArn": arn,
                "provisionedModelName": params["provisionedModelName"],
                "modelUnits": params["modelUnits"],
                "desiredModelUnits": params["modelUnits"],
                "modelArn": model_arn,
                "desiredModelArn": model_arn,
                "foundationModelArn": base_arn,
                "creationTime": now,
                "lastModifiedTime": now,
                "commitmentDuration": term,
                "commitmentExpirationTime": now + _TERMS[term] if term else None,
            }

        name = params["provisionedModelName"]
        made = self._create(request, THROUGHPUT, name, params, details, params.get("tags"))
        return {"provisionedModelArn": made.arn}

    @BEDROCK.operation
    def list_provisioned_model_throughputs(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        rows = self._rows(request, THROUGHPUT)
        rows = [row for row in rows if params.get("modelArnEquals", row["modelArn"]) == row["modelArn"]]
        return listed(rows, params, "provisionedModelSummaries", "provisionedModelName")

    # Unconfirmed: Deleting Provisioned Throughput that is Creating, or before its term is over | Here:
    #   `ConflictException`, wording our own (30 and 180 days a term) | Source: the operation's errors; "You can't
    #   delete ... before the commitment term is over" names no code
    @BEDROCK.operation
    def delete_provisioned_model_throughput(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        with self._jobs.account(request.account, request.region).lock:
            throughput, now = self._find(request, THROUGHPUT, params["provisionedModelId"]), self._clock()
            until = throughput.details["commitmentExpirationTime"]
            if throughput.status(now) != "InService":
                raise ServiceError("ConflictException", "The provisioned model is in the Creating status.")
            if until is not None and now < until:
                text = "You can't delete a Provisioned Throughput before the commitment term is over."
                raise ServiceError("ConflictException", text)
            self._forget(request, throughput)
        return {}

    # Unconfirmed: An import job | Here: reads nothing and needs no role; Completed after 2 s, and the model has no
    #   architecture | Source: not a part of the pipeline: it is there for teardowns to meet
    @BEDROCK.operation
    def create_model_import_job(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        shared = {"jobName": params["jobName"], "modelDataSource": params["modelDataSource"]}
        model = {"modelName": params["importedModelName"], **shared}

        def imported(arn: str, now: datetime) -> dict[str, Any]:
            return {"modelArn": arn, "creationTime": now + CHANGE, **model}

        def job(arn: str, now: datetime) -> dict[str, Any]:
            made = self._create(
                request, IMPORTED, params["importedModelName"], {}, imported, params.get("importedModelTags")
            )
            made.details["jobArn"] = arn
            return {
                "jobArn": arn,
                "importedModelName": made.name,
                "importedModelArn": made.arn,
                "roleArn": params["roleArn"],
                "creationTime": now,
                "lastModifiedTime": now,
                "vpcConfig": params.get("vpcConfig"),
                **shared,
            }

        made = self._create(request, IMPORT_JOB, params["jobName"], params, job, params.get("jobTags"))
        return {"jobArn": made.arn}

    @BEDROCK.operation
    def list_model_import_jobs(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        members = ("jobArn", "jobName", "creationTime", "lastModifiedTime", "importedModelArn", "importedModelName")
        rows = self._rows(request, IMPORT_JOB, members)
        return listed(rows, params, "modelImportJobSummaries", "jobName")

    @BEDROCK.operation
    def list_imported_models(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        rows = self._rows(request, IMPORTED, ("modelArn", "modelName", "creationTime"))
        for row in rows:
            del row["status"]
        return listed(rows, params, "modelSummaries", "modelName")

    @BEDROCK.operation
    def delete_imported_model(self, params: dict[str, Any], request: Request) -> dict[str, Any]:
        with self._jobs.account(request.account, request.region).lock:
            self._forget(request, self._find(request, IMPORTED, params["modelIdentifier"]))
        return {}
