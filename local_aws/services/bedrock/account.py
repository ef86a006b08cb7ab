"""The state of Bedrock: customization jobs, custom models and their deployments, by account and Region."""

from __future__ import annotations

import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_aws.core.registry import Request

CHANGE = timedelta(seconds=2)
"""The time to create a resource, and to delete a deployment."""


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def new_id() -> str:
    """Return the 12 characters that end the ARNs of jobs and custom models."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))


def not_found(what: str) -> ServiceError:
    """Return Bedrock's refusal of an unknown name, id or ARN."""
    return ServiceError("ResourceNotFoundException", f"The provided {what} was not found.", 404)


def listed(rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, created: str) -> dict[str, Any]:
    """Return the output of a list operation. `name` is the summary's member that nameContains compares."""
    return page(rows, params, key, name=name, status="status", created=created, size=1000)


@dataclass
class CustomizationJob:
    """A customization job. `details` is GetModelCustomizationJob's answer."""

    arn: str
    model_arn: str
    request: dict[str, Any]
    details: dict[str, Any]
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resource.

    Attributes:
        type: its name in an ARN.
        words: its name in messages.
        ready: its status after its creation.
        arn: the answers' member with its ARN.
        names: the answers' members with its name, that of the summaries last.
        times: the answers' members with the times of its creation and of its last change.
    """

    type: str
    words: str
    ready: str
    arn: str
    names: tuple[str, ...]
    times: tuple[str, str] = ("creationTime", "lastModifiedTime")


@dataclass
class Resource:
    """A deployment, a throughput or an imported model. `details` are the answers' members beside those of its kind."""

    kind: ResourceKind
    arn: str
    name: str
    token: str | None
    created: datetime
    details: dict[str, Any]
    deleted: datetime | None = None

    # Unconfirmed: Status of a deployment being deleted | Here: `Deleting` in Get and List, refused as `statusEquals` |
    #   Source: the Nova User Guide; the service model only knows Creating, Active and Failed
    def status(self, moment: datetime) -> str:
        """Return the status at a time. It follows from the times, so that nothing runs in the background."""
        if self.deleted is not None:
            return "Deleting"
        return self.kind.ready if moment >= self.created + CHANGE else "Creating"

    def describe(self, moment: datetime) -> dict[str, Any]:
        """Return the answer of its Get and List operations."""
        kind = self.kind
        shared = {kind.arn: self.arn, "status": self.status(moment)}
        return self.details | shared | dict.fromkeys(kind.names, self.name) | dict.fromkeys(kind.times, self.created)


@dataclass
class BedrockAccount:
    """The state of one account in one Region. Names of jobs and custom models can never be used again."""

    jobs: list[CustomizationJob] = field(default_factory=list)
    custom_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_model_names: set[str] = field(default_factory=set)
    resources: dict[str, Resource] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def job(self, identifier: str) -> CustomizationJob:
        """Return the job of a name or ARN. Raises ServiceError."""
        for job in self.jobs:
            if identifier in (job.arn, job.details["jobName"]):
                return job
        raise not_found("model customization job")

    def model(self, identifier: str) -> dict[str, Any]:
        """Return the custom model of a name or ARN. Raises ServiceError."""
        for arn, model in self.custom_models.items():
            if identifier in (arn, model["modelName"]):
                return model
        raise not_found("custom model")


@dataclass
class Bedrock:
    """The state that every operation gets.

    Attributes:
        endpoint_url: this server's own endpoint.
        step_seconds: the time of each of a job's three stages.
        clock: returns the current time.
        tags: the tags of all resources by ARN.
    """

    endpoint_url: str
    step_seconds: float = 0.3
    clock: Callable[[], datetime] = now
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    _accounts: dict[tuple[str, str], BedrockAccount] = field(default_factory=dict)

    def account(self, request: Request) -> BedrockAccount:
        """Return the state of the caller's account in the Region, after a removal of all deleted resources."""
        account = self._accounts.setdefault((request.account, request.region), BedrockAccount())
        with account.lock:
            for resource in list(account.resources.values()):
                if resource.deleted is not None and self.clock() >= resource.deleted + CHANGE:
                    self.forget(account, resource)
        return account

    def forget(self, account: BedrockAccount, resource: Resource) -> None:
        """Remove a resource and its tags."""
        del account.resources[resource.arn]
        self.tags.pop(resource.arn, None)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Tag a new resource."""
        self.tags[arn] = {tag["key"]: tag["value"] for tag in tags or []}
