"""What CloudFormation must be allowed to do to create, update and delete the resources of one template, and nothing else.

The actions are those that the registry's schemas name for the handlers of the template's types. They are granted on the names
of the stack's own resources. Actions on roles are granted only while the role has the permissions boundary.
"""

from __future__ import annotations

import fnmatch
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.permissions.documents import Statement
from infra.permissions.names import NAMED, PART_OF, Names, UncoveredError
from infra.permissions.reference import action, permissions

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNDARY_KEY = "iam:PermissionsBoundary"
ALARM_KEY = "cloudwatch:AlarmActions"

LEFT_OUT = {
    # Actions that a handler names, and that no template gets, as patterns, each with its reason.
    "iam:DeleteRolePermissionsBoundary": "a role without its boundary could do anything",
}

WITHOUT_THE_BOUNDARY_KEY = ("iam:DeleteRole", "iam:UpdateRole", "iam:UpdateRoleDescription")
"""Changes that give a role no further right. The Service Authorization Reference has the boundary's key for them, too, but IAM
has denied UpdateRole under a condition on it (alphagov/gsp pull request 990). Then no stack could be destroyed."""

ON_EVERYTHING = {
    # Reads that the Service Authorization Reference has on one resource, and that AWS decides on all.
    "cloudwatch:DescribeAlarms": "it is refused on alarm:* (aws-samples/amazon-cloudwatch-auto-alarms issue 1)",
}


@dataclass(frozen=True)
class OnlyWith:
    """Actions that a handler makes only for a resource that has a property.

    Attributes:
        actions: patterns of the actions.
        properties: any of these properties makes the handler call them.
        resource: where they are then granted; empty: a template with the property has no rule yet.
    """

    actions: tuple[str, ...]
    properties: tuple[str, ...]
    resource: str = ""


ONLY_WITH = {
    # The schemas name the permissions of a handler for every property together.
    "AWS::IAM::Policy": (
        OnlyWith(("iam:*UserPolicy",), ("Users",)),
        OnlyWith(("iam:*GroupPolicy",), ("Groups",)),
    ),
    "AWS::IAM::Role": (OnlyWith(("iam:AttachRolePolicy", "iam:DetachRolePolicy"), ("ManagedPolicyArns",), "own"),),
    "AWS::Lambda::Function": (
        OnlyWith(("ec2:*",), ("VpcConfig",), "*"),
        OnlyWith(("elasticfilesystem:*", "s3files:*"), ("FileSystemConfigs",)),
        OnlyWith(("kms:*",), ("KmsKeyArn",)),
        OnlyWith(("lambda:GetLayerVersion",), ("Layers",)),
        # Without GetFunctionCodeSigningConfig: the handler that reads gets a function's name, and not its properties.
        OnlyWith(("lambda:GetCodeSigningConfig", "lambda:[DP]*FunctionCodeSigningConfig"), ("CodeSigningConfigArn",)),
        OnlyWith(("lambda:PassCapacityProvider",), ("CapacityProviderConfig",)),
        OnlyWith(("s3:GetObject",), ("Code",), "assets"),
        OnlyWith(("s3:GetObjectVersion",), ("Code.S3ObjectVersion",), "assets"),
    ),
    "AWS::Logs::LogGroup": (
        OnlyWith(("logs:CreateLogDelivery", "firehose:*"), ("DataProtectionPolicy",)),
        OnlyWith(("logs:PutIndexPolicy", "logs:DeleteIndexPolicy"), ("FieldIndexPolicies",)),
        OnlyWith(("logs:PutResourcePolicy", "logs:DeleteResourcePolicy"), ("ResourcePolicyDocument",)),
    ),
    "AWS::S3::Bucket": (
        OnlyWith(("iam:PassRole",), ("ReplicationConfiguration",)),
        OnlyWith(("s3tables:*",), ("MetadataTableConfiguration", "MetadataConfiguration")),
        # They are actions on objects, and a bucket of its own has none when it is made.
        OnlyWith(("s3:DeleteObject", "s3:PutObjectAcl"), ("AccessControl",)),
    ),
    "AWS::SNS::Subscription": (
        OnlyWith(("iam:GetRole", "iam:PassRole"), ("SubscriptionRoleArn",)),
        # The subscription's ARN is not known before.
        OnlyWith(("sns:*Subscription*", "sns:Unsubscribe"), ("Endpoint",), "*"),
    ),
    "AWS::SNS::Topic": (
        OnlyWith(("iam:GetRole", "iam:PassRole"), ("DeliveryStatusLogging",)),
        OnlyWith(("sns:Unsubscribe",), ("Subscription",), "*"),
    ),
    "AWS::StepFunctions::StateMachine": (
        OnlyWith(("kms:*",), ("EncryptionConfiguration",)),
        OnlyWith(("s3:GetObject", "s3:GetObjectVersion"), ("DefinitionS3Location",), "assets"),
    ),
}

PASSED = {
    # The types that pass a role -> the properties that name it, and the service that gets it.
    "AWS::Events::Rule": (("RoleArn", "Targets"), "events.amazonaws.com"),
    "AWS::Lambda::Function": (("Role",), "lambda.amazonaws.com"),
    "AWS::StepFunctions::StateMachine": (("RoleArn",), "states.amazonaws.com"),
}


def statements(names: Names, boundary: str) -> list[Statement]:
    """Return what the role needs with which CloudFormation deploys and destroys the template.

    Args:
        names: the template's names.
        boundary: the ARN of the permissions boundary that its roles have.

    Raises:
        UncoveredError: the template has something for which there is no rule.
    """
    granted: dict[tuple[tuple[str, ...], str], set[str]] = defaultdict(set)
    for kind in sorted({resource["Type"] for resource in names.resources.values()}):
        if kind.startswith("Custom::"):
            continue
        for name, resources in _grants(kind, names):
            granted[resources, json.dumps(_condition(name, names, boundary))].add(name)
    own = [
        Statement(tuple(actions), resources, json.loads(condition))
        for (resources, condition), actions in sorted(granted.items())
    ]
    return [*own, *_passed(names), *_custom(names), _version(names)]


def _condition(name: str, names: Names, boundary: str) -> dict[str, Any]:
    """Return the condition of an action that changes something. A read of a role comes before there is a role, too."""
    found = action(name)
    keys = found.keys if found is not None and found.writes else frozenset()
    if BOUNDARY_KEY in keys and name not in WITHOUT_THE_BOUNDARY_KEY:
        return {"StringEquals": {BOUNDARY_KEY: boundary}}
    if ALARM_KEY in keys:
        # An alarm can also end instances of EC2, among others (CloudWatch user guide, "Using condition keys to limit alarm
        # actions").
        return {"ForAllValues:StringLike": {ALARM_KEY: names.of_type("AWS::SNS::Topic")}}
    return {}


def _grants(kind: str, names: Names) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each action that the handlers of a type make for this template, with the ARNs on which they make it."""
    named = NAMED.get(PART_OF.get(kind, kind))
    if named is None:
        raise UncoveredError(f"no rule for the names of {kind}; add it to infra/permissions/names.py")
    own = tuple(names.of_type(PART_OF.get(kind, kind)))
    handlers = permissions(kind, names.place.region)
    for name in sorted({name for each in handlers.values() for name in each}):
        found = action(name)
        # The schemas also name operations of an API that IAM decides under another name, such as s3:DeleteBucketCors.
        if found is None or name in LEFT_OUT or (name == "iam:PassRole" and kind in PASSED):
            continue
        optional = [rule for rule in ONLY_WITH.get(kind, ()) if _matches(name, rule.actions)]
        used = [rule for rule in optional if any(_has(names, kind, each) for each in rule.properties)]
        if optional and not used:
            continue
        where = used[0].resource if used else "own" if found.kinds & set(named.kinds) else ""
        if name in ON_EVERYTHING or (not where and not found.kinds and not found.writes):
            where = "*"  # Reads that can be granted on everything only.
        resources = {"own": own, "*": ("*",), "assets": (_assets(names),)}.get(where)
        if resources is None:
            why = f"{kind}: no rule for {name}, which cannot be granted on the stack's own resources"
            raise UncoveredError(f"{why}; add it to infra/permissions/deployment.py")
        yield name, resources


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _has(names: Names, kind: str, path: str) -> bool:
    """Return whether a resource of a type has a property, such as `Code.S3Key`."""
    for resource in names.resources.values():
        value: Any = resource.get("Properties", {}) if resource["Type"] == kind else None
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return True
    return False


def _assets(names: Names) -> str:
    """Return the objects of the bootstrap's bucket, where the CDK CLI puts the functions' zips."""
    place = names.place
    return f"arn:{place.partition}:s3:::cdk-{place.qualifier}-assets-{place.account}-{place.region}/*"


def _passed(names: Names) -> Iterator[Statement]:
    """Yield the right to pass the stack's own roles, each to the service that its resource names."""
    for kind, (properties, service) in PASSED.items():
        roles = set()
        for resource in names.resources.values():
            if resource["Type"] == kind:
                for name in properties:
                    roles |= _roles(resource.get("Properties", {}).get(name), names)
        if roles:
            yield Statement(("iam:PassRole",), tuple(sorted(roles)), {"StringEquals": {"iam:PassedToService": service}})


def _roles(value: Any, names: Names) -> set[str]:
    """Return the ARN patterns of the roles that a value of the template refers to."""
    if isinstance(value, list):
        return {role for part in value for role in _roles(part, names)}
    if not isinstance(value, dict):
        return set()
    attribute = value.get("Fn::GetAtt", [""])[0]
    if attribute and names.resources[attribute]["Type"] == "AWS::IAM::Role":
        return {names.arn(attribute)}
    return {role for part in value.values() for role in _roles(part, names)}


def _custom(names: Names) -> Iterator[Statement]:
    """Yield the right to call the functions behind the template's custom resources."""
    tokens = {
        names.value(resource["Properties"]["ServiceToken"])
        for resource in names.resources.values()
        if resource["Type"].startswith("Custom::")
    }
    if tokens:
        yield Statement(("lambda:InvokeFunction",), tuple(sorted(tokens)))


def _version(names: Names) -> Statement:
    """Return the right to read the bootstrap's version, which is a parameter of the template."""
    place = names.place
    parameter = f"parameter/cdk-bootstrap/{place.qualifier}/version"
    return Statement(("ssm:GetParameters",), (f"arn:{place.partition}:ssm:{place.region}:{place.account}:{parameter}",))
