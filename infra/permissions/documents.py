"""Policy documents: statements, the division of many statements into managed policies, and the files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from infra.permissions.names import UncoveredError

MANAGED_POLICY_CHARACTERS = 6_144
"""The most characters of a managed policy, without white space (IAM user guide, "IAM and AWS STS quotas")."""


@dataclass(frozen=True)
class Statement:
    """One statement that allows actions on resources."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the statement as IAM takes it."""
        written: dict[str, Any] = {
            "Effect": "Allow",
            "Action": sorted(set(self.actions)),
            "Resource": sorted(set(self.resources)),
        }
        return {**written, "Condition": self.conditions} if self.conditions else written


def merge(statements: list[Statement]) -> list[Statement]:
    """Return the statements with those in one that have the same resources and conditions. The CDK does so only at times."""
    merged: dict[str, Statement] = {}
    for each in statements:
        key = json.dumps([sorted(each.resources), each.conditions], sort_keys=True)
        there = merged.get(key)
        merged[key] = replace(each, actions=(*there.actions, *each.actions)) if there else each
    return list(merged.values())


def policy(statements: list[Statement]) -> dict[str, Any]:
    """Return a policy document with these statements."""
    return {"Version": "2012-10-17", "Statement": [statement.document() for statement in statements]}


def characters(document: dict[str, Any]) -> int:
    """Return how many characters of a policy IAM counts. No ARN, action or condition of a policy here has a blank."""
    return len(json.dumps(document, separators=(",", ":")))


def divide(statements: list[Statement]) -> list[dict[str, Any]]:
    """Divide the statements over as few managed policies as fit in turn. A statement that is too long itself is cut.

    Raises:
        UncoveredError: one resource alone is too long for a policy with all its actions.
    """
    policies: list[list[Statement]] = [[]]
    for statement in statements:
        for part in _cut(statement):
            if characters(policy([*policies[-1], part])) > MANAGED_POLICY_CHARACTERS:
                policies.append([])
            policies[-1].append(part)
    return [policy(each) for each in policies]


def _cut(statement: Statement) -> list[Statement]:
    if characters(policy([statement])) <= MANAGED_POLICY_CHARACTERS:
        return [statement]
    middle = len(statement.resources) // 2
    if middle == 0:
        why = f"the actions on {statement.resources[0]} do not fit into a managed policy"
        raise UncoveredError(f"{why}; divide them in infra/permissions/deployment.py")
    halves = (statement.resources[:middle], statement.resources[middle:])
    return [part for half in halves for part in _cut(replace(statement, resources=half))]
