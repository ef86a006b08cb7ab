"""The instance types that a request names, in order of preference: one, or a list.

Sources: the service model of ResourceConfig and InstancePreference (members that exclude each other, counts on every
preference or on the job, the two read-only members), and of InstancePool and VariantInstanceProvisionTimeoutInSeconds;
"Deploy to multiple instance types with instance pools" in the Developer Guide ("replace InstanceType"). The texts of the
refusals are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_aws.services.sagemaker.store import refuse

MAX_INSTANCES = 4
"""The limit of one training job on this machine."""
_EXCLUDED = ("InstanceType", "InstanceGroups", "InstancePlacementConfig")
_READ_ONLY = ("SelectedInstanceType", "SelectedInstanceCount")


@dataclass(frozen=True)
class Instances:
    """A number of instances of one type."""

    type: str
    count: int


# Differs: Instances of a training job | AWS: any number | Here: up to 4, each a container of its own below
#   `jobs/NAME/algo-K`; they share processors and memory | Why: there is one machine
# Unconfirmed: EnableManagedSpotTraining `false` beside InstancePreferences | Here: accepted | Source: the service model
#   calls both mutually exclusive; the product sends it with one type only
def preferences(request: dict[str, Any]) -> list[Instances]:
    """Return the instances that a CreateTrainingJob request wants, the most wanted first. Raises ServiceError."""
    resources = request["ResourceConfig"]
    given = [name for name in _READ_ONLY if name in resources][:1]
    refuse(given, f"ResourceConfig: {''.join(given)} is read-only and is not accepted in CreateTrainingJob")
    listed = resources.get("InstancePreferences")
    if listed is None:
        wanted = [Instances(resources.get("InstanceType", ""), resources.get("InstanceCount", 0))]
    else:
        wanted = _listed(request, listed)
    refuse(
        any(not one.type or not 1 <= one.count <= MAX_INSTANCES for one in wanted),
        f"local AWS trains on up to {MAX_INSTANCES} instances: give InstanceType or InstancePreferences, and InstanceCount",
    )
    return wanted


# Unconfirmed: Texts for members that exclude InstancePreferences or InstancePools | Here: `ValidationException`, wording
#   our own | Source: the rules are in the service model and in "Deploy to multiple instance types with instance pools"
def _listed(request: dict[str, Any], listed: list[dict[str, Any]]) -> list[Instances]:
    resources = request["ResourceConfig"]
    excluded = [name for name in _EXCLUDED if name in resources]
    excluded += ["EnableManagedSpotTraining"] if request.get("EnableManagedSpotTraining") else []
    refuse(excluded, f"InstancePreferences and {''.join(excluded[:1])} are mutually exclusive")
    twice = len({one["InstanceType"] for one in listed}) < len(listed)
    refuse(twice, "An instance type can appear only once in an InstancePreferences list")
    counted = [one for one in listed if "InstanceCount" in one]
    refuse(
        len(counted) not in (0, len(listed)) or bool(counted) is ("InstanceCount" in resources),
        "InstanceCount must be set on every one of InstancePreferences, or in ResourceConfig alone",
    )
    plans = any("TrainingPlanArns" in one for one in listed)
    refuse(plans, "local AWS has no training plans: leave TrainingPlanArns out of InstancePreferences")
    return [Instances(one["InstanceType"], one.get("InstanceCount", resources.get("InstanceCount"))) for one in listed]


def pools(variant: dict[str, Any]) -> list[str]:
    """Return the instance types that a production variant names, the most wanted first.

    Raises ServiceError for InstancePools beside InstanceType, or for a pool with a model of its own.
    """
    listed = variant.get("InstancePools")
    if listed is None:
        return [variant["InstanceType"]] if "InstanceType" in variant else []
    name = variant["VariantName"]
    both = "InstanceType" in variant
    refuse(both, f"InstanceType and InstancePools of production variant {name} are mutually exclusive")
    other = any("ModelNameOverride" in pool for pool in listed)
    refuse(other, "local AWS serves one model on all instance pools: leave ModelNameOverride out")
    return [pool["InstanceType"] for pool in sorted(listed, key=lambda pool: int(pool["Priority"]))]
