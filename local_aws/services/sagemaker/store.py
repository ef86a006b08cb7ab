"""What SageMaker remembers of models, endpoint configs and tags, by ARN; account.py has the jobs and endpoints."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.authorization import sagemaker_arn
from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.core.registry import Request

_WORDS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def now() -> datetime:
    """The time of a record."""
    return datetime.now(UTC)


def validation_error(message: str) -> ServiceError:
    """SageMaker's usual refusal."""
    return ServiceError("ValidationException", message)


def refuse(when: object, message: str) -> None:
    """Raise SageMaker's usual refusal when something is the case."""
    if when:
        raise validation_error(message)


def missing(kind: str, arn: str) -> ServiceError:
    """The refusal of a name that nothing has."""
    return validation_error(f'Could not find {_WORDS[kind]} "{arn}".')


def existing(kind: str, arn: str) -> ServiceError:
    """The refusal of a name that is used already."""
    return validation_error(f'Cannot create already existing {_WORDS[kind]} "{arn}".')


@dataclass
class Delays:
    """What tests may change through /_tuneway/sagemaker. All in seconds."""

    status_seconds: float = 0.2
    """How long the statuses that stand for AWS's own work (launching, preparing) last here."""
    stop_grace_seconds: float = 120.0
    """From SIGTERM to SIGKILL (StopTrainingJob's documentation)."""
    startup_seconds: float = 0.0
    """If above 0: an upper bound on ContainerStartupHealthCheckTimeoutInSeconds, which AWS accepts from 60 on."""


@dataclass
class Store:
    """What jobs, endpoints and operations share; all of it is guarded by `lock`.

    Attributes:
        records: the descriptions of what nothing runs behind, by kind and ARN.
        tags: the tags of everything, by ARN.
    """

    state_dir: Path
    endpoint_url: str
    settings: Delays = field(default_factory=Delays)
    lock: threading.RLock = field(default_factory=threading.RLock)
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"model": {}, "endpoint-config": {}})
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Add tags to a resource (which need not have any)."""
        self.tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags or []})

    def find(self, request: Request, kind: str, name: str) -> dict[str, Any]:
        """The description of a model or endpoint-config. Raises ServiceError."""
        arn = sagemaker_arn(request, kind, name)
        if arn not in self.records[kind]:
            raise missing(kind, arn)
        return self.records[kind][arn]

    def add(self, kind: str, arn: str, params: dict[str, Any], **members: Any) -> None:
        """Describe what a create operation makes. Raises ServiceError if it is there."""
        if arn in self.records[kind]:
            raise existing(kind, arn)
        self.records[kind][arn] = {**params, **members, "CreationTime": now()}
        self.tag(arn, params.get("Tags"))


def listed(rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, status: str = "") -> dict[str, Any]:
    """The output of a list operation; `name` is the member with the records' name."""
    return page(rows, params, key, name=name, status=status, created="CreationTime", size=10)
