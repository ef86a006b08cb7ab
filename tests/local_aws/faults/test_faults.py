"""The list of faults, and faults of calls: what a client sees of each kind, and how often."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from local_aws.core import faults, registry
from tests.local_aws.conftest import ACCOUNT, REGION, RunningAws
from tests.local_aws.faults.conftest import failure, fired, post
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
STATES = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:none"


# -- the list


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
def test_what_is_not_understood_is_refused_in_one_line_and_changes_nothing(
    aws: RunningAws, body: str, text: str
) -> None:
    assert post(aws, {"kind": "training", "how": "stop"}) == [{"kind": "training", "how": "stop", "fired": 0}]
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{aws.endpoint}/_tuneway/faults", body.encode(), method="POST"))
    said = refused.value.read().decode()
    assert (refused.value.code, said.count("\n"), text in said) == (400, 1, True), said
    assert fired(aws) == [0]


def ask(method: str, faults_wanted: Any = None) -> bytes:
    body = json.dumps(faults_wanted).encode()
    answer = faults.control(registry.Request(method, "", {}, {}, body, ACCOUNT, REGION, "")).body
    assert isinstance(answer, bytes)
    return answer


def test_the_first_that_fits_is_taken_and_counts_are_exact_with_many_callers() -> None:
    assert ask("POST", [{"kind": "training", "how": "fail", "times": 50}, {"kind": "training", "how": "stop"}])
    try:
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda _: faults.take("training").how, range(200)))
        assert (taken.count("fail"), taken.count("stop")) == (50, 150)
        assert [fault["fired"] for fault in json.loads(ask("GET"))] == [50, 150]
        assert not faults.take("training", "capacity")
        assert not faults.take("endpoint")
        ask("POST", [{"kind": "training", "how": "kill"}, {"kind": "training", "how": "stop", "after": 3}])
        assert [faults.take("training", "stop", checkpoints=number).how for number in (0, 2, 3)] == ["", "", "stop"]
        assert [faults.take("training", checkpoints=number).how for number in (0, 1, 3)] == ["", "kill", "kill"]
    finally:
        ask("POST", [])
    assert not faults.take("training")


# -- calls


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
def test_an_error_reaches_the_client_in_the_service_s_protocol(
    aws: RunningAws, service: str, operation: str, params: dict[str, Any], action: str
) -> None:
    fault = {"kind": "error", "action": action, "code": "SlowDown", "message": "Slow <down> & wait", "status": 503}
    post(aws, fault)
    call = getattr(aws.client(service), operation)
    assert failure(call, **params) == ("SlowDown", "Slow <down> & wait", 503)
    assert fired(aws) == [1]


def test_an_error_ends_after_its_times_and_the_service_sees_nothing_before(aws: RunningAws) -> None:
    s3 = aws.client("s3")
    post(aws, {"kind": "error", "action": "s3:PutObject", "code": "SlowDown", "times": 2, "status": 503})
    put = {"Bucket": "faults", "Key": "k", "Body": b"v"}
    assert [failure(s3.put_object, **put) for _ in range(2)] == [("SlowDown", "SlowDown", 503)] * 2
    assert s3.list_objects_v2(Bucket="faults")["KeyCount"] == 0
    s3.put_object(**put)
    assert fired(aws) == [2]


def test_a_lost_answer_is_an_error_after_the_service_has_obeyed_and_a_refusal_is_no_answer_to_lose(
    aws: RunningAws,
) -> None:
    s3 = aws.client("s3")
    post(aws, {"kind": "lost", "action": "s3:PutObject", "resource": "lost-key", "times": 1})
    assert failure(s3.put_object, Bucket="none", Key="lost-key", Body=b"v")[0] == "NoSuchBucket"
    assert fired(aws) == [0]
    lost = failure(s3.put_object, Bucket="faults", Key="lost-key", Body=b"v")
    assert lost == ("InternalFailure", "The answer was lost.", 500)
    assert s3.get_object(Bucket="faults", Key="lost-key")["Body"].read() == b"v"
    s3.put_object(Bucket="faults", Key="lost-key", Body=b"w")
    s3.delete_object(Bucket="faults", Key="lost-key")
    assert fired(aws) == [1]


def test_two_callers_share_the_count(aws: RunningAws) -> None:
    fault = {"kind": "error", "action": "sagemaker:ListModels", "code": "ThrottlingException", "times": 7}
    post(aws, {**fault, "message": "Rate exceeded"})

    def call(_number: int) -> str:
        try:
            aws.client("sagemaker").list_models()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "fine"

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(call, range(20)))
    assert (answers.count("ThrottlingException"), answers.count("fine")) == (7, 13)
    assert fired(aws) == [7]


def test_principal_and_resource_choose_the_call_and_a_stranger_is_told_so_first(aws: RunningAws) -> None:
    allow = {"Effect": "Allow", "Action": "sagemaker:DescribeModel", "Resource": "*"}
    session = aws.session(aws.role("describer", allow))
    mine, other = aws.client("sagemaker", session), aws.client("sagemaker")
    fault = {"kind": "error", "action": "sagemaker:DescribeModel", "code": "InternalFailure", "status": 500}
    post(aws, {**fault, "principal": ":assumed-role/describer/", "resource": "model/chosen"})
    missing = "ValidationException"
    assert failure(mine.describe_model, ModelName="chosen")[::2] == ("InternalFailure", 500)
    assert failure(mine.describe_model, ModelName="another")[0] == missing
    assert failure(other.describe_model, ModelName="chosen")[0] == missing
    post(aws, {**fault, "resource": '"ModelName": ?"by-body"'})
    assert failure(other.describe_model, ModelName="by-body")[0] == "InternalFailure"
    assert failure(other.describe_model, ModelName="chosen")[0] == missing
    stranger = aws.client("sagemaker", {**session, "AccessKeyId": "ASIA0000000000000000"})
    assert failure(stranger.describe_model, ModelName="by-body")[0] == "UnrecognizedClientException"
    assert fired(aws) == [1]


def test_another_list_clears_the_one_before(aws: RunningAws) -> None:
    post(aws, {"kind": "error", "action": "sagemaker:ListModels", "code": "InternalFailure", "status": 500})
    assert failure(aws.client("sagemaker").list_models)[0] == "InternalFailure"
    assert post(aws) == []
    assert aws.client("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize(
    ("service", "operation", "params", "action", "code"),
    [
        ("sagemaker", "describe_model", {"ModelName": "m"}, "sagemaker:DescribeModel", "AccessDeniedException"),
        ("s3", "get_object", {"Bucket": "faults", "Key": "none"}, "s3:GetObject", "AccessDenied"),
        ("lambda", "invoke", {"FunctionName": "none"}, "lambda:InvokeFunction", "AccessDeniedException"),
    ],
)
def test_a_denial_is_iam_s_own_and_is_marked_in_the_log(
    aws: RunningAws, service: str, operation: str, params: dict[str, Any], action: str, code: str
) -> None:
    allow = {"Effect": "Allow", "Action": action, "Resource": "*"}
    able, unable = f"able-{service}", f"unable-{service}"
    clients = [aws.client(service, aws.session(role)) for role in (aws.role(able, allow), aws.role(unable))]
    post(aws, {"kind": "deny", "action": action, "principal": "able-", "times": 1})
    injected, real = [failure(getattr(client, operation), **params) for client in clients]
    assert real[::2] == injected[::2] == (code, 403)
    assert injected[1] == real[1].replace(unable, able)
    assert f"assumed-role/{able}/test is not authorized to perform: {action} on resource: " in injected[1]
    who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{able}/test"
    assert [(d["allowed"], d["injected"]) for d in aws.decisions(principal=who, action=action)] == [(True, True)]
    assert not any(d.get("injected") for d in aws.decisions(allowed=False))
    assert fired(aws) == [1]


def test_what_a_call_and_a_service_need_beside_can_be_denied(aws: RunningAws, job_role: str) -> None:
    create, params = aws.client("sagemaker").create_training_job, training.request("denied", job_role)
    post(aws, {"kind": "deny", "action": "iam:PassRole", "resource": job_role})
    assert failure(create, **params)[:2] == (
        "AccessDeniedException",
        f"User: {ROOT_ARN} is not authorized to perform: iam:PassRole on resource: {job_role} because no "
        "identity-based policy allows the iam:PassRole action",
    )
    post(aws, {"kind": "deny", "action": "sts:AssumeRole", "principal": "sagemaker", "times": 1})
    assert failure(create, **params)[1].startswith(f"Could not assume role {job_role}.")
    assert fired(aws) == [1]
    post(aws, {"kind": "deny", "action": "cloudwatch:PutMetricData", "principal": "training"})
    assert training.run(aws, "denied", job_role)["FailureReason"].startswith("ClientError: Could not publish metrics")


def test_a_whole_service_fails_by_a_star_and_no_other(aws: RunningAws) -> None:
    bedrock = aws.client("bedrock")
    post(aws, {"kind": "error", "action": "bedrock:*", "code": "UnknownOperationException", "status": 404})
    for call in (bedrock.list_custom_models, bedrock.list_model_customization_jobs, bedrock.list_imported_models):
        assert failure(call)[::2] == ("UnknownOperationException", 404)
    assert aws.client("sagemaker").list_models()["Models"] == []
    post(aws, {"kind": "deny", "action": "bedrock:*"})
    assert failure(bedrock.list_custom_models)[0] == "AccessDeniedException"
    assert aws.client("sagemaker").list_models()["Models"] == []
