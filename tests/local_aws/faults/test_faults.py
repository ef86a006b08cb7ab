"""The list of faults, and faults of API calls: the error that a client gets, and how often it gets it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from local_aws.core import faults, registry
from tests.local_aws.conftest import ACCOUNT, REGION, RunningAws, failure
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
STATES = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:none"


# The list


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{}", "faults are a JSON list"),
        ("[", "Expecting value"),
        ('["error"]', "a fault needs a kind, one of error, deny, lost, no-endpoint, function"),
        ('[{"kind": ["error"]}]', "a fault needs a kind"),
        ('[{"kind": "flood"}]', "a fault needs a kind"),
        ('[{"kind": "deny"}]', "lacks action"),
        ('[{"kind": "deny", "action": "s3:GetObject", "code": "x"}]', "does not know code"),
        ('[{"kind": "lost", "action": "s3:GetObject", "status": 503}]', "does not know status"),
        ('[{"kind": "no-endpoint"}]', "lacks service"),
        ('[{"kind": "training", "how": "crash"}]', "how is one of fail, capacity, stop, max-runtime"),
        ('[{"kind": "training", "how": "fail", "times": 0}]', "times is a number from 1 on"),
        ('[{"kind": "training", "how": "kill", "after": -1}]', "after is a number from 0 on"),
        ('[{"kind": "training", "how": "reclaim", "after": "1"}]', "after is a number from 0 on"),
        (
            '[{"kind": "training", "how": "fail", "after": 1}]',
            "after is a number from 0 on, with how stop, kill, reclaim",
        ),
        ('[{"kind": "endpoint", "how": "fail", "after": 1}]', "does not know after"),
        ('[{"kind": "training", "how": "slow", "instance_type": "g5"}]', "instance_type goes with how capacity"),
        ('[{"kind": "endpoint", "how": "capacity", "instance_type": 5}]', "instance_type is a text"),
        ('[{"kind": "error", "action": "s3:GetObject", "code": "x", "status": 200}]', "from 400 to 599"),
        ('[{"kind": "error", "action": "s3:GetObject", "code": 1}]', "code is a text"),
        ('[{"kind": "function", "how": "crash", "function": "("}]', "function is not a regular expression"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line_and_changes_nothing(aws: RunningAws, body: str, text: str) -> None:
    assert set_faults(aws, {"kind": "training", "how": "stop"}) == [{"kind": "training", "how": "stop", "fired": 0}]
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{aws.endpoint}/_tuneway/faults", body.encode(), method="POST"))
    message = refused.value.read().decode()
    assert (refused.value.code, message.count("\n"), text in message) == (400, 1, True), message
    assert fired_counts(aws) == [0]


def request(method: str, items: Any = None) -> bytes:
    """Send a request to the control path, without a server. Return the answer's body."""
    body = json.dumps(items).encode()
    answer = faults.control(registry.Request(method, "", {}, {}, body, ACCOUNT, REGION, "")).body
    assert isinstance(answer, bytes)
    return answer


def test_the_first_fault_that_fits_is_taken_and_the_counts_are_exact_with_many_callers() -> None:
    assert request("POST", [{"kind": "training", "how": "fail", "times": 50}, {"kind": "training", "how": "stop"}])
    try:
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda _: faults.take("training").how, range(200)))
        assert (taken.count("fail"), taken.count("stop")) == (50, 150)
        assert [fault["fired"] for fault in json.loads(request("GET"))] == [50, 150]
        assert not faults.take("training", "capacity")
        assert not faults.take("endpoint")
        request("POST", [{"kind": "training", "how": "kill"}, {"kind": "training", "how": "stop", "after": 3}])
        assert [faults.take("training", "stop", checkpoints=number).how for number in (0, 2, 3)] == ["", "", "stop"]
        assert [faults.take("training", checkpoints=number).how for number in (0, 1, 3)] == ["", "kill", "kill"]
    finally:
        request("POST", [])
    assert not faults.take("training")


# Calls


@pytest.mark.parametrize(
    ("service", "operation", "params", "action"),
    [
        ("sagemaker", "describe_training_job", {"TrainingJobName": "none"}, "sagemaker:DescribeTrainingJob"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "none", "Body": b""}, "sagemaker:InvokeEndpoint"),
        ("stepfunctions", "start_execution", {"stateMachineArn": STATES}, "states:StartExecution"),
        ("logs", "describe_log_groups", {}, "logs:DescribeLogGroups"),
        ("service-quotas", "list_service_quotas", {"ServiceCode": "sagemaker"}, "servicequotas:ListServiceQuotas"),
        ("bedrock", "list_model_customization_jobs", {}, "bedrock:ListModelCustomizationJobs"),
        ("lambda", "invoke", {"FunctionName": "none"}, "lambda:InvokeFunction"),
        ("scheduler", "list_schedules", {}, "scheduler:ListSchedules"),
        ("s3", "get_object", {"Bucket": "faults", "Key": "none"}, "s3:GetObject"),
        ("sts", "get_caller_identity", {}, "sts:GetCallerIdentity"),
        ("sns", "list_topics", {}, "sns:ListTopics"),
        ("cloudformation", "describe_stacks", {}, "cloudformation:DescribeStacks"),
        ("iam", "list_roles", {}, "iam:ListRoles"),
        ("cloudwatch", "list_metrics", {}, "cloudwatch:ListMetrics"),
    ],
)
def test_an_error_has_the_form_of_the_services_protocol(
    aws: RunningAws, service: str, operation: str, params: dict[str, Any], action: str
) -> None:
    fault = {"kind": "error", "action": action, "code": "SlowDown", "message": "Slow <down> & wait", "status": 503}
    set_faults(aws, fault)
    call = getattr(aws.client(service), operation)
    assert failure(call, **params) == ("SlowDown", "Slow <down> & wait", 503)
    assert fired_counts(aws) == [1]


def test_an_error_ends_after_its_times_and_does_not_reach_the_service(aws: RunningAws) -> None:
    s3 = aws.client("s3")
    set_faults(aws, {"kind": "error", "action": "s3:PutObject", "code": "SlowDown", "times": 2, "status": 503})
    put = {"Bucket": "faults", "Key": "k", "Body": b"v"}
    assert [failure(s3.put_object, **put) for _ in range(2)] == [("SlowDown", "SlowDown", 503)] * 2
    assert s3.list_objects_v2(Bucket="faults")["KeyCount"] == 0
    s3.put_object(**put)
    assert fired_counts(aws) == [2]


def test_a_lost_answer_is_an_error_after_the_call_has_worked_and_a_refused_call_is_not_counted(
    aws: RunningAws,
) -> None:
    s3 = aws.client("s3")
    set_faults(aws, {"kind": "lost", "action": "s3:PutObject", "resource": "lost-key", "times": 1})
    assert failure(s3.put_object, Bucket="none", Key="lost-key", Body=b"v")[0] == "NoSuchBucket"
    assert fired_counts(aws) == [0]
    lost = failure(s3.put_object, Bucket="faults", Key="lost-key", Body=b"v")
    assert lost == ("InternalFailure", "The answer was lost.", 500)
    assert s3.get_object(Bucket="faults", Key="lost-key")["Body"].read() == b"v"
    s3.put_object(Bucket="faults", Key="lost-key", Body=b"w")
    s3.delete_object(Bucket="faults", Key="lost-key")
    assert fired_counts(aws) == [1]


def test_two_callers_share_one_count(aws: RunningAws) -> None:
    fault = {"kind": "error", "action": "sagemaker:ListModels", "code": "ThrottlingException", "times": 7}
    set_faults(aws, {**fault, "message": "Rate exceeded"})

    def call(_number: int) -> str:
        try:
            aws.client("sagemaker").list_models()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "fine"

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(call, range(20)))
    assert (answers.count("ThrottlingException"), answers.count("fine")) == (7, 13)
    assert fired_counts(aws) == [7]


def test_principal_and_resource_choose_the_calls_and_wrong_credentials_are_refused_first(aws: RunningAws) -> None:
    allow = {"Effect": "Allow", "Action": "sagemaker:DescribeModel", "Resource": "*"}
    session = aws.session(aws.role("describer", allow))
    describer, root = aws.client("sagemaker", session), aws.client("sagemaker")
    fault = {"kind": "error", "action": "sagemaker:DescribeModel", "code": "InternalFailure", "status": 500}
    set_faults(aws, {**fault, "principal": ":assumed-role/describer/", "resource": "model/chosen"})
    missing = "ValidationException"
    assert failure(describer.describe_model, ModelName="chosen")[::2] == ("InternalFailure", 500)
    assert failure(describer.describe_model, ModelName="another")[0] == missing
    assert failure(root.describe_model, ModelName="chosen")[0] == missing
    set_faults(aws, {**fault, "resource": '"ModelName": ?"by-body"'})
    assert failure(root.describe_model, ModelName="by-body")[0] == "InternalFailure"
    assert failure(root.describe_model, ModelName="chosen")[0] == missing
    unknown = aws.client("sagemaker", {**session, "AccessKeyId": "ASIA0000000000000000"})
    assert failure(unknown.describe_model, ModelName="by-body")[0] == "UnrecognizedClientException"
    assert fired_counts(aws) == [1]


def test_a_new_list_replaces_the_one_before(aws: RunningAws) -> None:
    set_faults(aws, {"kind": "error", "action": "sagemaker:ListModels", "code": "InternalFailure", "status": 500})
    assert failure(aws.client("sagemaker").list_models)[0] == "InternalFailure"
    assert set_faults(aws) == []
    assert aws.client("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize(
    ("service", "operation", "params", "action", "code"),
    [
        ("sagemaker", "describe_model", {"ModelName": "m"}, "sagemaker:DescribeModel", "AccessDeniedException"),
        ("s3", "get_object", {"Bucket": "faults", "Key": "none"}, "s3:GetObject", "AccessDenied"),
        ("lambda", "invoke", {"FunctionName": "none"}, "lambda:InvokeFunction", "AccessDeniedException"),
    ],
)
def test_an_injected_denial_has_iams_message_and_is_marked_in_the_log(
    aws: RunningAws, service: str, operation: str, params: dict[str, Any], action: str, code: str
) -> None:
    allow = {"Effect": "Allow", "Action": action, "Resource": "*"}
    granted, without = f"granted-{service}", f"without-{service}"
    clients = [aws.client(service, aws.session(role)) for role in (aws.role(granted, allow), aws.role(without))]
    set_faults(aws, {"kind": "deny", "action": action, "principal": "granted-", "times": 1})
    injected, real = [failure(getattr(client, operation), **params) for client in clients]
    assert real[::2] == injected[::2] == (code, 403)
    assert injected[1] == real[1].replace(without, granted)
    assert f"assumed-role/{granted}/test is not authorized to perform: {action} on resource: " in injected[1]
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/{granted}/test"
    assert [(d["allowed"], d["injected"]) for d in aws.decisions(principal=principal, action=action)] == [(True, True)]
    assert not any(d.get("injected") for d in aws.decisions(allowed=False))
    assert fired_counts(aws) == [1]


def test_pass_role_of_a_call_and_the_calls_of_a_service_itself_can_be_denied(aws: RunningAws, job_role: str) -> None:
    create, params = aws.client("sagemaker").create_training_job, training.request("denied", job_role)
    set_faults(aws, {"kind": "deny", "action": "iam:PassRole", "resource": job_role})
    assert failure(create, **params)[:2] == (
        "AccessDeniedException",
        f"User: {ROOT_ARN} is not authorized to perform: iam:PassRole on resource: {job_role} because no "
        "identity-based policy allows the iam:PassRole action",
    )
    set_faults(aws, {"kind": "deny", "action": "sts:AssumeRole", "principal": "sagemaker", "times": 1})
    assert failure(create, **params)[1].startswith(f"Could not assume role {job_role}.")
    assert fired_counts(aws) == [1]
    set_faults(aws, {"kind": "deny", "action": "cloudwatch:PutMetricData", "principal": "training"})
    assert training.run(aws, "denied", job_role)["FailureReason"].startswith("ClientError: Could not publish metrics")


def test_a_star_makes_every_call_of_one_service_fail_and_of_no_other(aws: RunningAws) -> None:
    bedrock = aws.client("bedrock")
    set_faults(aws, {"kind": "error", "action": "bedrock:*", "code": "UnknownOperationException", "status": 404})
    for call in (bedrock.list_custom_models, bedrock.list_model_customization_jobs, bedrock.list_imported_models):
        assert failure(call)[::2] == ("UnknownOperationException", 404)
    assert aws.client("sagemaker").list_models()["Models"] == []
    set_faults(aws, {"kind": "deny", "action": "bedrock:*"})
    assert failure(bedrock.list_custom_models)[0] == "AccessDeniedException"
    assert aws.client("sagemaker").list_models()["Models"] == []
