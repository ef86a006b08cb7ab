"""Find the grants of the deployed roles that a life of the stack needed.

The decision log is evaluated again with one grant removed at a time. Local AWS logs every decision of IAM with the whole
request (`<state dir>/decisions.jsonl`). From a role's policies and a request, MiniStack's own evaluator makes the same decision
again (`local_aws.ministack.decisions.evaluate`). If every decision of the log stays the same without a grant, that life did not
need the grant.

This does not show whether a run goes on after a denial, and what it would ask then. Two grants for the same thing cover each
other: each of them alone is not needed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_aws.ministack.decisions import RESOURCE_POLICY, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

Decision = dict[str, Any]
"""A line of the decision log: time, principal, action, resource, context, allowed, and a reason if no policy decided."""
Document = dict[str, Any]

_NAMED = ("AWS::IAM::Role", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine")


class ProofError(Exception):
    """The proof is void: the policies do not reproduce the log, or a policy cannot be split."""


@dataclass(frozen=True)
class Grant:
    """One action on one resource, with the conditions of its statement. Grants are removed one at a time.

    In the names, placeholders stand for the stack's own ids. `statement` is the statement in the account.
    """

    role: str
    action: str
    resource: str
    condition: str
    statement: Document = field(compare=False, repr=False)

    def __str__(self) -> str:
        """Return one line without the role, for the tables and the list of unused grants."""
        return f"{self.action} on {self.resource}" + (f" if {self.condition}" if self.condition else "")


@dataclass(frozen=True)
class Role:
    """A role of the stack: its construct's path, its name in the account, its grants and its Deny statements."""

    name: str
    physical: str
    grants: tuple[Grant, ...]
    denies: tuple[Document, ...] = ()

    def policy(self, without: Grant | None = None) -> Document:
        """Return all that the role may do as one policy document, except the grant `without`. An equal grant stays."""
        statements = [grant.statement for grant in self.grants if grant is not without]
        return {"Version": "2012-10-17", "Statement": [*statements, *self.denies]}


def deployed(client: Callable[[str], Any], stack: str, prefix: str) -> list[Role]:
    """Return the roles of a deployed stack with their grants, sorted by name.

    Args:
        client: makes a boto3 client for a service, as root of the account.
        stack: the stack's name.
        prefix: the beginning of its runs' names.

    Raises:
        ProofError: a role has a managed policy or a boundary, a policy has NotAction or NotResource, or the policy of a
            bucket, topic, queue or function allows something to more than a service. Then other policies than the inline
            ones also decide.
    """
    cloudformation, iam = client("cloudformation"), client("iam")
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    template = cloudformation.get_template(StackName=stack)["TemplateBody"]
    declared = (json.loads(template) if isinstance(template, str) else template)["Resources"]
    account = client("sts").get_caller_identity()["Account"]
    names = {prefix: "PREFIX", account: "ACCOUNT", cloudformation.meta.region_name: "REGION"}
    roles: dict[str, str] = {}
    for resource in resources:
        kind, name = resource["ResourceType"], resource["PhysicalResourceId"].rsplit(":", 1)[-1]
        path = declared[resource["LogicalResourceId"]].get("Metadata", {}).get("aws:cdk:path", "")
        construct = path.removeprefix(f"{stack}/").removesuffix("/Resource")
        if kind == "AWS::IAM::Role":
            roles[name] = construct
        if kind == "AWS::S3::Bucket":
            names[name] = "BUCKET"
        elif kind in _NAMED and not name.startswith(prefix):  # a name of CloudFormation's, with a random end
            names[name] = construct
        if kind in (
            "AWS::S3::BucketPolicy",
            "AWS::SNS::TopicPolicy",
            "AWS::SQS::QueuePolicy",
            "AWS::Lambda::Permission",
        ):
            _allows_no_role(declared[resource["LogicalResourceId"]], construct)
    split_roles = []
    for name, construct in roles.items():
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        if attached or iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary"):
            raise ProofError(f"{construct} has a managed policy or a boundary")
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        policies = [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in inline]
        split_roles.append(split(construct, name, policies, names))
    return sorted(split_roles, key=lambda role: role.name)


def _allows_no_role(declared: Document, construct: str) -> None:
    statements = declared["Properties"].get("PolicyDocument", {}).get("Statement", [{"Effect": "Allow"}])
    if any(s["Effect"] != "Deny" and set(s.get("Principal", "*")) != {"Service"} for s in statements):
        raise ProofError(f"{construct} allows something: other policies than the roles' own also decide")


def split(role: str, physical: str, policies: Iterable[Document], names: Mapping[str, str] | None = None) -> Role:
    """Return a role made from its policies. Every Allow is split into grants of one action on one resource.

    Args:
        role: the role's name in the report.
        physical: the role's name in the account.
        policies: its policy documents.
        names: ids that differ at every deploy, each with its placeholder in a grant's name.

    Raises:
        ProofError: a statement has NotAction or NotResource.
    """
    grants, denies = [], []
    for statement in (statement for policy in policies for statement in _many(policy["Statement"])):
        if statement["Effect"] == "Deny":
            denies.append(statement)
            continue
        if "Action" not in statement or "Resource" not in statement:
            raise ProofError(f"{role}: cannot split {json.dumps(statement)}")
        condition = statement.get("Condition", {})
        for action in _many(statement["Action"]):
            for resource in _many(statement["Resource"]):
                single = {"Effect": "Allow", "Action": action, "Resource": resource}
                text = ", ".join(
                    f"{key} {operator} {' or '.join(_many(value))}"
                    for operator, keys in condition.items()
                    for key, value in keys.items()
                )
                grants.append(
                    Grant(
                        role,
                        action,
                        _named(resource, names or {}),
                        _named(text, names or {}),
                        {**single, "Condition": condition} if condition else single,
                    )
                )
    return Role(role, physical, tuple(sorted(grants, key=str)), tuple(denies))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _named(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def read(log: Path) -> list[Decision]:
    """Return all decisions so far."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def asked(role: Role, decisions: Iterable[Decision]) -> list[Decision]:
    """Return the decisions on the role's sessions. Equal ones are one, with their number as `count`."""
    session = re.compile(rf"arn:aws:sts::\d{{12}}:assumed-role/{re.escape(role.physical)}/")
    distinct: dict[str, Decision] = {}
    for decision in decisions:
        if session.match(decision["principal"]):
            parts = {key: value for key, value in decision.items() if key not in ("time", "principal")}
            counted = distinct.setdefault(json.dumps(parts, sort_keys=True), {**decision, "count": 0})
            counted["count"] += 1
    return list(distinct.values())


def used(role: Role, decisions: Sequence[Decision]) -> dict[int, list[Decision]]:
    """Return, by each grant's index in `role.grants`, the decisions that this grant alone would allow."""
    by_grant: dict[int, list[Decision]] = {}
    for number, grant in enumerate(role.grants):
        alone = {"Version": "2012-10-17", "Statement": [grant.statement, *role.denies]}
        by_grant[number] = [d for d in decisions if _same_action(grant, d) and evaluate([alone], d)]
    return by_grant


def _same_action(grant: Grant, decision: Decision) -> bool:
    pattern = re.escape(grant.action).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, decision["action"], re.IGNORECASE) is not None


@dataclass(frozen=True)
class Replayed:
    """The result of evaluating a role's decisions again.

    Attributes:
        role: the role.
        needed: the grants without which a decision would be a denial.
        unneeded: the other grants.
        covered: the unneeded grants that allow a decision which another grant also allows.
        denied: the decisions that no grant allows.
        refused: the decisions that a resource's own policy denied, whatever the role's grants are.
    """

    role: Role
    needed: tuple[Grant, ...]
    unneeded: tuple[Grant, ...]
    covered: tuple[Grant, ...]
    denied: tuple[Decision, ...]
    refused: tuple[Decision, ...]


def replay(role: Role, decisions: Iterable[Decision]) -> Replayed:
    """Evaluate the role's decisions again, with each grant removed in turn.

    Raises:
        ProofError: with no grant removed, a decision differs from the log.
    """
    everything = asked(role, decisions)
    refused = tuple(question for question in everything if question.get("reason") == RESOURCE_POLICY)
    questions = [question for question in everything if question not in refused]
    whole = role.policy()
    for question in questions:
        if question.get("reason") or evaluate([whole], question) is not question["allowed"]:
            raise ProofError(f"{role.name}: the policies do not reproduce {json.dumps(question)}")
    by_grant = used(role, [question for question in questions if question["allowed"]])
    needed, unneeded, covered = [], [], []
    for number, grant in enumerate(role.grants):
        rest = role.policy(without=grant)
        # Without the grant, only the decisions that it allows can change.
        if any(not evaluate([rest], question) for question in by_grant[number]):
            needed.append(grant)
        else:
            unneeded.append(grant)
            if by_grant[number]:
                covered.append(grant)
    denied = tuple(question for question in questions if not question["allowed"])
    return Replayed(role, tuple(needed), tuple(unneeded), tuple(covered), denied, refused)


@dataclass(frozen=True)
class Assumed:
    """How often a service assumed a role, or was refused, and on whose behalf.

    `source` is aws:SourceArn, or "" without one.
    """

    role: str
    service: str
    source: str
    allowed: bool
    count: int


def assumed(roles: Iterable[Role], decisions: Iterable[Decision]) -> list[Assumed]:
    """Return which service assumed which of the roles, sorted by role and service."""
    names = {role.physical: role.name for role in roles}
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    for decision in decisions:
        name = names.get(decision["resource"].rsplit("/", 1)[-1])
        if decision["action"] == "sts:AssumeRole" and name:
            source = str(decision["context"].get("aws:sourcearn", ""))
            counts[name, decision["principal"], source, decision["allowed"]] += 1
    return [Assumed(*key, count) for key, count in sorted(counts.items())]
