"""Roles and their statements, written so that a reader sees principal, actions, resources and reason at a glance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct, IConstruct

    from infra.scope import Scope


def make_role(parent: Construct, id: str, principal: iam.IPrincipal, description: str) -> iam.Role:
    """Make a role that has no managed policy."""
    return iam.Role(parent, id, assumed_by=principal, description=description)


def state_machines(scope: Scope) -> iam.ServicePrincipal:
    """Return Step Functions as the principal, only for this account's state machines.

    The conditions are those of the developer guide, "Creating an IAM role".
    """
    conditions = {
        "StringEquals": {"aws:SourceAccount": scope.account},
        "ArnLike": {"aws:SourceArn": scope.arn("states", "stateMachine:*")},
    }
    return iam.ServicePrincipal("states.amazonaws.com", conditions=conditions)


def schedules(scope: Scope) -> iam.ServicePrincipal:
    """Return EventBridge Scheduler as the principal, only for this account's schedules.

    The source is the schedule's group, never the schedule (EventBridge Scheduler User Guide, "Confused deputy prevention").
    """
    group = {
        "aws:SourceAccount": scope.account,
        "aws:SourceArn": scope.arn("scheduler", "schedule-group/default"),
    }
    return iam.ServicePrincipal("scheduler.amazonaws.com", conditions={"StringEquals": group})


def allow(
    role: iam.Role,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Let `role` do `actions` on `resources`, and nothing else.

    Args:
        role: the role that gets the statement.
        actions: IAM actions, never with a wildcard.
        resources: ARNs. An ARN with a wildcard needs a `reason`, which answers cdk-nag's finding on it.
        conditions: IAM conditions.
        reason: why the resource cannot be named more exactly.

    Raises:
        ValueError: an ARN has a wildcard, and `reason` is empty.
    """
    iam.Grant.add_to_principal(
        grantee=role, actions=list(actions), resource_arns=list(resources), conditions=conditions or {}
    )
    wildcards = [resource for resource in resources if "*" in resource]
    if wildcards:
        acknowledge_wildcards(role, wildcards, reason)


def allow_pass(role: iam.Role, passed: iam.IRole, service: str) -> None:
    """Let `role` pass the role `passed` to one service only."""
    allow(role, ["iam:PassRole"], [passed.role_arn], {"StringEquals": {"iam:PassedToService": service}})


def acknowledge(construct: IConstruct, reasons: dict[str, str]) -> None:
    """Answer findings of cdk-nag's AwsSolutions rules on `construct`, each with its reason.

    Args:
        construct: the construct that has the findings.
        reasons: a reason by each rule's name without the prefix, such as `SF1`.

    Raises:
        ValueError: a finding has no reason.
    """
    for rule, reason in reasons.items():
        if not reason:
            raise ValueError(f"{construct.node.path}: {rule} needs a reason")
    cdk.Validations.of(construct).acknowledge(
        *(
            cdk.Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason)
            for rule, reason in reasons.items()
        )
    )


def acknowledge_wildcards(construct: IConstruct, resources: Sequence[str], reason: str) -> None:
    """Answer cdk-nag's findings on `resources`, the ARNs with a wildcard that roles in `construct` may use."""
    names = map(_as_nag_shows, cdk.Stack.of(construct).resolve(list(resources)))
    acknowledge(construct, {f"IAM5[Resource::{name}]": reason for name in names})


def _as_nag_shows(resolved: Any) -> str:
    """Return a resolved ARN as cdk-nag writes it in a finding: references as `<Id.Attribute>`, other functions as JSON."""
    if isinstance(resolved, str):
        return resolved
    if "Fn::Join" in resolved:
        separator, parts = resolved["Fn::Join"]
        return str(separator).join(_as_nag_shows(part) for part in parts)
    if "Ref" in resolved:
        return f"<{resolved['Ref']}>"
    if "Fn::GetAtt" in resolved:
        return f"<{'.'.join(resolved['Fn::GetAtt'])}>"
    return json.dumps(resolved, separators=(",", ":"))
