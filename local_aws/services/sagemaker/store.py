"""SageMaker's records of models, endpoint configs and tags, by ARN. Jobs and endpoints are in account.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.authorization import sagemaker_arn
from local_aws.core.listing import page
from local_aws.core.shapes import ServiceError
from local_aws.services.sagemaker.metrics import InstanceMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.core.registry import Request

_WORDS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def validation_error(message: str) -> ServiceError:
    """Return SageMaker's usual refusal."""
    return ServiceError("ValidationException", message)


def refuse(when: object, message: str) -> None:
    """Raise SageMaker's usual refusal if `when` is true."""
    if when:
        raise validation_error(message)


def missing(kind: str, arn: str) -> ServiceError:
    """Return the refusal of an unknown name."""
    return validation_error(f'Could not find {_WORDS[kind]} "{arn}".')


def existing(kind: str, arn: str) -> ServiceError:
    """Return the refusal of a used name."""
    return validation_error(f'Cannot create already existing {_WORDS[kind]} "{arn}".')


@dataclass
class Delays:
    """Times in seconds that tests may change by /_tuneway/sagemaker."""

    status_seconds: float = 0.2
    """The duration of each status for AWS's own work (launching, preparing)."""
    stop_grace_seconds: float = 120.0
    """The time from SIGTERM to SIGKILL (StopTrainingJob's documentation)."""
    startup_seconds: float = 0.0
    """If above 0, an upper bound on ContainerStartupHealthCheckTimeoutInSeconds, which AWS accepts from 60 on."""
    metric_delay_seconds: float = 120.0
    """The time from the end of a minute until its points can be read."""


@dataclass
class Store:
    """The state that jobs, endpoints and operations share. `lock` guards all of it.

    Attributes:
        records: the descriptions of models, endpoint configs, and the Model Registry's groups and versions, by kind and ARN.
        tags: the tags of all resources, by ARN.
        newest_version: the number of the last version of each group, by the group's ARN.
        version_tokens: the ARN and the request of each version that was made, by its group's ARN and its ClientToken.
        version_gone: when the last deleted version of a group is gone, on the monotonic clock, by the group's ARN.
    """

    state_dir: Path
    endpoint_url: str
    settings: Delays = field(default_factory=Delays)
    lock: threading.RLock = field(default_factory=threading.RLock)
    records: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {
            kind: {} for kind in ("model", "endpoint-config", "model-package-group", "model-package")
        }
    )
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    newest_version: dict[str, int] = field(default_factory=dict)
    version_tokens: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    version_gone: dict[str, float] = field(default_factory=dict)
    metrics: InstanceMetrics = field(default_factory=InstanceMetrics)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Add tags to a resource, which may have none yet."""
        self.tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags or []})

    def find(self, request: Request, kind: str, name: str) -> dict[str, Any]:
        """Return the description of a model or endpoint-config. Raises ServiceError."""
        arn = sagemaker_arn(request, kind, name)
        if arn not in self.records[kind]:
            raise missing(kind, arn)
        return self.records[kind][arn]

    def add(self, kind: str, arn: str, params: dict[str, Any], **members: Any) -> None:
        """Add the description of a new resource. Raises ServiceError if it exists."""
        if arn in self.records[kind]:
            raise existing(kind, arn)
        self.records[kind][arn] = {**params, **members, "CreationTime": now()}
        self.tag(arn, params.get("Tags"))


def listed(rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, status: str = "") -> dict[str, Any]:
    """Return the output of a list operation. `name` is the member with the records' name."""
    return page(rows, params, key, name=name, status=status, created="CreationTime", size=10)
