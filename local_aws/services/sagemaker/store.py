"""What SageMaker remembers: training jobs, models, endpoint configs, endpoints and tags, by ARN."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.services.sagemaker.endpoints import Endpoint
    from local_aws.services.sagemaker.training import TrainingJob


def now() -> datetime:
    """The time of a record."""
    return datetime.now(UTC)


def validation_error(message: str) -> ServiceError:
    """SageMaker's usual refusal."""
    return ServiceError("ValidationException", message)


@dataclass
class Settings:
    """What tests may change through /_tuneway/sagemaker. All in seconds."""

    status_seconds: float = 0.2
    """How long the statuses that stand for AWS's own work (launching, preparing) last here."""
    stop_grace_seconds: float = 120.0
    """From SIGTERM to SIGKILL (StopTrainingJob's documentation)."""
    startup_seconds: float = 0.0
    """If above 0: an upper bound on ContainerStartupHealthCheckTimeoutInSeconds, which AWS accepts from 60 on."""


@dataclass(frozen=True)
class Call:
    """Where a call was made: everything a name needs to become an ARN."""

    account: str
    region: str

    def arn(self, kind: str, name: str) -> str:
        """SageMaker writes the names of endpoints, configs and models into ARNs in lower case."""
        lowered = name if kind == "training-job" else name.lower()
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{lowered}"


@dataclass
class Store:
    """All records, guarded by `lock`."""

    state_dir: Path
    endpoint_url: str
    settings: Settings = field(default_factory=Settings)
    lock: threading.RLock = field(default_factory=threading.RLock)
    training_jobs: dict[str, TrainingJob] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def tag(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Add tags to a resource (which need not have any)."""
        self.tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags or []})

    def model(self, call: Call, name: str) -> dict[str, Any]:
        """A model's description. Raises ServiceError."""
        arn = call.arn("model", name)
        if arn not in self.models:
            raise validation_error(f'Could not find model "{arn}".')
        return self.models[arn]

    def config(self, call: Call, name: str) -> dict[str, Any]:
        """An endpoint config's description. Raises ServiceError."""
        arn = call.arn("endpoint-config", name)
        if arn not in self.configs:
            raise validation_error(f'Could not find endpoint configuration "{arn}".')
        return self.configs[arn]

    def endpoint(self, call: Call, name: str) -> Endpoint:
        """An endpoint. Raises ServiceError."""
        arn = call.arn("endpoint", name)
        if arn not in self.endpoints:
            raise validation_error(f'Could not find endpoint "{arn}".')
        return self.endpoints[arn]


def page(
    items: list[dict[str, Any]], params: dict[str, Any], *, name: str, status: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Filter, sort and cut a listing as SageMaker's List operations do.

    `name` and `status` are the members of a summary they filter on. Returns one page (10 by default) and its NextToken.
    """
    created = {"CreationTimeAfter": ("CreationTime", 1), "CreationTimeBefore": ("CreationTime", -1)}
    modified = {"LastModifiedTimeAfter": ("LastModifiedTime", 1), "LastModifiedTimeBefore": ("LastModifiedTime", -1)}
    kept = [item for item in items if params.get("NameContains", "").lower() in item[name].lower()]
    if status and params.get("StatusEquals"):
        kept = [item for item in kept if item[status] == params["StatusEquals"]]
    for parameter, (member, sign) in {**created, **modified}.items():
        if params.get(parameter) is not None:
            limit = float(params[parameter])
            kept = [item for item in kept if (item[member].timestamp() - limit) * sign > 0]
    by = {"Name": name, "Status": status or name}.get(params.get("SortBy", ""), "CreationTime")
    kept.sort(key=lambda item: item[by], reverse=params.get("SortOrder", "Descending") == "Descending")
    token = str(params.get("NextToken") or "0")
    if not token.isdigit():
        raise validation_error("Invalid NextToken")
    start, size = int(token), int(params.get("MaxResults", 10))
    following = str(start + size) if start + size < len(kept) else None
    return kept[start : start + size], following
