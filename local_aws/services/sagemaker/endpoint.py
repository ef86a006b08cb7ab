"""Endpoints: creation, update with roll-back, and deletion, with AWS's statuses.

Sources: API Reference of CreateEndpoint, UpdateEndpoint, DescribeEndpoint (EndpointStatus) and DeleteEndpoint. SageMaker
refuses any change while Creating or Updating ("Cannot update in-progress endpoint"). An update needs the endpoint's current
config to exist (https://github.com/hashicorp/terraform-provider-aws/issues/40048). DescribeEndpoint promises FailureReason
only for a Failed endpoint, so a rolled-back update has none here.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from local_aws.core import faults
from local_aws.core.shapes import ServiceError
from local_aws.ministack.sessions import NotAssumableError
from local_aws.services.sagemaker.fleet import Fleet, FleetFailedError
from local_aws.services.sagemaker.instances import pools
from local_aws.services.sagemaker.role import RoleSession, hosting_source
from local_aws.services.sagemaker.store import Store, now

if TYPE_CHECKING:
    from local_aws.core.registry import Request

INVOCATION_SECONDS = 60
"""The time that a container has to answer (InvokeEndpoint)."""

STREAM_SECONDS = 480
"""The time that a container has for a whole stream ("8 min streaming", hosting FAQ in the developer guide)."""


class Endpoint:
    """One endpoint, its fleet, and the thread that changes it."""

    def __init__(self, store: Store, arn: str, name: str, config: dict[str, Any]) -> None:
        self.store, self.arn, self.name, self.config = store, arn, name, config
        self.status, self.failure = "Creating", ""
        self.created = self.modified = now()
        self.deploying = config, self.created
        self.fleet: Fleet | None = None
        self._starting: Fleet | None = None

    @property
    def instances(self) -> Counter[str]:
        """Instances in use by type, for the quota."""
        counts: Counter[str] = Counter()
        if self.status != "Failed":
            (variant,) = self.config["ProductionVariants"]
            kind = self.fleet.instance_type if self.fleet is not None else pools(variant)[0]
            counts[kind] += variant["InitialInstanceCount"]
        if self._starting is not None and self.status == "Updating":
            counts[self._starting.instance_type] += self._starting.variant["InitialInstanceCount"]
        return counts

    def set_status(self, status: str, failure: str = "") -> None:
        """Enter a status."""
        with self.store.lock:
            self.status, self.failure, self.modified = status, failure, now()

    def create(self, request: Request) -> None:
        """Start the first fleet."""
        try:
            fleet = self._bring_up(request, self.config, *_place(self.config, "fail", "capacity", "stuck"))
        except FleetFailedError as error:
            self.set_status("Failed", str(error))
            return
        with self.store.lock:
            self.fleet = fleet
            self.set_status("InService")

    # Unconfirmed: A rolled-back update | Here: InService on the old config without FailureReason | Source:
    #   DescribeEndpoint promises the reason for Failed only
    def update(self, request: Request, config: dict[str, Any]) -> None:
        """Start a fleet on another config beside the old fleet, then stop the old one. If that fails, keep the old one."""
        kind, fault = _place(config)
        try:
            fleet = self._bring_up(request, config, kind, fault)
        except FleetFailedError as error:
            with self.store.lock:
                self._starting = None
                self.set_status("RollingBack")
            time.sleep(self.store.settings.status_seconds)
            if fault.how == "rollback-failed":
                self.set_status("UpdateRollbackFailed", str(error))
            else:
                self.set_status("InService")
            return
        with self.store.lock:
            old, self.fleet, self.config = self.fleet, fleet, config
        if old is not None:
            old.drain(STREAM_SECONDS)
            old.stop()
        with self.store.lock:
            self._starting = None
            self.set_status("InService")

    def _bring_up(self, request: Request, config: dict[str, Any], kind: str, fault: faults.Fault) -> Fleet:
        time.sleep(self.store.settings.status_seconds)
        if fault.how == "capacity":
            raise FleetFailedError(faults.ENDPOINT_CAPACITY)
        if fault.how == "stuck":
            faults.wait_replaced(fault)
        try:
            model = self.store.find(request, "model", config["ProductionVariants"][0]["ModelName"])
        except ServiceError as error:
            raise FleetFailedError(error.message) from error
        fleet = Fleet(self.store, self.arn, self.name, config, model, kind)
        with self.store.lock:
            self._starting = fleet
        try:
            fleet.start(sick=fault.how in ("fail", "rollback-failed"))
        except Exception as error:
            fleet.stop()
            if isinstance(error, FleetFailedError):
                raise
            raise FleetFailedError(f"Request to service failed. {error!r}") from error
        return fleet

    # Unconfirmed: DeleteEndpoint without the execution role | Here: the endpoint becomes Failed and stays | Source: the
    #   documentation only says that SageMaker cannot delete its resources
    def delete(self) -> bool:
        """Stop the fleet. Return False if SageMaker can no longer assume its execution role."""
        time.sleep(self.store.settings.status_seconds)
        with self.store.lock:
            fleet = self.fleet
        if fleet is not None:
            try:
                RoleSession(fleet.model["ExecutionRoleArn"], hosting_source(self.arn), self.store.endpoint_url)
            except NotAssumableError as error:
                self.set_status("Failed", f"SageMaker could not delete the endpoint's resources: {error}")
                return False
            fleet.stop()
        return True

    # Unconfirmed: `PendingDeploymentSummary` | Here: while Creating and Updating, with the wanted weight and count; not
    #   while RollingBack | Source: "only returned when the endpoint is creating or updating"; the members of a variant
    #   are a guess
    def describe(self) -> dict[str, Any]:
        """Return the members of DescribeEndpoint."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.config["EndpointConfigName"],
            "EndpointStatus": self.status,
            "FailureReason": self.failure[:1024] or None,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "PendingDeploymentSummary": self._pending() if self.status in ("Creating", "Updating") else None,
            "ProductionVariants": [self._variant(self.fleet)] if self.fleet is not None else None,
        }

    def _pending(self) -> dict[str, Any]:
        config, started = self.deploying
        (variant,) = config["ProductionVariants"]
        wanted = {
            "VariantName": variant["VariantName"],
            **(_pool_summaries(variant, "") or {"InstanceType": variant["InstanceType"]}),
            "DesiredWeight": variant["InitialVariantWeight"],
            "DesiredInstanceCount": variant["InitialInstanceCount"],
        }
        names = {"EndpointConfigName": config["EndpointConfigName"], "StartTime": started}
        return {**names, "ProductionVariants": [wanted]}

    def _variant(self, fleet: Fleet) -> dict[str, Any]:
        variant = fleet.variant
        return {
            "VariantName": variant["VariantName"],
            **_pool_summaries(variant, fleet.instance_type),
            **dict.fromkeys(("CurrentWeight", "DesiredWeight"), variant["InitialVariantWeight"]),
            **dict.fromkeys(("CurrentInstanceCount", "DesiredInstanceCount"), variant["InitialInstanceCount"]),
        }


# Differs: Time to look for an endpoint's instances | AWS: VariantInstanceProvisionTimeoutInSeconds | Here: each pool is
#   tried once, without a wait | Why: a test should not wait for minutes
def _place(config: dict[str, Any], *hows: str) -> tuple[str, faults.Fault]:
    """Return the first instance type of the config with capacity, or else the last type, and the fault of that type."""
    (variant,) = config["ProductionVariants"]
    for kind in pools(variant):
        fault = faults.take("endpoint", *hows, instance_type=kind)
        if fault.how != "capacity":
            break
    return kind, fault


# Unconfirmed: `InstancePools` of DescribeEndpoint | Here: each pool of the config, those without instances with the
#   count 0; all 0 in the pending summary | Source: "Each pool indicates the instance type and the current number of
#   instances"
def _pool_summaries(variant: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return InstancePools of a variant whose instances are of type `kind`, an empty dict for a variant without pools."""
    if "InstancePools" not in variant:
        return {}
    count = variant["InitialInstanceCount"]
    listed = [{"InstanceType": name, "CurrentInstanceCount": count * (name == kind)} for name in pools(variant)]
    return {"InstancePools": listed}
