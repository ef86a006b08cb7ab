"""A registered service: how it gets its calls, whom IAM lets call it, and the decisions in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from local_aws.ministack.decisions import RESOURCE_POLICY, evaluate
from tests.local_aws.conftest import ACCOUNT, REGION, eventually, start_script, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local_aws.conftest import RunningAws


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    """A gateway with the services of echo_service.py."""
    running = start_script(Path(__file__).with_name("echo_service.py"), tmp_path_factory.mktemp("echo"))
    yield running
    assert stop(running) == 0


def control(aws: RunningAws, path: str, body: dict[str, Any]) -> Any:
    """POST to a control path of echo_service.py. Return the answer."""
    request = Request(f"{aws.endpoint}/_tuneway/{path}", data=json.dumps(body).encode(), method="POST")
    with urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def test_a_registered_service_gets_its_calls(echo: RunningAws) -> None:
    answer = echo.client("sagemaker").describe_endpoint(EndpointName="e")
    assert json.loads(answer["FailureReason"]) == {
        "service": "sagemaker",
        "caller": f"arn:aws:iam::{ACCOUNT}:root",
        "account": ACCOUNT,
        "region": REGION,
        "body": {"EndpointName": "e"},
    }


def test_services_of_one_signing_name_are_distinguished_by_the_path(echo: RunningAws) -> None:
    answer = echo.client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"hello")
    assert answer["Body"].read() == b"/endpoints/e/invocations: hello"


def test_a_call_that_a_service_does_not_answer_goes_to_ministack(echo: RunningAws) -> None:
    names = [m["modelId"] for m in echo.client("bedrock").list_foundation_models()["modelSummaries"]]
    assert names


def test_an_unknown_control_path_is_not_found(echo: RunningAws) -> None:
    with pytest.raises(OSError, match="404"):
        control(echo, "nothing", {})


def test_the_tags_of_a_registered_service_decide(echo: RunningAws) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/tuneway:stack": "own"}}
    allow = {
        "Effect": "Allow",
        "Action": "sagemaker:DescribeEndpoint",
        "Resource": "*",
        "Condition": condition,
    }
    client = echo.client("sagemaker", echo.session(echo.role("by-tag", allow)))
    assert client.describe_endpoint(EndpointName="own")
    with pytest.raises(ClientError, match=r"sagemaker:DescribeEndpoint on resource: \S+:endpoint/other because"):
        client.describe_endpoint(EndpointName="other")
    # The log has the tags, so that a decision can be made again from its line alone.
    logged = echo.decisions(
        action="sagemaker:DescribeEndpoint", principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/by-tag/test"
    )
    assert [d["context"] for d in logged] == [{"aws:ResourceTag/tuneway:stack": tag} for tag in ("own", "other")]
    assert [evaluate([{"Statement": allow}], d) for d in logged] == [True, False]
    assert not any(evaluate([{"Statement": {**allow, "Effect": "Deny"}}], d) for d in logged)


def test_the_log_names_the_resource_policy_as_the_reason_of_its_denial(echo: RunningAws) -> None:
    arn = "arn:aws:s3:::closed"
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{arn}/*"}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"{arn}/late"}
    root, role = echo.client("s3"), echo.client("s3", echo.session(echo.role("late", allow)))
    root.create_bucket(Bucket="closed", CreateBucketConfiguration={"LocationConstraint": REGION})
    root.put_bucket_policy(Bucket="closed", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    role.put_object(Bucket="closed", Key="early", Body=b"")
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        role.put_object(Bucket="closed", Key="late", Body=b"")
    logged = echo.decisions(principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/late/test", action="s3:PutObject")
    assert [(d["allowed"], d.get("reason")) for d in logged] == [(True, None), (False, RESOURCE_POLICY)]


def test_role_session_evaluates_the_trust_policy(echo: RunningAws) -> None:
    condition = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/*"},
    }
    role = echo.role("guarded", service="bedrock", Condition=condition)
    job = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/abc"
    assert control(echo, "session", {"role": role, "service": "bedrock", "source": job})["key"].startswith("ASIA")
    for wrong in (
        {"role": role, "service": "bedrock", "source": job.replace(ACCOUNT, "111111111111")},
        {"role": role, "service": "bedrock", "source": ""},
        {"role": role, "service": "sagemaker", "source": job},
        {"role": f"{role}-missing", "service": "bedrock", "source": job},
    ):
        refused = control(echo, "session", wrong)["error"]
        assert refused == (
            f"User: {wrong['service']}.amazonaws.com is not authorized to perform: sts:AssumeRole "
            f"on resource: {wrong['role']}"
        )
    decisions = echo.decisions(action="sts:AssumeRole", principal="bedrock.amazonaws.com", resource=role)
    assert [d["allowed"] for d in decisions] == [True, False, False]


SAGEMAKER, STATES, EVENTS, SCHEDULER, BEDROCK = (
    f"arn:aws:{service}:{REGION}:{ACCOUNT}" for service in ("sagemaker", "states", "events", "scheduler", "bedrock")
)
OWN = {"aws:SourceAccount": ACCOUNT}
TRUSTS = {
    # Name -> service, source ARN and condition. AWS documents the conditions and the stack has them
    # (tests/infra/test_policies.py).
    "training": (
        "sagemaker",
        f"{SAGEMAKER}:training-job/a",
        {"ArnLike": {"aws:SourceArn": f"{SAGEMAKER}:training-job/*"}},
    ),
    "hosting": ("sagemaker", f"{SAGEMAKER}:*", {"ArnLike": {"aws:SourceArn": f"{SAGEMAKER}:*"}}),
    "bedrock": (
        "bedrock",
        f"{BEDROCK}:model-customization-job/a",
        {"StringEquals": OWN, "ArnEquals": {"aws:SourceArn": f"{BEDROCK}:model-customization-job/*"}},
    ),
    "states": (
        "states",
        f"{STATES}:stateMachine:a",
        {"StringEquals": OWN, "ArnLike": {"aws:SourceArn": f"{STATES}:stateMachine:*"}},
    ),
    "events": (
        "events",
        f"{EVENTS}:rule/a",
        {"StringEquals": OWN, "ArnLike": {"aws:SourceArn": f"{EVENTS}:rule/a"}},
    ),
    "scheduler": (
        "scheduler",
        f"{SCHEDULER}:schedule-group/default",
        {"StringEquals": OWN | {"aws:SourceArn": f"{SCHEDULER}:schedule-group/default"}},
    ),
}


@pytest.mark.parametrize("name", TRUSTS)
def test_the_documented_conditions_keep_out_the_resources_of_another_account(echo: RunningAws, name: str) -> None:
    service, source, condition = TRUSTS[name]
    open_role = echo.role(f"{name}-open", service=service)
    guarded = echo.role(f"{name}-guarded", service=service, Condition=condition)
    answers = [
        set(control(echo, "session", {"role": role, "service": service, "source": arn}))
        for role in (open_role, guarded)
        for arn in (source, source.replace(ACCOUNT, "111111111111"))
    ]
    assert answers == [{"key"}, {"key"}, {"key"}, {"error"}]


@pytest.mark.parametrize(
    ("service", "source", "condition"),
    [
        ("sagemaker", f"{SAGEMAKER}:training-job/a", {"StringEquals": OWN}),
        ("lambda", "", {"StringEquals": OWN}),
        ("lambda", "", {"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:*"}}),
    ],
)
def test_a_trust_with_a_key_that_the_service_does_not_document_is_never_met(
    echo: RunningAws, service: str, source: str, condition: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    role = echo.role(f"{service}-{request.node.callspec.id[-10:]}", service=service, Condition=condition)
    assert "error" in control(echo, "session", {"role": role, "service": service, "source": source})


def test_authorize_evaluates_the_policies_and_logs_its_decision(echo: RunningAws) -> None:
    condition = {"StringEquals": {"s3:prefix": "runs/"}}
    allow = {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::b",
        "Condition": condition,
    }
    role = echo.role("checked", allow, service="sagemaker")
    query = {
        "role": role,
        "action": "s3:ListBucket",
        "resource": "arn:aws:s3:::b",
        "context": {"s3:prefix": "runs/"},
    }
    assert control(echo, "authorize", query) == {"allowed": True}
    refused = control(echo, "authorize", query | {"context": {"s3:prefix": "uploads/"}})["error"]
    assert refused.startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/checked/")
    assert refused.endswith("because no identity-based policy allows the s3:ListBucket action")
    assert "checked-missing" in control(echo, "authorize", query | {"role": f"{role}-missing"})["error"]
    logged = eventually(lambda: echo.decisions(action="s3:ListBucket", resource="arn:aws:s3:::b"))
    assert [(d["allowed"], d["context"]) for d in logged[:2]] == [
        (True, {"s3:prefix": "runs/"}),
        (False, {"s3:prefix": "uploads/"}),
    ]


def test_an_operation_that_neither_a_service_nor_ministack_has_is_refused_with_its_name(aws: RunningAws) -> None:
    with pytest.raises(ClientError, match=r"local AWS does not have SageMaker\.ListApps of sagemaker") as refused:
        aws.client("sagemaker").list_apps()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
