"""The names that CloudFormation will give to a template's resources, as patterns of IAM, before there is a stack.

A name that the template gives begins with the stack's name and eight digits of the stack's id, which nobody knows yet: they
become `????????`. A name that CloudFormation makes itself is STACK-LOGICALID-SUFFIX. Where that is too long for the service,
both parts are cut. A stack's name has at most 24 characters (pipeline.settings), which stay whole in a role's 64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

GUID = "????????"
"""Eight hexadecimal digits of the stack's id (infra/scope.py)."""


class UncoveredError(Exception):
    """The template has something for which there is no rule here. The message is one line with its remedy."""


@dataclass(frozen=True)
class Named:
    """How resources of a type are named.

    Attributes:
        kinds: their resource types in the Service Authorization Reference.
        property: the property that names them.
        arn: their ARN, with the name as {name}.
    """

    kinds: tuple[str, ...]
    property: str
    arn: str


_ARN = "arn:{partition}:"
NAMED = {
    "AWS::CloudWatch::Alarm": Named(("alarm",), "AlarmName", _ARN + "cloudwatch:{region}:{account}:alarm:{name}"),
    "AWS::CloudWatch::Dashboard": Named(
        ("dashboard",), "DashboardName", _ARN + "cloudwatch::{account}:dashboard/{name}"
    ),
    "AWS::Events::Rule": Named(("rule-on-default-event-bus",), "Name", _ARN + "events:{region}:{account}:rule/{name}"),
    "AWS::IAM::Role": Named(("role",), "RoleName", _ARN + "iam::{account}:role/{name}"),
    "AWS::Lambda::Function": Named(
        # The last asterisk stands for the version.
        ("function", "function version", "function alias"),
        "FunctionName",
        _ARN + "lambda:{region}:{account}:function:{name}*",
    ),
    "AWS::Logs::LogGroup": Named(
        # Some actions are decided on the group's ARN with its streams, which ends in :*.
        ("log-group", "log-stream"),
        "LogGroupName",
        _ARN + "logs:{region}:{account}:log-group:{name}*",
    ),
    "AWS::S3::Bucket": Named(("bucket",), "BucketName", _ARN + "s3:::{name}"),
    "AWS::SNS::Topic": Named(("topic",), "TopicName", _ARN + "sns:{region}:{account}:{name}"),
    "AWS::SQS::Queue": Named(("queue",), "QueueName", _ARN + "sqs:{region}:{account}:{name}"),
    "AWS::StepFunctions::StateMachine": Named(
        ("statemachine",), "StateMachineName", _ARN + "states:{region}:{account}:stateMachine:{name}"
    ),
}
"""Their kinds and ARNs are from the Service Authorization Reference."""

PART_OF = {
    "AWS::IAM::Policy": "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig": "AWS::Lambda::Function",
    "AWS::Lambda::Version": "AWS::Lambda::Function",
    "AWS::S3::BucketPolicy": "AWS::S3::Bucket",
    "AWS::SNS::Subscription": "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy": "AWS::SNS::Topic",
    "AWS::SQS::QueuePolicy": "AWS::SQS::Queue",
}
"""The types whose resources have no ARN of their own -> the type of the resource that they are a part of."""


@dataclass(frozen=True)
class Place:
    """Where a stack will be, and the bootstrap that deploys it."""

    stack: str
    account: str
    region: str
    qualifier: str
    partition: str = "aws"


class Names:
    """The names and ARNs of one template's resources, as patterns."""

    def __init__(self, template: dict[str, Any], place: Place) -> None:
        """Keep the template and the place of its stack."""
        self.resources: dict[str, dict[str, Any]] = template["Resources"]
        self.place = place

    def of_type(self, resource_type: str) -> list[str]:
        """Return the ARN patterns of all resources of a type, sorted."""
        found = {self.arn(name) for name, resource in self.resources.items() if resource["Type"] == resource_type}
        return sorted(found)

    def arn(self, logical_id: str) -> str:
        """Return the ARN pattern of one resource.

        Raises:
            UncoveredError: nothing here says how resources of its type are named.
        """
        kind = self.resources[logical_id]["Type"]
        named = NAMED.get(kind)
        if named is None:
            raise UncoveredError(f"{logical_id}: no rule for the names of {kind}; add it to infra/permissions/names.py")
        place = self.place
        arn = named.arn.format(
            partition=place.partition, region=place.region, account=place.account, name=self.name(logical_id)
        )
        return arn.replace("**", "*")

    def name(self, logical_id: str) -> str:
        """Return the pattern of one resource's name.

        Raises:
            UncoveredError: CloudFormation would give it a name that does not begin with the stack's.
        """
        resource = self.resources[logical_id]
        kind = resource["Type"]
        given = resource.get("Properties", {}).get(NAMED[kind].property)
        if given is not None:
            return str(self.value(given))
        if kind == "AWS::S3::Bucket":
            return f"{self.place.stack}-{logical_id.lower()}-*"
        if kind == "AWS::StepFunctions::StateMachine":
            # "one will be generated that is similar to MyStateMachine-1234abcdefgh" (CloudFormation user guide, 2016;
            # aws/aws-sam-cli issue 2022): every stack's would match the same pattern.
            raise UncoveredError(f"{logical_id}: CloudFormation names it without the stack's name; give it a name")
        # Another stack of Tuneway has no capital letter in its name, so none of its names matches this pattern.
        word = re.match(r"[A-Z][a-z]+", logical_id)
        return f"{self.place.stack}-{word[0] if word else logical_id}*"

    def value(self, value: Any) -> Any:
        """Return a value of the template, with patterns in place of what only the deployed stack knows.

        Raises:
            UncoveredError: the value has a function for which there is no rule here.
        """
        if isinstance(value, list):
            return [self.value(part) for part in value]
        if not isinstance(value, dict):
            return value
        name = next(iter(value), "")
        if name != "Ref" and not name.startswith("Fn::"):
            return {key: self.value(part) for key, part in value.items()}
        return self._function(name, value[name])

    def _function(self, name: str, argument: Any) -> str:
        if name == "Ref":
            return self._ref(argument)
        if name == "Fn::GetAtt" and argument[1] in ("Arn", "TopicArn"):
            return self.arn(argument[0])
        if name == "Fn::Join":
            return str(argument[0]).join(str(self.value(part)) for part in argument[1])
        if name == "Fn::Select" and "AWS::StackId" in str(argument):
            return GUID
        raise UncoveredError(f"no rule for {name} of {argument}; add it to infra/permissions/names.py")

    def _ref(self, name: str) -> str:
        place = self.place
        pseudo = {"AWS::AccountId": place.account, "AWS::Partition": place.partition, "AWS::Region": place.region}
        if name in pseudo:
            return pseudo[name]
        kind = self.resources[name]["Type"]
        if kind == "AWS::Lambda::Version":
            return self.arn(self.resources[name]["Properties"]["FunctionName"]["Ref"])
        # A Ref of these types is the ARN (CloudFormation's template reference, "Return values"), and else the name.
        by_arn = kind in ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")
        return self.arn(name) if by_arn else self.name(name)
