"""The whole state of SageMaker, with the jobs and endpoints that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from local_aws.core.authorization import sagemaker_arn
from local_aws.services.sagemaker.store import Store, missing

if TYPE_CHECKING:
    from local_aws.core.registry import Request
    from local_aws.services.sagemaker.endpoint import Endpoint
    from local_aws.services.sagemaker.training import TrainingJob


@dataclass
class SageMakerAccount(Store):
    """The state that every operation gets."""

    training_jobs: dict[str, TrainingJob] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def elapse(self, minutes: float) -> None:
        """Move all endpoints with their metrics into the past."""
        passed = timedelta(minutes=minutes)
        with self.lock:
            for endpoint in self.endpoints.values():
                endpoint.created, endpoint.modified = endpoint.created - passed, endpoint.modified - passed
        self.metrics.move(-passed.total_seconds())

    def endpoint(self, request: Request, name: str) -> Endpoint:
        """Return an endpoint. Raises ServiceError."""
        arn = sagemaker_arn(request, "endpoint", name)
        if arn not in self.endpoints:
            raise missing("endpoint", arn)
        return self.endpoints[arn]
