"""What SageMaker remembers of models, endpoint configs and tags, by ARN; account.py has the jobs and endpoints."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from local_aws.core.registry import Request


def now() -> datetime:
    """The time of a record."""
    return datetime.now(UTC)


def validation_error(message: str) -> ServiceError:
    """SageMaker's usual refusal."""
    return ServiceError("ValidationException", message)


@dataclass
class Delays:
    """What tests may change through /_tuneway/sagemaker. All in seconds."""

    status_seconds: float = 0.2
    """How long the statuses that stand for AWS's own work (launching, preparing) last here."""
    stop_grace_seconds: float = 120.0
    """From SIGTERM to SIGKILL (StopTrainingJob's documentation)."""
    startup_seconds: float = 0.0
    """If above 0: an upper bound on ContainerStartupHealthCheckTimeoutInSeconds, which AWS accepts from 60 on."""


def arn_of(request: Request, kind: str, name: str) -> str:
    """The ARN of a name; SageMaker writes the names of endpoints, configs and models into ARNs in lower case."""
    lowered = name if kind == "training-job" else name.lower()
    return f"arn:aws:sagemaker:{request.region}:{request.account}:{kind}/{lowered}"


@dataclass
class Store:
    """What jobs, endpoints and operations share; the records are guarded by `lock`."""

    state_dir: Path
    endpoint_url: str
    settings: Delays = field(default_factory=Delays)
    lock: threading.RLock = field(default_factory=threading.RLock)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Add tags to a resource (which need not have any)."""
        self.tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags or []})

    def model(self, request: Request, name: str) -> dict[str, Any]:
        """A model's description. Raises ServiceError."""
        arn = arn_of(request, "model", name)
        if arn not in self.models:
            raise validation_error(f'Could not find model "{arn}".')
        return self.models[arn]

    def config(self, request: Request, name: str) -> dict[str, Any]:
        """An endpoint config's description. Raises ServiceError."""
        arn = arn_of(request, "endpoint-config", name)
        if arn not in self.configs:
            raise validation_error(f'Could not find endpoint configuration "{arn}".')
        return self.configs[arn]


def listed(
    records: Iterable[dict[str, Any]], params: dict[str, Any], key: str, members: tuple[str, ...], status: str = ""
) -> dict[str, Any]:
    """The output of a list operation: these members of each record, of which the first is its name."""
    rows = [{member: record[member] for member in members if member in record} for record in records]
    return page(rows, params, key, name=members[0], status=status, created="CreationTime", size=10)
