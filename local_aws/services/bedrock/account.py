"""What Bedrock remembers: customization jobs, custom models, and what serves them, by account and Region."""

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
"""How long a resource is being created, and a deployment deleted."""


def now() -> datetime:
    """The time of a record."""
    return datetime.now(UTC)


def new_id() -> str:
    """The 12 characters that end the ARNs of jobs and custom models."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))


def not_found(what: str) -> ServiceError:
    """Bedrock's refusal of a name, id or ARN that it does not know."""
    return ServiceError("ResourceNotFoundException", f"The provided {what} was not found.", 404)


def listed(rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, created: str) -> dict[str, Any]:
    """The output of a list operation; `name` is the member of a summary that nameContains looks at."""
    return page(rows, params, key, name=name, status="status", created=created, size=1000)


@dataclass
class CustomizationJob:
    """A customization job. `details` is what GetModelCustomizationJob answers."""

    arn: str
    model_arn: str
    request: dict[str, Any]
    details: dict[str, Any]
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resource.

    Attributes:
        type: what stands in its ARN.
        words: how a message calls it.
        ready: its status when it is made.
        arn: the member of the answers that has its ARN.
        names: those that have its name, that of the summaries last.
        times: those that have the times of its creation and of its last change.
    """

    type: str
    words: str
    ready: str
    arn: str
    names: tuple[str, ...]
    times: tuple[str, str] = ("creationTime", "lastModifiedTime")


@dataclass
class Resource:
    """A deployment, a throughput or an imported model. `details` is what the answers have beside the members of its kind."""

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
        """The status at a time, so that nothing runs in the background."""
        if self.deleted is not None:
            return "Deleting"
        return self.kind.ready if moment >= self.created + CHANGE else "Creating"

    def describe(self, moment: datetime) -> dict[str, Any]:
        """What its Get and List operations answer."""
        kind = self.kind
        shared = {kind.arn: self.arn, "status": self.status(moment)}
        return self.details | shared | dict.fromkeys(kind.names, self.name) | dict.fromkeys(kind.times, self.created)


@dataclass
class BedrockAccount:
    """What one account has in one Region. Names of jobs and custom models never come free."""

    jobs: list[CustomizationJob] = field(default_factory=list)
    custom_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_model_names: set[str] = field(default_factory=set)
    resources: dict[str, Resource] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def job(self, identifier: str) -> CustomizationJob:
        """The job of a name or ARN. Raises ServiceError."""
        for job in self.jobs:
            if identifier in (job.arn, job.details["jobName"]):
                return job
        raise not_found("model customization job")

    def model(self, identifier: str) -> dict[str, Any]:
        """The custom model of a name or ARN. Raises ServiceError."""
        for arn, model in self.custom_models.items():
            if identifier in (arn, model["modelName"]):
                return model
        raise not_found("custom model")


@dataclass
class Bedrock:
    """The state that every operation is given.

    Attributes:
        endpoint_url: this server's own endpoint.
        step_seconds: how long each of a job's three stages takes.
        clock: what time it is.
        tags: the tags of all resources by ARN.
    """

    endpoint_url: str
    step_seconds: float = 0.3
    clock: Callable[[], datetime] = now
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    _accounts: dict[tuple[str, str], BedrockAccount] = field(default_factory=dict)

    def account(self, request: Request) -> BedrockAccount:
        """What the caller's account has in the Region, without what is deleted by now."""
        held = self._accounts.setdefault((request.account, request.region), BedrockAccount())
        with held.lock:
            for resource in list(held.resources.values()):
                if resource.deleted is not None and self.clock() >= resource.deleted + CHANGE:
                    self.forget(held, resource)
        return held

    def forget(self, held: BedrockAccount, resource: Resource) -> None:
        """Remove a resource and its tags."""
        del held.resources[resource.arn]
        self.tags.pop(resource.arn, None)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Tag what is made."""
        self.tags[arn] = {tag["key"]: tag["value"] for tag in tags or []}
