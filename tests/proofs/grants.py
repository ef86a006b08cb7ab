"""Which grants of the deployed roles a life needed: the decision log, evaluated again with one grant removed at a time.

Local AWS logs every decision of IAM with all that was asked (`<state dir>/decisions.jsonl`). A role's policies and what was
asked of them give the decision again, by MiniStack's own evaluator (`local_aws.ministack.decisions.evaluate`). So a grant
without which every decision of the log comes out the same was not needed in that life.

What this does not show: whether a run goes on after a denial, and what it would ask then. Two grants for the same thing cover
each other: each of them alone is not needed.
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
"""A line of the decision log: time, principal, action, resource, context, allowed, and a reason where no policy decided."""
Document = dict[str, Any]


_NAMED = ("AWS::IAM::Role", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine")


class ProofError(Exception):
    """The proof is void: the log cannot be reproduced, or a policy has a form that cannot be split."""


@dataclass(frozen=True)
class Grant:
    """One action on one resource, with the conditions of its statement: what is removed at a time.

    The names have the stack's own ids as placeholders; `statement` is what stands in the account.
    """

    role: str
    action: str
    resource: str
    condition: str
    statement: Document = field(compare=False, repr=False)

    def __str__(self) -> str:
        """One line without the role: what a table shows and the list of unused grants names."""
        return f"{self.action} on {self.resource}" + (f" if {self.condition}" if self.condition else "")


@dataclass(frozen=True)
class Role:
    """A role of the stack: its construct's path, its name in the account, its grants, its statements that deny."""

    name: str
    physical: str
    grants: tuple[Grant, ...]
    denies: tuple[Document, ...] = ()

    def policy(self, without: Grant | None = None) -> Document:
        """All that the role may do as one policy document, but for `without`: that very grant, not one equal to it."""
        kept = [grant.statement for grant in self.grants if grant is not without]
        return {"Version": "2012-10-17", "Statement": [*kept, *self.denies]}


def deployed(client: Callable[[str], Any], stack: str, prefix: str) -> list[Role]:
    """The roles of a deployed stack with their grants, by name.

    Args:
        client: makes a boto3 client of a service, as root of the account.
        stack: the stack's name.
        prefix: what the names of its runs begin with.

    Raises:
        ProofError: a role has a managed policy or a boundary, a policy has NotAction or NotResource, or the policy of a
            bucket, topic, queue or function allows something to more than a service: the inline policies are then not all
            that decides.
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
    made = []
    for name, construct in roles.items():
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        if attached or iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary"):
            raise ProofError(f"{construct} has a managed policy or a boundary")
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        policies = [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in inline]
        made.append(split(construct, name, policies, names))
    return sorted(made, key=lambda role: role.name)


def _allows_no_role(declared: Document, construct: str) -> None:
    statements = declared["Properties"].get("PolicyDocument", {}).get("Statement", [{"Effect": "Allow"}])
    if any(s["Effect"] != "Deny" and set(s.get("Principal", "*")) != {"Service"} for s in statements):
        raise ProofError(f"{construct} allows something: the roles' own policies are not all that decides")


def split(role: str, physical: str, policies: Iterable[Document], names: Mapping[str, str] | None = None) -> Role:
    """A role out of its policies, every Allow split to single action and single resource.

    Args:
        role: its name in the report.
        physical: its name in the account.
        policies: its policy documents.
        names: ids that are another at every deploy -> what stands for them in a grant's name.

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
                named = ", ".join(
                    f"{key} {operator} {' or '.join(_many(value))}"
                    for operator, keys in condition.items()
                    for key, value in keys.items()
                )
                grants.append(
                    Grant(
                        role,
                        action,
                        _named(resource, names or {}),
                        _named(named, names or {}),
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
    """All decisions so far."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def asked(role: Role, decisions: Iterable[Decision]) -> list[Decision]:
    """What sessions of the role asked, each different question once, with `count`, how often."""
    session = re.compile(rf"arn:aws:sts::\d{{12}}:assumed-role/{re.escape(role.physical)}/")
    distinct: dict[str, Decision] = {}
    for decision in decisions:
        if session.match(decision["principal"]):
            parts = {key: value for key, value in decision.items() if key not in ("time", "principal")}
            kept = distinct.setdefault(json.dumps(parts, sort_keys=True), {**decision, "count": 0})
            kept["count"] += 1
    return list(distinct.values())


def used(role: Role, decisions: Sequence[Decision]) -> dict[int, list[Decision]]:
    """Index in `role.grants` -> the role's decisions that this grant, were it the only one, would allow."""
    answered: dict[int, list[Decision]] = {}
    for number, grant in enumerate(role.grants):
        alone = {"Version": "2012-10-17", "Statement": [grant.statement, *role.denies]}
        answered[number] = [d for d in decisions if _same_action(grant, d) and evaluate([alone], d)]
    return answered


def _same_action(grant: Grant, decision: Decision) -> bool:
    pattern = re.escape(grant.action).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, decision["action"], re.IGNORECASE) is not None


@dataclass(frozen=True)
class Replayed:
    """What a role's decisions say of its grants.

    `needed` are the grants without which a decision comes out denied, `unneeded` the others; `covered` are those of the
    unneeded that would have allowed a decision which another grant allows too. `denied` is what no grant allows, and
    `refused` what a resource's own policy denied, whatever the role is granted.
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
        ProofError: with nothing removed, a decision comes out other than it was logged.
    """
    everything = asked(role, decisions)
    refused = tuple(question for question in everything if question.get("reason") == RESOURCE_POLICY)
    questions = [question for question in everything if question not in refused]
    whole = role.policy()
    for question in questions:
        if question.get("reason") or evaluate([whole], question) is not question["allowed"]:
            raise ProofError(f"{role.name}: the policies do not reproduce {json.dumps(question)}")
    answered = used(role, [question for question in questions if question["allowed"]])
    needed, unneeded, covered = [], [], []
    for number, grant in enumerate(role.grants):
        rest = role.policy(without=grant)
        # Only what the grant allows can come out otherwise without it.
        if any(not evaluate([rest], question) for question in answered[number]):
            needed.append(grant)
        else:
            unneeded.append(grant)
            if answered[number]:
                covered.append(grant)
    denied = tuple(question for question in questions if not question["allowed"])
    return Replayed(role, tuple(needed), tuple(unneeded), tuple(covered), denied, refused)


@dataclass(frozen=True)
class Assumed:
    """That a service assumed a role, or was refused: how often, on whose behalf (aws:SourceArn, "" without one)."""

    role: str
    service: str
    source: str
    allowed: bool
    count: int


def assumed(roles: Iterable[Role], decisions: Iterable[Decision]) -> list[Assumed]:
    """Which of the roles were assumed by which service, by role and service."""
    names = {role.physical: role.name for role in roles}
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    for decision in decisions:
        name = names.get(decision["resource"].rsplit("/", 1)[-1])
        if decision["action"] == "sts:AssumeRole" and name:
            source = str(decision["context"].get("aws:sourcearn", ""))
            counts[name, decision["principal"], source, decision["allowed"]] += 1
    return [Assumed(*key, count) for key, count in sorted(counts.items())]
