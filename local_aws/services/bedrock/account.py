"""The state of Bedrock by account and Region: jobs, custom and imported models, deployments."""

from __future__ import annotations

import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError
from local_aws.services.bedrock.controls import BedrockControls
from local_aws.services.bedrock.copies import BASE, Copies

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_aws.core.registry import Request


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


@dataclass(frozen=True)
class Update:
    """An update of a deployment to another custom model, which ends at a time."""

    model_arn: str
    ends: datetime
    fails: bool

    def status(self, moment: datetime) -> str:
        """Return the update's status at a time."""
        if moment < self.ends:
            return "Updating"
        return "UpdateFailed" if self.fails else "UpdateCompleted"


@dataclass
class Resource:
    """A deployment or a throughput. `details` are the answers' members beside those of its kind.

    Attributes:
        made: the time at which its creation ends.
        failure: why its creation fails, an empty text if it does not.
        gone: the time at which its deletion ends, None as long as nobody deletes it.
    """

    kind: ResourceKind
    arn: str
    name: str
    token: str | None
    created: datetime
    made: datetime
    details: dict[str, Any]
    failure: str = ""
    gone: datetime | None = None
    update: Update | None = None

    # Unconfirmed: Status of a deployment being deleted | Here: `Deleting` in Get and List, refused as `statusEquals` |
    #   Source: the Nova User Guide; the service model only knows Creating, Active and Failed
    def status(self, moment: datetime) -> str:
        """Return the status at a time. It follows from the times, so that nothing runs in the background."""
        if self.gone is not None:
            return "Deleting"
        if moment < self.made:
            return "Creating"
        return "Failed" if self.failure else self.kind.ready

    def changes(self, moment: datetime) -> bool:
        """Return whether it is being created, updated or deleted."""
        updating = self.update is not None and self.update.status(moment) == "Updating"
        return updating or self.status(moment) in ("Creating", "Deleting")

    def model_arn(self, moment: datetime) -> str:
        """Return the ARN of the model that serves at a time: an update that failed or is under way changes nothing."""
        done = self.update is not None and self.update.status(moment) == "UpdateCompleted"
        return self.update.model_arn if self.update is not None and done else str(self.details["modelArn"])

    def uses(self, model_arn: str, moment: datetime) -> bool:
        """Return whether it serves a model, or is being updated to it."""
        updating = self.update is not None and self.update.status(moment) == "Updating"
        wanted = self.update.model_arn if self.update is not None and updating else ""
        return model_arn in (self.model_arn(moment), wanted)

    def describe(self, moment: datetime) -> dict[str, Any]:
        """Return the answer of its Get and List operations."""
        kind, update = self.kind, self.update
        status = self.status(moment)
        shared = {kind.arn: self.arn, "status": status, "modelArn": self.model_arn(moment)}
        if status == "Failed":
            shared["failureMessage"] = self.failure
        found = self.details | shared | dict.fromkeys(kind.names, self.name) | dict.fromkeys(kind.times, self.created)
        if update is not None:
            found["updateDetails"] = {"modelArn": update.model_arn, "updateStatus": update.status(moment)}
            found[kind.times[1]] = min(moment, update.ends)
        return found


@dataclass
class ImportJob:
    """A model import job. `details` is GetModelImportJob's answer."""

    arn: str
    token: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class ImportedModel:
    """An imported model.

    Attributes:
        folder: a copy of the model's files.
        chat: whether the files have a chat template.
        details: GetImportedModel's answer.
    """

    folder: Path
    chat: bool
    details: dict[str, Any]


@dataclass
class BedrockAccount:
    """The state of one account in one Region. Names of jobs and custom models can never be used again."""

    jobs: list[CustomizationJob] = field(default_factory=list)
    custom_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_model_names: set[str] = field(default_factory=set)
    resources: dict[str, Resource] = field(default_factory=dict)
    import_jobs: list[ImportJob] = field(default_factory=list)
    imported_models: dict[str, ImportedModel] = field(default_factory=dict)
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

    def imported_model(self, identifier: str) -> ImportedModel:
        """Return the imported model of a name or ARN. Raises ServiceError."""
        for arn, model in self.imported_models.items():
            if identifier in (arn, model.details["modelName"]):
                return model
        raise not_found("imported model")

    def arns(self) -> set[str]:
        """Return the ARNs of everything that can have tags."""
        jobs = {job.arn for job in self.jobs} | {job.arn for job in self.import_jobs}
        return jobs | self.custom_models.keys() | self.imported_models.keys() | self.resources.keys()


@dataclass
class Bedrock:
    """The state that every operation gets.

    Attributes:
        endpoint_url: this server's own endpoint.
        controls: what tests may change.
        clock: returns the current time.
        tags: the tags of all resources by ARN.
        state_dir: the folder for the files of imported models, which has the Hub's cache too.
        copies: the copies of models that answer.
    """

    endpoint_url: str
    controls: BedrockControls = field(default_factory=BedrockControls)
    clock: Callable[[], datetime] = now
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    state_dir: Path = field(default_factory=Path)
    copies: Copies = field(init=False)
    _accounts: dict[tuple[str, str], BedrockAccount] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Have no copy of a model yet."""
        self.copies = Copies(self.state_dir, self.controls, self.clock)

    def account(self, request: Request) -> BedrockAccount:
        """Return the state of the caller's account in the Region, after a removal of all deleted resources."""
        account = self._accounts.setdefault((request.account, request.region), BedrockAccount())
        with account.lock:
            for resource in list(account.resources.values()):
                if resource.gone is not None and self.clock() >= resource.gone:
                    self.forget(account, resource)
        return account

    def forget(self, account: BedrockAccount, resource: Resource) -> None:
        """Remove a resource and its tags."""
        del account.resources[resource.arn]
        self.tags.pop(resource.arn, None)

    def base_model(self) -> str:
        """Return the model of the Hub's cache that answers for deployments, an empty text if there is none."""
        return self.controls.base_model or next(iter(self.copies.in_hub()), "")

    def prepare_deployments(self) -> None:
        """Start the copy that answers for deployments, or stop it if there is no deployment any more."""
        resources = [r for account in list(self._accounts.values()) for r in list(account.resources.values())]
        if not any(r.kind.type == "custom-model-deployment" and r.gone is None for r in resources):
            for key in self.copies.states():
                if key.startswith(BASE):
                    self.copies.remove(key)
        elif name := self.base_model():
            self.copies.start(BASE + name, name)

    def after_change(self, slower: float = 0) -> datetime:
        """Return the time at which a change ends that begins now and takes `slower` seconds more than usual."""
        return self.clock() + timedelta(seconds=self.controls.change_seconds + slower)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Tag a new resource."""
        self.tags[arn] = {tag["key"]: tag["value"] for tag in tags or []}
