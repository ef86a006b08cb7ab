"""The permissions boundary: the most that the roles of a stack can ever do, whatever policies somebody gives them.

Whoever deploys writes the policies of the stack's roles, and could write `*` into one. So each role has this boundary. On the
stack's own names it allows every action of the services that the roles use there. On anything else it allows the actions that
the roles have, and no others. It is one managed policy, so it writes names and reads in a shorter form than the roles do.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from infra.permissions.documents import MANAGED_POLICY_CHARACTERS, Statement, characters, policy
from infra.permissions.names import GUID, NAMED, Names, UncoveredError
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_PASSED = "iam:PassedToService"
_KEPT = (
    # The others are about names in the stack's own bucket, and about the tags that Bedrock gives to its network interfaces.
    *(f"aws:{kind}/{STACK_TAG}" for kind in ("RequestTag", "ResourceTag")),
    _PASSED,
    "ec2:Subnet",
    "kms:GrantIsForAWSResource",
    "kms:ViaService",
)


def document(names: Names) -> dict[str, Any]:
    """Return the boundary of the template's roles.

    Raises:
        UncoveredError: it does not fit into one managed policy.
    """
    granted: dict[tuple[bool, bool, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    services: set[str] = set()
    stacks_own = [names.arn(name) for name, resource in names.resources.items() if resource["Type"] in NAMED]
    for statement in _statements(names):
        kept = _condition(statement.get("Condition", {}), services)
        for resource in as_list(statement["Resource"]):
            # Services share a statement: an action of one does nothing on the ARNs of another. Only `*` is in every service.
            # What is not the stack's own stays apart, so that nothing more can be done with it.
            # The name of a bucket or secret of somebody else may also begin with the stack's.
            own = f"{names.place.stack}-{GUID}" in resource or _covered(resource, stacks_own)
            actions, resources = granted[resource == "*", own, json.dumps(kept, sort_keys=True)]
            actions |= set(as_list(statement["Action"]))
            resources.add(_wider(resource, names))
    statements = []
    for (_, own, condition), (actions, resources) in sorted(granted.items()):
        conditions = _with_services(json.loads(condition), services)
        shorter = _everything(actions) if own and not conditions else _shorter(actions)
        statements.append(Statement(tuple(shorter), tuple(_widest(resources)), conditions))
    written = policy(statements)
    size = characters(written)
    if size > MANAGED_POLICY_CHARACTERS:
        raise UncoveredError(
            f"the boundary has {size} characters of {MANAGED_POLICY_CHARACTERS}; name fewer network.subnets, "
            "network.security_groups and access.dataset_buckets, or choose a shorter stack.name"
        )
    return written


def _statements(names: Names) -> Iterator[dict[str, Any]]:
    """Yield the statements of all roles of the template."""
    for resource in names.resources.values():
        properties = resource.get("Properties", {})
        documents = []
        if resource["Type"] == "AWS::IAM::Policy":
            documents = [properties["PolicyDocument"]]
        elif resource["Type"] == "AWS::IAM::Role":
            documents = [each["PolicyDocument"] for each in properties.get("Policies", [])]
        for each in documents:
            for statement in names.value(each["Statement"]):
                if statement["Effect"] == "Allow":
                    yield statement


def _condition(condition: dict[str, Any], services: set[str]) -> dict[str, Any]:
    """Return the conditions that the boundary keeps. The services that get a role go into `services`, for all roles."""
    kept: dict[str, Any] = {}
    for operator, keys in condition.items():
        for key, value in keys.items():
            if key not in _KEPT:
                continue
            if key == _PASSED:
                services |= set(as_list(value))
            pattern = operator.replace("StringEquals", "StringLike") if GUID in str(value) else operator
            kept.setdefault(pattern, {})[key] = "" if key == _PASSED else value
    return kept


def _with_services(condition: dict[str, Any], services: set[str]) -> dict[str, Any]:
    return {
        operator: {key: sorted(services) if key == _PASSED else value for key, value in keys.items()}
        for operator, keys in condition.items()
    }


def _wider(resource: str, names: Names) -> str:
    """Return a wider pattern: all names of the stack in place of one, all objects of the bucket in place of some."""
    stack = re.escape(names.place.stack)
    # Bedrock makes ids of its own, so that a policy names a kind at most; the stack's tag or the action tells the kinds apart.
    resource = re.sub(r"(:bedrock:[^:]+:\d{12}:)[^/]+/\*", r"\1*", resource)
    bucket = re.fullmatch(rf"(arn:[^:]+:s3:::{stack}-[^/]+)/.*", resource)
    if bucket:
        return f"{bucket[1]}/*"
    return re.sub(rf"({stack}-{re.escape(GUID)}[-:/]).*", r"\1*", resource)


def _widest(resources: set[str]) -> list[str]:
    """Return the patterns that no other pattern of the set covers."""
    return sorted(one for one in resources if not _covered(one, resources - {one}))


def _covered(resource: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(resource, pattern) for pattern in patterns)


def _everything(actions: set[str]) -> set[str]:
    """Return all actions of the actions' services. They are for the stack's own resources, which its deployer owns anyway."""
    return {f"{action.partition(':')[0]}:*" for action in actions}


def _shorter(actions: set[str]) -> set[str]:
    """Return the actions with `List*` and `Describe*` in place of a service's own. They change nothing."""
    return {re.sub(r":(List|Describe).*", r":\1*", action) for action in actions}


def as_list(value: Any) -> list[str]:
    """Return a value of a policy that may be one text or several."""
    return value if isinstance(value, list) else [value]
