"""IAM of local AWS checks the actions, resources and condition keys that AWS documents, and logs each decision."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local_aws.core.authorization import ApiCall, Check, passed_roles, resource_checks
from tests.local_aws.conftest import ACCOUNT, IMPORT_BOTO3, REGION, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

SAGEMAKER = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/job"


def api_call(service: str, body: dict[str, Any] | None = None, path: str = "/", **query: str) -> ApiCall:
    payload = json.dumps(body).encode() if body is not None else b""
    return ApiCall(service, path, {name: [value] for name, value in query.items()}, payload, REGION, ACCOUNT)


@pytest.mark.parametrize(
    ("call", "action", "expected"),
    [
        (
            api_call("sagemaker", {"TrainingJobName": "Job-1"}),
            "sagemaker:CreateTrainingJob",
            [("sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/Job-1")],
        ),
        (
            api_call(
                "sagemaker",
                {"EndpointName": "E", "EndpointConfigName": "C", "Tags": [{"Key": "k", "Value": "v"}]},
            ),
            "sagemaker:CreateEndpoint",
            [
                ("sagemaker:CreateEndpoint", f"{SAGEMAKER}:endpoint/e"),
                ("sagemaker:CreateEndpoint", f"{SAGEMAKER}:endpoint-config/c"),
                ("sagemaker:AddTags", f"{SAGEMAKER}:endpoint/e"),
            ],
        ),
        (
            api_call("sagemaker", {"EndpointConfigName": "c"}),
            "sagemaker:DeleteEndpointConfig",
            [("sagemaker:DeleteEndpointConfig", f"{SAGEMAKER}:endpoint-config/c")],
        ),
        (
            api_call("sagemaker", {"ResourceArn": f"{SAGEMAKER}:model/m"}),
            "sagemaker:ListTags",
            [("sagemaker:ListTags", f"{SAGEMAKER}:model/m")],
        ),
        (api_call("sagemaker", {"NameContains": "x"}), "sagemaker:ListModels", [("sagemaker:ListModels", "*")]),
        (
            api_call("sagemaker-runtime", path="/endpoints/tune/invocations"),
            "sagemaker:InvokeEndpoint",
            [("sagemaker:InvokeEndpoint", f"{SAGEMAKER}:endpoint/tune")],
        ),
        (
            api_call("scheduler", {"GroupName": "g"}, path="/schedules/s"),
            "scheduler:CreateSchedule",
            [("scheduler:CreateSchedule", f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/g/s")],
        ),
        (
            api_call("servicequotas", {"ServiceCode": "sagemaker", "QuotaCode": "L-1"}),
            "servicequotas:GetServiceQuota",
            [("servicequotas:GetServiceQuota", "*")],
        ),
        (
            api_call("lambda", path="/2015-03-31/functions/plan/invocations", Qualifier="3"),
            "lambda:InvokeFunction",
            [("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:plan:3")],
        ),
        (
            api_call("monitoring", {"DashboardName": "d"}),
            "cloudwatch:GetDashboard",
            [("cloudwatch:GetDashboard", f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/d")],
        ),
        (
            api_call("monitoring", {"AlarmNames": ["a"]}),
            "cloudwatch:DescribeAlarms",
            [("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*")],
        ),
    ],
)
def test_a_call_is_checked_on_its_documented_resources(
    call: ApiCall, action: str, expected: list[tuple[str, str]]
) -> None:
    checks = resource_checks(call, action)
    assert checks is not None
    assert [(check.action, check.resource) for check in checks] == expected


@pytest.mark.parametrize(
    ("call", "action", "service"),
    [
        (api_call("sagemaker", {"RoleArn": ROLE}), "sagemaker:CreateTrainingJob", "sagemaker"),
        (api_call("sagemaker", {"ExecutionRoleArn": ROLE}), "sagemaker:CreateModel", "sagemaker"),
        (api_call("bedrock", {"roleArn": ROLE}), "bedrock:CreateModelCustomizationJob", "bedrock"),
        (api_call("lambda", {"Role": ROLE}), "lambda:CreateFunction", "lambda"),
        (api_call("states", {"roleArn": ROLE}), "states:UpdateStateMachine", "states"),
        (api_call("scheduler", {"Target": {"RoleArn": ROLE}}), "scheduler:CreateSchedule", "scheduler"),
        (api_call("cloudformation", RoleARN=ROLE), "cloudformation:CreateChangeSet", "cloudformation"),
    ],
)
def test_the_role_of_a_call_is_checked_for_pass_role(call: ApiCall, action: str, service: str) -> None:
    keys = {"iam:PassedToService": f"{service}.amazonaws.com"}
    assert passed_roles(call, action) == [Check("iam:PassRole", ROLE, keys)]


def test_a_call_without_a_role_passes_none() -> None:
    assert passed_roles(api_call("sagemaker", {"TrainingJobName": "j"}), "sagemaker:StopTrainingJob") == []
    assert passed_roles(api_call("states", {"definition": "{}"}), "states:UpdateStateMachine") == []


@pytest.mark.parametrize(("passed_to", "allowed"), [("states", True), ("sagemaker", False)])
def test_pass_role_is_allowed_for_the_granted_service_alone(aws: RunningAws, passed_to: str, allowed: bool) -> None:
    machine_role = aws.role(f"machine-of-{passed_to}", service="states")
    create = {"Effect": "Allow", "Action": "states:CreateStateMachine", "Resource": "*"}
    condition = {"StringEquals": {"iam:PassedToService": f"{passed_to}.amazonaws.com"}}
    pass_role = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": machine_role, "Condition": condition}
    deployer = aws.role(f"passes-to-{passed_to}", create, pass_role)
    states = aws.client("stepfunctions", aws.session(deployer))
    definition = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    arguments = {"name": f"passed-to-{passed_to}", "definition": definition, "roleArn": machine_role}
    if allowed:
        assert states.create_state_machine(**arguments)["stateMachineArn"]
    else:
        message = (
            rf"User: arn:aws:sts::{ACCOUNT}:assumed-role/passes-to-{passed_to}/test is not authorized to perform: "
            rf"iam:PassRole on resource: {machine_role} because no identity-based policy allows the iam:PassRole action"
        )
        with pytest.raises(ClientError, match=message):
            states.create_state_machine(**arguments)
    [decision] = aws.decisions(action="iam:PassRole", resource=machine_role)
    assert decision["allowed"] is allowed
    assert decision["context"]["iam:PassedToService"] == "states.amazonaws.com"


def test_decisions_of_sessions_and_root_are_logged(aws: RunningAws) -> None:
    s3 = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::logged"}
    session = aws.session(aws.role("logged-role", s3))
    aws.client("s3").create_bucket(Bucket="logged", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.client("s3", session).list_objects_v2(Bucket="logged")
    with pytest.raises(ClientError, match='s3:GetObject on resource: "arn:aws:s3:::logged/key" because no identity'):
        aws.client("s3", session).get_object(Bucket="logged", Key="key")
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/logged-role/test"
    logged = {d["action"]: d for d in aws.decisions(principal=principal)}
    assert logged["s3:ListBucket"]["allowed"] is True
    assert logged["s3:GetObject"]["allowed"] is False
    assert logged["s3:GetObject"]["resource"] == "arn:aws:s3:::logged/key"
    assert abs(logged["s3:GetObject"]["time"] - time.time()) < 60
    assert aws.decisions(principal=f"arn:aws:iam::{ACCOUNT}:root", action="s3:CreateBucket")


@pytest.mark.parametrize(
    ("name", "condition", "code"),
    [("nothing", None, "403"), ("prefix", {"StringLike": {"s3:prefix": "*"}}, "403"), ("everything", {}, "404")],
)
def test_a_missing_object_is_denied_to_a_role_that_may_not_list_the_bucket(
    aws: RunningAws, name: str, condition: dict[str, Any] | None, code: str
) -> None:
    bucket, root = f"lists-{name}", aws.client("s3")
    root.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    root.put_object(Bucket=bucket, Key="there", Body=b"1")
    grants = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}]
    if condition is not None:
        list_bucket = {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}", "Condition": condition}
        grants.append({"Effect": "Allow", **list_bucket})
    s3 = aws.client("s3", aws.session(aws.role(f"{bucket}-role", *grants)))
    assert s3.get_object(Bucket=bucket, Key="there")["Body"].read() == b"1"
    message = f'not authorized to perform: s3:ListBucket on resource: "arn:aws:s3:::{bucket}" because no identity-based'
    with pytest.raises(ClientError, match="NoSuchKey" if code == "404" else message):
        s3.get_object(Bucket=bucket, Key="missing")
    with pytest.raises(ClientError, match=rf"\({code}\) when calling the HeadObject"):
        s3.head_object(Bucket=bucket, Key="missing")


def test_loopback_counts_as_secure_transport(aws: RunningAws) -> None:
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    insecure = {"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition}
    read = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
    session = aws.session(aws.role("secure-only", read, insecure))
    assert "Buckets" in aws.client("s3", session).list_buckets()


def test_a_session_ends_with_its_role(aws: RunningAws) -> None:
    session = aws.session(aws.role("short-lived"))
    aws.client("iam").delete_role(RoleName="short-lived")
    with pytest.raises(ClientError, match=r"InvalidClientTokenId|InvalidAccessKeyId|UnrecognizedClient"):
        aws.client("lambda", session).list_functions()
    assert not aws.decisions(principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/short-lived/test")


def test_a_rule_needs_the_permission_of_the_function(aws: RunningAws) -> None:
    aws.client("s3").create_bucket(Bucket="ruled", CreateBucketConfiguration={"LocationConstraint": REGION})
    write = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::ruled/*"}
    source = "def handler(e, c): boto3.client('s3').put_object(Bucket='ruled', Key=e['source'], Body=b'')\n"
    aws.function("ruled", IMPORT_BOTO3 + source, aws.role("ruled-role", write))
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ruled"
    events = aws.client("events")
    rule = events.put_rule(Name="ruled", EventPattern='{"source": ["first", "second"]}')["RuleArn"]
    events.put_targets(Rule="ruled", Targets=[{"Id": "1", "Arn": function}])

    def keys(source: str) -> list[str]:
        events.put_events(Entries=[{"Source": source, "DetailType": "t", "Detail": "{}"}])
        eventually(
            lambda: aws.decisions(principal="events.amazonaws.com", resource=function, allowed=source == "second")
        )
        # The denied call is in the log already, so a function that ran all the same would have written by then.
        wait = 20 if source == "second" else 0.5
        stored = eventually(lambda: aws.client("s3").list_objects_v2(Bucket="ruled").get("Contents"), wait)
        return [entry["Key"] for entry in stored or []]

    assert keys("first") == []
    permission = {"Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com", "SourceArn": rule}
    aws.client("lambda").add_permission(FunctionName="ruled", StatementId="rule", **permission)
    assert keys("second") == ["second"]


def test_a_rule_starts_a_machine_under_a_role_that_trusts_the_rule_alone(aws: RunningAws) -> None:
    events, states = aws.client("events"), aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    machine = states.create_state_machine(
        name="by-rule", definition=definition, roleArn=aws.role("by-rule-machine", service="states")
    )["stateMachineArn"]
    start = {"Effect": "Allow", "Action": "states:StartExecution", "Resource": machine}
    for name in ("own", "other"):
        rule = events.put_rule(Name=f"starts-{name}", EventPattern=json.dumps({"source": [name]}))["RuleArn"]
        condition = {
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
            "ArnLike": {"aws:SourceArn": rule.replace(name, "own")},
        }
        starter = aws.role(f"starter-{name}", start, service="events", Condition=condition)
        events.put_targets(Rule=f"starts-{name}", Targets=[{"Id": "1", "Arn": machine, "RoleArn": starter}])
        events.put_events(Entries=[{"Source": name, "DetailType": "t", "Detail": "{}"}])
        assumed = eventually(lambda role=starter: aws.decisions(action="sts:AssumeRole", resource=role))
        assert [d["allowed"] for d in assumed] == [name == "own"]
        assert assumed[0]["context"] == {"aws:sourcearn": rule, "aws:sourceaccount": ACCOUNT}
    failed = aws.client("cloudwatch").list_metrics(Namespace="AWS/Events", MetricName="FailedInvocations")["Metrics"]
    assert [metric["Dimensions"] for metric in failed] == [[{"Name": "RuleName", "Value": "starts-other"}]]


@pytest.mark.parametrize("leftover", ["object", "version", "delete marker"])
def test_a_bucket_that_is_not_empty_stays(aws: RunningAws, leftover: str) -> None:
    name = f"full-{leftover.replace(' ', '-')}"
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}}
    if leftover != "object":
        bucket["Properties"]["VersioningConfiguration"] = {"Status": "Enabled"}  # type: ignore[index]
    cloudformation, s3 = aws.client("cloudformation"), aws.client("s3")
    # The bucket depends on the topic, so the topic has to stay with it.
    bucket["DependsOn"] = "Topic"
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": name}}
    template = {"Resources": {"Bucket": bucket, "Topic": topic}}
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    assert eventually(lambda: _has_status(cloudformation, name, "CREATE_COMPLETE"))
    put = s3.put_object(Bucket=name, Key="key", Body=b"x")
    if leftover != "object":
        s3.delete_object(Bucket=name, Key="key")
    if leftover == "delete marker":
        s3.delete_object(Bucket=name, Key="key", VersionId=put["VersionId"])

    with pytest.raises(ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket=name)
    cloudformation.delete_stack(StackName=name)
    assert eventually(lambda: _has_status(cloudformation, name, "DELETE_FAILED"))
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert any("bucket you tried to delete is not empty" in e.get("ResourceStatusReason", "") for e in events)
    assert _topic_is_there(aws, name)

    for kind in ("Versions", "DeleteMarkers"):
        for version in s3.list_object_versions(Bucket=name).get(kind, []):
            s3.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
    cloudformation.delete_stack(StackName=name)
    assert eventually(lambda: name not in [b["Name"] for b in s3.list_buckets()["Buckets"]])
    assert eventually(lambda: not _topic_is_there(aws, name))


def _topic_is_there(aws: RunningAws, name: str) -> bool:
    return any(topic["TopicArn"].endswith(f":{name}") for topic in aws.client("sns").list_topics()["Topics"])


def _has_status(cloudformation: Any, stack: str, status: str) -> bool:
    return bool(cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == status)
