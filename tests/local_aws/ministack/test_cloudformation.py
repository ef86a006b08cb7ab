"""As whom CloudFormation makes resources: its operations need the permissions of the registry's schemas."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import ACCOUNT, REGION

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/bound"
TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "cfn-own-queue"}}
QUEUES = f"arn:aws:sqs:{REGION}:{ACCOUNT}:cfn-own-*"


def role(aws: RunningAws, name: str, *statements: dict[str, Any]) -> str:
    return aws.role(name, *statements, service="cloudformation")


def allow(*actions: str, on: str = "*", **condition: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on, **condition}


def ended(aws: RunningAws, name: str) -> dict[str, Any]:
    client = aws.client("cloudformation")
    for _ in range(100):
        found: dict[str, Any] = client.describe_stacks(StackName=name)["Stacks"][0]
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{name} is still {found['StackStatus']}")


def deploy(aws: RunningAws, name: str, role_arn: str, **resources: Any) -> str:
    """Create a stack through a change set, as the CDK CLI does. Return the reasons of what failed, "" if nothing did."""
    client = aws.client("cloudformation")
    client.create_change_set(
        StackName=name,
        ChangeSetName="made",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": resources}),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        RoleARN=role_arn,
    )
    client.execute_change_set(StackName=name, ChangeSetName="made")
    status = ended(aws, name)["StackStatus"]
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    failed = [e["ResourceStatusReason"] for e in events if e["ResourceStatus"].endswith("CREATE_FAILED")]
    assert bool(failed) == (status != "CREATE_COMPLETE"), status
    return " | ".join(failed)


def test_a_stack_is_made_and_deleted_as_the_role_of_its_change_set(aws: RunningAws) -> None:
    arn = role(aws, "cfn-whole", allow("sqs:*", on=QUEUES))
    assert deploy(aws, "cfn-whole-stack", arn, Queue=QUEUE) == ""
    # The deletion names no role, and gets that of the stack.
    aws.client("cloudformation").delete_stack(StackName="cfn-whole-stack")
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/cfn-whole/AWSCloudFormation"
    deadline = time.monotonic() + 10
    while not (deleted := aws.decisions(action="sqs:DeleteQueue", principal=principal)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {d["resource"] for d in deleted} == {f"arn:aws:sqs:{REGION}:{ACCOUNT}:cfn-own-queue"}
    assert {"sqs:CreateQueue", "sqs:TagQueue", "sqs:GetQueueAttributes"} <= {
        d["action"] for d in aws.decisions(principal=principal, allowed=True)
    }


@pytest.mark.parametrize("missing", ["sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:ListQueueTags"])
def test_a_missing_grant_fails_the_deployment(aws: RunningAws, missing: str) -> None:
    name = f"cfn-{missing.partition(':')[2]}"
    deny = {"Effect": "Deny", "Action": missing, "Resource": "*"}
    failed = deploy(aws, f"{name}-stack", role(aws, name, allow("sqs:*"), deny), Queue=QUEUE)
    assert f"assumed-role/{name}/AWSCloudFormation is not authorized to perform: {missing} on resource" in failed


def test_a_grant_on_other_names_is_missing_too(aws: RunningAws) -> None:
    arn = role(aws, "cfn-others", allow("sqs:*", on=f"arn:aws:sqs:{REGION}:{ACCOUNT}:others-*"))
    assert "cfn-own-queue" in deploy(aws, "cfn-others-stack", arn, Queue=QUEUE)
    # Without a name of its own, the name begins with the stack's.
    assert deploy(aws, "others-stack", arn, Queue={"Type": "AWS::SQS::Queue"}) == ""


def test_a_role_needs_the_boundary_that_its_maker_is_bound_to(aws: RunningAws) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:SendMessage")]})
    aws.client("iam").create_policy(PolicyName="bound", PolicyDocument=document)
    bound = {"Condition": {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}}
    reads = allow("iam:Get*", "iam:List*", "iam:TagRole", "iam:UntagRole")
    writes = allow("iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary", "iam:DeleteRole", **bound)
    arn = role(aws, "cfn-bounded", reads, writes, allow("iam:DeleteRolePolicy"))
    made = {"RoleName": "cfn-made-role", "AssumeRolePolicyDocument": TRUST}
    unbounded = {"Type": "AWS::IAM::Role", "Properties": made}
    assert "iam:CreateRole" in deploy(aws, "cfn-unbounded-stack", arn, Role=unbounded)
    everything = {"Version": "2012-10-17", "Statement": [allow("*")]}
    policy = {
        "Type": "AWS::IAM::Policy",
        "Properties": {"PolicyName": "all", "PolicyDocument": everything, "Roles": [{"Ref": "Role"}]},
    }
    bounded = {"Type": "AWS::IAM::Role", "Properties": {**made, "PermissionsBoundary": BOUNDARY}}
    assert deploy(aws, "cfn-bounded-stack", arn, Role=bounded, Policy=policy) == ""
    kept = aws.client("iam").get_role(RoleName="cfn-made-role")["Role"]
    assert kept["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY


@pytest.mark.parametrize("state", ["AlarmActions", "OKActions", "InsufficientDataActions"])
def test_an_alarm_has_no_other_action_than_its_maker_may_give(aws: RunningAws, state: str) -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:cfn-topic"
    only = {"Condition": {"ForAllValues:StringLike": {"cloudwatch:AlarmActions": topic}}}
    others = allow("cloudwatch:Describe*", "cloudwatch:List*", "cloudwatch:Tag*", "cloudwatch:DeleteAlarms")
    arn = role(aws, f"cfn-{state}", allow("cloudwatch:PutMetricAlarm", **only), others)

    def made(stack: str, *actions: str) -> str:
        properties = {
            "AlarmName": f"cfn-{state}",
            "Namespace": "AWS/SQS",
            "MetricName": "NumberOfMessagesSent",
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            state: list(actions),
        }
        return deploy(aws, stack, arn, Alarm={"Type": "AWS::CloudWatch::Alarm", "Properties": properties})

    ends_an_instance = f"arn:aws:automate:{REGION}:ec2:terminate"
    assert "cloudwatch:PutMetricAlarm" in made(f"cfn-{state}-bad", topic, ends_an_instance)
    assert made(f"cfn-{state}-good", topic) == ""


def test_a_role_that_cloudformation_may_not_assume_is_refused(aws: RunningAws) -> None:
    arn = aws.role("cfn-not-mine", allow("*"), service="lambda")
    with pytest.raises(ClientError, match=r"Role \S+:role/cfn-not-mine is invalid or cannot be assumed"):
        deploy(aws, "cfn-not-mine-stack", arn, Queue=QUEUE)


def test_without_a_role_cloudformation_has_the_rights_of_its_caller(aws: RunningAws) -> None:
    allowed = allow("cloudformation:*", "sqs:Get*")
    session = aws.session(aws.role("cfn-caller", allowed))
    template = json.dumps({"Resources": {"Queue": QUEUE}})
    aws.client("cloudformation", session).create_stack(StackName="cfn-caller-stack", TemplateBody=template)
    assert ended(aws, "cfn-caller-stack")["StackStatus"] == "ROLLBACK_COMPLETE"
    events = aws.client("cloudformation").describe_stack_events(StackName="cfn-caller-stack")["StackEvents"]
    assert any("cfn-caller/test is not authorized to perform: sqs:CreateQueue" in str(e) for e in events)


@pytest.mark.parametrize(("given", "expected"), [("", "none"), ("a,b", "some")])
def test_a_condition_joins_a_list_as_the_bootstrap_of_the_cdk_asks_whether_it_is_empty(
    aws: RunningAws, given: str, expected: str
) -> None:
    name, client = f"joined-{expected}", aws.client("cloudformation")
    template = {
        "Parameters": {"Policies": {"Type": "CommaDelimitedList", "Default": ""}},
        "Conditions": {"Some": {"Fn::Not": [{"Fn::Equals": ["", {"Fn::Join": ["", {"Ref": "Policies"}]}]}]}},
        "Resources": {"Queue": QUEUE | {"Properties": {"QueueName": name}}},
        "Outputs": {"Policies": {"Value": {"Fn::If": ["Some", "some", "none"]}}},
    }
    client.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "Policies", "ParameterValue": given}],
    )
    (output,) = ended(aws, name)["Outputs"]
    client.delete_stack(StackName=name)
    assert output["OutputValue"] == expected
