"""Faults on demand on a local AWS of their own: what a client sees of each kind, and how often."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from botocore.exceptions import ClientError

from local_aws.core import faults, registry
from tests.local_aws.conftest import ACCOUNT, IMPORT_BOTO3, REGION, LocalAws, start, stop
from tests.local_aws.services.bedrock import test_bedrock as customization
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints
from tests.local_aws.services.sagemaker import test_sagemaker_training as training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
STATES = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:none"
FUNCTION = "import os\ndef handler(event, context):\n    open(event, 'a').write('ran')\n    return os.getpid()\n"
SICK = (
    "The primary container for production variant AllTraffic did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    running = start(tmp_path_factory.mktemp("faults"))
    place = {"LocationConstraint": REGION}
    running.client("s3").create_bucket(Bucket="faults", CreateBucketConfiguration=place)
    yield running
    assert stop(running) == 0


@pytest.fixture
def aws(own: LocalAws) -> Iterator[LocalAws]:
    yield own
    post(own)


def post(aws: LocalAws, *items: Any) -> list[dict[str, Any]]:
    body = json.dumps(items).encode()
    with urlopen(Request(f"{aws.endpoint}/_tuneway/faults", body, method="POST")) as answer:
        return list(json.loads(answer.read()))


def fired(aws: LocalAws) -> list[int]:
    with urlopen(f"{aws.endpoint}/_tuneway/faults") as answer:
        return [fault["fired"] for fault in json.loads(answer.read())]


def failure(call: Any, **params: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


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
def test_what_is_not_understood_is_refused_in_one_line_and_changes_nothing(aws: LocalAws, body: str, text: str) -> None:
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
    aws: LocalAws, service: str, operation: str, params: dict[str, Any], action: str
) -> None:
    fault = {"kind": "error", "action": action, "code": "SlowDown", "message": "Slow <down> & wait", "status": 503}
    post(aws, fault)
    call = getattr(aws.client(service), operation)
    assert failure(call, **params) == ("SlowDown", "Slow <down> & wait", 503)
    assert fired(aws) == [1]


def test_an_error_ends_after_its_times_and_the_service_sees_nothing_before(aws: LocalAws) -> None:
    s3 = aws.client("s3")
    post(aws, {"kind": "error", "action": "s3:PutObject", "code": "SlowDown", "times": 2, "status": 503})
    put = {"Bucket": "faults", "Key": "k", "Body": b"v"}
    assert [failure(s3.put_object, **put) for _ in range(2)] == [("SlowDown", "SlowDown", 503)] * 2
    assert s3.list_objects_v2(Bucket="faults")["KeyCount"] == 0
    s3.put_object(**put)
    assert fired(aws) == [2]


def test_a_lost_answer_is_an_error_after_the_service_has_obeyed_and_a_refusal_is_no_answer_to_lose(
    aws: LocalAws,
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


def test_two_callers_share_the_count(aws: LocalAws) -> None:
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


def test_principal_and_resource_choose_the_call_and_a_stranger_is_told_so_first(aws: LocalAws) -> None:
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


def test_another_list_clears_the_one_before(aws: LocalAws) -> None:
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
    aws: LocalAws, service: str, operation: str, params: dict[str, Any], action: str, code: str
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


def test_what_a_call_and_a_service_need_beside_can_be_denied(aws: LocalAws, job_role: str) -> None:
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


def test_a_whole_service_fails_by_a_star_and_no_other(aws: LocalAws) -> None:
    bedrock = aws.client("bedrock")
    post(aws, {"kind": "error", "action": "bedrock:*", "code": "UnknownOperationException", "status": 404})
    for call in (bedrock.list_custom_models, bedrock.list_model_customization_jobs, bedrock.list_imported_models):
        assert failure(call)[::2] == ("UnknownOperationException", 404)
    assert aws.client("sagemaker").list_models()["Models"] == []
    post(aws, {"kind": "deny", "action": "bedrock:*"})
    assert failure(bedrock.list_custom_models)[0] == "AccessDeniedException"
    assert aws.client("sagemaker").list_models()["Models"] == []


# -- functions


def test_a_function_finds_no_endpoint_of_a_service_and_finds_it_again(aws: LocalAws) -> None:
    source = f"""{IMPORT_BOTO3}
def handler(event, context):
    try:
        boto3.client(event).get_paginator(
            {{"bedrock": "list_custom_models", "sagemaker": "list_models"}}[event]
        ).paginate().build_full_result()
    except Exception as error:
        return type(error).__name__
    return "fine"
"""
    listing = {"Effect": "Allow", "Action": ["bedrock:*", "sagemaker:*"], "Resource": "*"}
    aws.function("asks", source, aws.role("asks", listing), Timeout=60)
    assert [aws.invoke("asks", service)[0] for service in ("bedrock", "sagemaker")] == ["fine", "fine"]
    post(aws, {"kind": "no-endpoint", "service": "bedrock", "function": "^asks$"})
    assert [aws.invoke("asks", s)[0] for s in ("bedrock", "sagemaker")] == ["EndpointConnectionError", "fine"]
    assert fired(aws) == [2]
    post(aws)
    assert aws.invoke("asks", "bedrock")[0] == "fine"


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("crash", "Runtime.ExitError", "Error: Runtime exited with error: signal: killed"),
        ("memory", "Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed"),
        ("timeout", "Sandbox.Timedout", "Error: Task timed out after 30.00 seconds"),
    ],
)
def test_a_function_dies(aws: LocalAws, tmp_path: Path, how: str, kind: str, message: str) -> None:
    aws.function(f"dies-{how}", FUNCTION, aws.role(f"dies-{how}"), Timeout=30)
    process, _ = aws.invoke(f"dies-{how}", str(tmp_path / "before"))
    assert psutil.pid_exists(process), "a sandbox is kept between calls"
    post(aws, {"kind": "function", "function": "^dies-", "how": how, "times": 1})
    began = time.monotonic()
    payload, error = aws.invoke(f"dies-{how}", str(tmp_path / "during"))
    assert time.monotonic() - began < 10
    assert (error, payload["errorType"]) == ("Unhandled", kind)
    assert payload["errorMessage"].endswith(message)
    assert not psutil.pid_exists(process), "the process really ended"
    if how == "crash":
        assert not (tmp_path / "during").exists(), "the handler was not reached"
    after, error = aws.invoke(f"dies-{how}", str(tmp_path / "after"))
    assert (error, after != process, fired(aws)) == (None, True, [1])


def test_a_fault_can_be_meant_for_one_event_of_a_function(aws: LocalAws, tmp_path: Path) -> None:
    aws.function("dies-by-payload", FUNCTION, aws.role("dies-by-payload"), Timeout=30)
    post(aws, {"kind": "function", "function": "^dies-by-payload$", "payload": '/second"', "how": "crash"})
    errors = [aws.invoke("dies-by-payload", str(tmp_path / name))[1] for name in ("first", "second", "third")]
    assert errors == [None, "Unhandled", None]


def test_a_function_is_throttled_by_its_name(aws: LocalAws, tmp_path: Path) -> None:
    for name in ("busy", "idle"):
        aws.function(name, FUNCTION, aws.role(f"role-{name}"))
    post(aws, {"kind": "function", "function": "busy", "how": "throttle", "times": 2})
    client = aws.client("lambda")
    for _ in range(2):
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            client.invoke(FunctionName="busy", Payload=b'"/dev/null"')
        assert refused.value.response["Error"]["Message"] == "Rate Exceeded."
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert refused.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
    for name in ("busy", "idle"):
        assert aws.invoke(name, str(tmp_path / name))[1] is None
    assert fired(aws) == [2]


# -- jobs


@pytest.fixture(scope="module")
def job_role(own: LocalAws) -> str:
    training.stocked(own)
    training.control(own, "quotas", **{"ml.g5.xlarge for training job usage": 20})
    training.control(own, "sagemaker", status_seconds=0.05)
    return own.role("training", *training.statements(), service="sagemaker")


@pytest.mark.parametrize(
    ("how", "ends", "reason"),
    [
        ("capacity", ["Starting", "Failed"], faults.TRAINING_CAPACITY),
        ("fail", ["Starting", "Downloading", "Training", "Failed"], "AlgorithmError: , exit code: 137"),
        ("stop", ["Starting", "Downloading", "Training", "Stopping", "Stopped"], None),
        ("max-runtime", ["Starting", "Downloading", "Training", "Uploading", "MaxRuntimeExceeded"], None),
    ],
)
def test_a_training_job_ends(aws: LocalAws, job_role: str, how: str, ends: list[str], reason: str | None) -> None:
    post(aws, {"kind": "training", "how": how, "times": 1})
    job = training.run(aws, how, job_role, {"mode": "wait"})
    assert job["TrainingJobStatus"] == ("Stopped" if reason is None else "Failed")
    assert [transition["Status"] for transition in job["SecondaryStatusTransitions"]] == ends
    assert job.get("FailureReason") == reason
    assert ("TrainingStartTime" in job) == (how != "capacity")
    assert training.run(aws, f"{how}-again", job_role)["TrainingJobStatus"] == "Completed"
    assert fired(aws) == [1]


def test_a_job_is_given_the_next_type_of_its_list_where_one_has_no_capacity(aws: LocalAws, job_role: str) -> None:
    resources = {**training.LISTED, "InstanceCount": 1, "VolumeSizeInGB": 30}
    post(aws, {"kind": "training", "how": "capacity", "instance_type": "g6"})
    job = training.run(aws, "next-type", job_role, ResourceConfig=resources)
    assert (job["TrainingJobStatus"], job["ResourceConfig"]["SelectedInstanceType"]) == ("Completed", "ml.g5.xlarge")
    assert fired(aws) == [1]
    post(aws, {"kind": "training", "how": "capacity"})  # of any type
    job = training.run(aws, "no-type", job_role, ResourceConfig=resources)
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", faults.TRAINING_CAPACITY)
    assert ("SelectedInstanceType" in job["ResourceConfig"], fired(aws)) == (False, [2])


@pytest.fixture(scope="module")
def bedrock_role(own: LocalAws) -> str:
    s3 = own.client("s3")
    s3.create_bucket(Bucket=customization.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for name, count in (("train", 90), ("validation", 10)):
        rows = "\n".join([customization.record()] * count)
        s3.put_object(Bucket=customization.BUCKET, Key=f"data/{name}.jsonl", Body=rows.encode())
    return own.role("bedrock", customization.READ, customization.WRITE, service="bedrock", **customization.TRUST)


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("fail", "Failed", "Encountered an unexpected error when processing the request, please try again"),
        ("stop", "Stopped", None),
    ],
)
def test_a_customization_job_ends(aws: LocalAws, bedrock_role: str, how: str, status: str, message: str | None) -> None:
    post(aws, {"kind": "customization", "how": how, "times": 1})
    create = aws.client("bedrock").create_model_customization_job
    job = customization.ended(aws, create(**customization.request(bedrock_role))["jobArn"])
    assert (job["status"], job.get("failureMessage"), "outputModelArn" in job) == (status, message, False)
    steps = [job["statusDetails"][f"{step}Details"]["status"] for step in ("validation", "dataProcessing", "training")]
    assert steps == ["Completed", "Completed", status]
    again = customization.ended(aws, create(**customization.request(bedrock_role))["jobArn"])
    assert (again["status"], fired(aws)) == ("Completed", [1])


# -- endpoints


@pytest.fixture(scope="module")
def server_role(own: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> str:
    s3 = own.client("s3")
    s3.create_bucket(Bucket=endpoints.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for answer in ("one", "two"):
        s3.put_object(Bucket=endpoints.BUCKET, Key=f"{answer}/answer.txt", Body=answer.encode())
    server = tmp_path_factory.mktemp("image") / "server.py"
    server.write_text(endpoints.SERVER)
    endpoints.control(own, "quotas", **{f"{endpoints.INSTANCE} for endpoint usage": 50})
    command = ["python3", str(server), "{port}"]
    endpoints.control(own, "sagemaker", status_seconds=0.2, images={"little-server": command})
    role = own.role("serving", *endpoints.statements(), service="sagemaker")
    for name, data in (("one", "one"), ("two", "two")):
        endpoints.prepare(own, name, role, data)
    return role


def statuses(aws: LocalAws, name: str, *last: str) -> list[str]:
    client, seen = aws.client("sagemaker"), [""]
    deadline = time.monotonic() + 30
    while seen[-1] not in last and time.monotonic() < deadline:
        status = client.describe_endpoint(EndpointName=name)["EndpointStatus"]
        seen += [status] if status != seen[-1] else []
    return seen[1:]


@pytest.mark.parametrize(("how", "reason"), [("fail", SICK), ("capacity", faults.ENDPOINT_CAPACITY)])
def test_an_endpoint_is_not_created_or_comes_back_from_its_update(
    aws: LocalAws, server_role: str, how: str, reason: str
) -> None:
    client = aws.client("sagemaker")
    post(aws, {"kind": "endpoint", "how": how, "times": 1})
    client.create_endpoint(EndpointName=how, EndpointConfigName="one")
    assert statuses(aws, how, "Failed", "InService") == ["Creating", "Failed"]
    assert client.describe_endpoint(EndpointName=how)["FailureReason"] == reason
    endpoints.remove(aws, how)
    client.create_endpoint(EndpointName=how, EndpointConfigName="one")
    assert statuses(aws, how, "Failed", "InService") == ["Creating", "InService"]
    post(aws, {"kind": "endpoint", "how": how, "times": 1})
    client.update_endpoint(EndpointName=how, EndpointConfigName="two")
    assert statuses(aws, how, "InService") == ["Updating", "RollingBack", "InService"]
    endpoint = client.describe_endpoint(EndpointName=how)
    assert (endpoint["EndpointConfigName"], endpoint.get("FailureReason")) == ("one", None)
    assert (endpoints.ask(aws, how), fired(aws)) == (b"one:hello", [1])
    endpoints.remove(aws, how)


def test_an_endpoint_is_given_the_next_type_of_its_list_where_one_has_no_capacity(
    aws: LocalAws, server_role: str
) -> None:
    client = aws.client("sagemaker")
    endpoints.control(aws, "quotas", **{f"{endpoints.OTHER} for endpoint usage": 9})
    endpoints.prepare(aws, "pools", server_role, "one", instances=endpoints.POOLS)
    post(aws, {"kind": "endpoint", "how": "capacity", "instance_type": endpoints.INSTANCE})
    client.create_endpoint(EndpointName="pools", EndpointConfigName="pools")
    assert statuses(aws, "pools", "Failed", "InService") == ["Creating", "InService"]
    (variant,) = client.describe_endpoint(EndpointName="pools")["ProductionVariants"]
    counts = {pool["InstanceType"]: pool["CurrentInstanceCount"] for pool in variant["InstancePools"]}
    assert (counts, fired(aws)) == ({endpoints.INSTANCE: 0, endpoints.OTHER: 2}, [1])
    endpoints.remove(aws, "pools")
    post(aws, {"kind": "endpoint", "how": "capacity"})  # of any type
    client.create_endpoint(EndpointName="pools", EndpointConfigName="pools")
    assert statuses(aws, "pools", "Failed", "InService") == ["Creating", "Failed"]
    assert client.describe_endpoint(EndpointName="pools")["FailureReason"] == faults.ENDPOINT_CAPACITY
    assert fired(aws) == [2]
    endpoints.remove(aws, "pools")


def test_an_endpoint_is_stuck_until_the_list_is_replaced(aws: LocalAws, server_role: str) -> None:
    client = aws.client("sagemaker")
    stuck = {"kind": "endpoint", "how": "stuck"}
    for change, status, config in (
        (client.create_endpoint, "Creating", "one"),
        (client.update_endpoint, "Updating", "two"),
    ):
        post(aws, stuck)
        change(EndpointName="stuck", EndpointConfigName=config)
        time.sleep(1)
        servers = list((aws.state_dir / "endpoints" / "stuck").glob("*"))
        assert len(servers) == (0 if status == "Creating" else 1), "nothing new is started"
        assert client.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == status
        assert "in-progress" in failure(client.delete_endpoint, EndpointName="stuck")[1]
        post(aws, stuck)  # another list, with one that nobody met
        assert statuses(aws, "stuck", "InService") == [status, "InService"]
        assert fired(aws) == [0]
    assert endpoints.ask(aws, "stuck") == b"two:hello"
    endpoints.remove(aws, "stuck")


def test_a_rollback_fails_too_and_only_an_update_can_meet_that(aws: LocalAws, server_role: str) -> None:
    client = aws.client("sagemaker")
    post(aws, {"kind": "endpoint", "how": "rollback-failed", "times": 1})
    client.create_endpoint(EndpointName="torn", EndpointConfigName="one")
    assert statuses(aws, "torn", "Failed", "InService") == ["Creating", "InService"]
    client.update_endpoint(EndpointName="torn", EndpointConfigName="two")
    assert statuses(aws, "torn", "InService", "UpdateRollbackFailed") == [
        "Updating",
        "RollingBack",
        "UpdateRollbackFailed",
    ]
    endpoint = client.describe_endpoint(EndpointName="torn")
    assert (endpoint["EndpointConfigName"], endpoint["FailureReason"], fired(aws)) == ("one", SICK, [1])
    assert endpoints.ask(aws, "torn") == b"one:hello", "in service all the same (DescribeEndpoint)"
    endpoints.remove(aws, "torn")
