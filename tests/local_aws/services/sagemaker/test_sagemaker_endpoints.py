"""Endpoints on local AWS: real servers, updates with roll-back, refusals, and a tiny model in the vLLM image."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from local import tiny_model
from tests.local_aws.conftest import ACCOUNT, REGION, control, refusal
from tests.local_aws.services.sagemaker.containers import SERVER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

REGISTRY = f"763104351884.dkr.ecr.{REGION}.amazonaws.com"
IMAGE = f"{REGISTRY}/little-server:1"
BUCKET = "sagemaker-endpoint-test"
INSTANCE = "ml.g5.xlarge"
GRANTS: dict[str, dict[str, Any]] = {
    "ecr": {"Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
    "pull": {
        "Action": ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        "Resource": f"arn:aws:ecr:{REGION}:763104351884:repository/*",
    },
    "list": {"Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{BUCKET}"},
    "get": {"Action": ["s3:GetObject"], "Resource": f"arn:aws:s3:::{BUCKET}/*"},
    "logs": {
        "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
        "Resource": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/*",
    },
    "metrics": {"Action": ["cloudwatch:PutMetricData"], "Resource": "*"},
}


def statements(*, without: str = "") -> list[dict[str, Any]]:
    return [{"Effect": "Allow", **statement} for name, statement in GRANTS.items() if name != without]


@pytest.fixture(scope="module")
def role(aws: RunningAws, tmp_path_factory: pytest.TempPathFactory) -> str:
    s3 = aws.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):  # by another module that uses this fixture
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for answer in ("one", "two", "sick", "dead"):
        s3.put_object(Bucket=BUCKET, Key=f"{answer}/answer.txt", Body=answer.encode())
    server: Path = tmp_path_factory.mktemp("image") / "server.py"
    server.write_text(SERVER)
    control(aws, "quotas", **{f"{INSTANCE} for endpoint usage": 50})
    control(aws, "sagemaker", status_seconds=0.2, images={"little-server": ["python3", str(server), "{port}"]})
    return aws.role(f"serving-{uuid4().hex[:8]}", *statements(), service="sagemaker")


def prepare(
    aws: RunningAws,
    name: str,
    role: str,
    data: str,
    *,
    image: str = IMAGE,
    seconds: int = 60,
    instances: dict[str, Any] | None = None,
    **env: str,
) -> None:
    """Create a model and an endpoint config of the same name. `data` is the folder of the model in the bucket."""
    client = aws.client("sagemaker")
    source = {"S3Uri": f"s3://{BUCKET}/{data}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    client.create_model(
        ModelName=name,
        ExecutionRoleArn=role,
        PrimaryContainer={"Image": image, "ModelDataSource": {"S3DataSource": source}, "Environment": env},
    )
    client.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                **(instances or {"InstanceType": INSTANCE, "InitialInstanceCount": 1}),
                "ContainerStartupHealthCheckTimeoutInSeconds": seconds,
            }
        ],
    )


def wait(
    aws: RunningAws,
    name: str,
    *,
    leaving: tuple[str, ...] = ("Creating", "Updating", "RollingBack"),
    seconds: float = 180,
) -> dict[str, Any]:
    """Wait until an endpoint has another status than those of `leaving`. Return its description."""
    client, deadline = aws.client("sagemaker"), time.monotonic() + seconds
    while time.monotonic() < deadline:
        endpoint: dict[str, Any] = client.describe_endpoint(EndpointName=name)
        if endpoint["EndpointStatus"] not in leaving:
            return endpoint
        time.sleep(0.02)
    raise AssertionError(f"{name} is still {endpoint['EndpointStatus']}")


def serve(aws: RunningAws, name: str, role: str, data: str) -> None:
    """Create an endpoint and wait until it is in service."""
    prepare(aws, name, role, data)
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert wait(aws, name)["EndpointStatus"] == "InService"


def ask(aws: RunningAws, name: str, body: bytes = b"hello") -> bytes:
    return bytes(aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=body)["Body"].read())


def remove(aws: RunningAws, name: str) -> None:
    aws.client("sagemaker").delete_endpoint(EndpointName=name)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        wait(aws, name, leaving=("Deleting",))


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def test_an_endpoint_serves_is_updated_without_an_interruption_and_is_deleted(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    prepare(aws, "Stable", role, "one")
    prepare(aws, "Stable-two", role, "two")
    assert client.create_endpoint(EndpointName="Stable", EndpointConfigName="Stable")["EndpointArn"] == arn(
        "endpoint", "stable"
    )
    creating = client.describe_endpoint(EndpointName="Stable")
    assert creating["EndpointStatus"] == "Creating"
    variant = {"VariantName": "AllTraffic", "InstanceType": INSTANCE, "DesiredWeight": 1.0, "DesiredInstanceCount": 1}
    assert creating["PendingDeploymentSummary"] == {
        "EndpointConfigName": "Stable",
        "ProductionVariants": [variant],
        "StartTime": creating["CreationTime"],
    }
    in_progress = ("ValidationException", f'Cannot update in-progress endpoint "{arn("endpoint", "stable")}".')
    assert refusal(client.delete_endpoint, EndpointName="Stable") == in_progress
    assert refusal(client.update_endpoint, EndpointName="Stable", EndpointConfigName="Stable-two") == in_progress
    serving = wait(aws, "Stable")
    assert serving["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert "PendingDeploymentSummary" not in serving
    assert ask(aws, "Stable") == b"one:hello"

    client.update_endpoint(EndpointName="Stable", EndpointConfigName="Stable-two")
    answers, configs = set(), set()
    pending = client.describe_endpoint(EndpointName="Stable")["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], pending["ProductionVariants"]) == ("Stable-two", [variant])
    assert pending["StartTime"] > creating["CreationTime"]
    while client.describe_endpoint(EndpointName="Stable")["EndpointStatus"] == "Updating":
        answers.add(ask(aws, "Stable"))
        configs.add(client.describe_endpoint(EndpointName="Stable")["EndpointConfigName"])
    assert answers <= {b"one:hello", b"two:hello"}, "the endpoint always answers"
    assert "Stable" in configs
    updated = client.describe_endpoint(EndpointName="Stable")
    assert (updated["EndpointConfigName"], "PendingDeploymentSummary" in updated) == ("Stable-two", False)
    assert ask(aws, "Stable") == b"two:hello"
    deadline, lines = time.monotonic() + 10, set[str]()
    while not {"serving one", "serving two"} <= lines:  # Lines arrive in CloudWatch Logs a moment later.
        assert time.monotonic() < deadline, lines
        events = aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/Stable")["events"]
        lines = {event["message"] for event in events}
    remove(aws, "Stable")
    message = f"Endpoint Stable of account {ACCOUNT} not found."
    assert refusal(aws.client("sagemaker-runtime").invoke_endpoint, EndpointName="Stable", Body=b"") == (
        "ValidationError",
        message,
    )


OTHER = "ml.g6.xlarge"
POOLS = {
    "InstancePools": [{"InstanceType": OTHER, "Priority": 2}, {"InstanceType": INSTANCE, "Priority": 1}],
    "InitialInstanceCount": 2,
    "VariantInstanceProvisionTimeoutInSeconds": 900,
}


def test_an_endpoint_of_several_instance_types_shows_which_it_has(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    control(aws, "quotas", **{f"{OTHER} for endpoint usage": 2})
    prepare(aws, "pooled", role, "one", instances=POOLS)
    client.create_endpoint(EndpointName="pooled", EndpointConfigName="pooled")

    def pools(*counts: int) -> list[dict[str, Any]]:
        return [
            {"InstanceType": kind, "CurrentInstanceCount": count}
            for kind, count in zip((INSTANCE, OTHER), counts, strict=True)
        ]

    (pending,) = client.describe_endpoint(EndpointName="pooled")["PendingDeploymentSummary"]["ProductionVariants"]
    assert (pending["InstancePools"], "InstanceType" in pending) == (pools(0, 0), False)
    (serving,) = wait(aws, "pooled")["ProductionVariants"]
    assert (serving["InstancePools"], serving["CurrentInstanceCount"]) == (pools(2, 0), 2)
    # The quota of every type of the list is checked. That of the second type is 2.
    prepare(aws, "pooled-more", role, "two", instances=POOLS | {"InitialInstanceCount": 3})
    code, message = refusal(client.update_endpoint, EndpointName="pooled", EndpointConfigName="pooled-more")
    assert code == "ResourceLimitExceeded"
    assert message.startswith(f"The account-level service limit '{OTHER} for endpoint usage' is 2 Instances")
    with pytest.raises(
        ClientError, match="InstanceType and InstancePools of production variant AllTraffic are mutually"
    ):
        prepare(aws, "both", role, "one", instances=POOLS | {"InstanceType": INSTANCE})
    remove(aws, "pooled")


@pytest.mark.parametrize("data", ["dead", "sick"])
def test_a_server_that_never_gets_healthy_fails_a_creation_and_rolls_an_update_back(
    aws: RunningAws, role: str, data: str
) -> None:
    client = aws.client("sagemaker")
    prepare(aws, data, role, data, seconds=60)
    control(aws, "sagemaker", startup_seconds=1.0)
    try:
        client.create_endpoint(EndpointName=data, EndpointConfigName=data)
        endpoint = wait(aws, data)
        assert (endpoint["EndpointStatus"], endpoint["FailureReason"]) == (
            "Failed",
            "The primary container for production variant AllTraffic did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint.",
        )
        assert "PendingDeploymentSummary" not in endpoint
        assert refusal(client.update_endpoint, EndpointName=data, EndpointConfigName=data)[0] == "ValidationException"
        remove(aws, data)

        control(aws, "sagemaker", startup_seconds=0)
        serve(aws, f"back-{data}", role, "one")
        control(aws, "sagemaker", startup_seconds=1.0)
        client.update_endpoint(EndpointName=f"back-{data}", EndpointConfigName=data)
        statuses, pending = [], set()
        while (endpoint := client.describe_endpoint(EndpointName=f"back-{data}"))["EndpointStatus"] != "InService":
            statuses.append(endpoint["EndpointStatus"])
            if "PendingDeploymentSummary" in endpoint:
                pending.add((endpoint["EndpointStatus"], endpoint["PendingDeploymentSummary"]["EndpointConfigName"]))
        assert pending == {("Updating", data)}
        assert [s for i, s in enumerate(statuses) if s not in statuses[:i]] == ["Updating", "RollingBack"]
        assert client.describe_endpoint(EndpointName=f"back-{data}")["EndpointConfigName"] == f"back-{data}"
        assert ask(aws, f"back-{data}") == b"one:hello"
        remove(aws, f"back-{data}")
    finally:
        control(aws, "sagemaker", startup_seconds=0)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("pull", "does not have BatchCheckLayerAvailability permission for the image"),
        ("ecr", "does not have GetAuthorizationToken permission for the image"),
        ("logs", "Could not write to log group"),
        ("metrics", "Could not publish metrics"),
        ("list", f"Could not access model data at s3://{BUCKET}/one/. Please ensure that the role"),
        ("get", f"Could not access model data at s3://{BUCKET}/one/. Please ensure that the role"),
    ],
)
def test_a_missing_grant_fails_the_endpoint(aws: RunningAws, role: str, missing: str, reason: str) -> None:
    name = f"without-{missing}"
    # SageMaker checks the role at CreateModel, so the grant is taken away after it.
    role = aws.role(name, *statements(), service="sagemaker")
    prepare(aws, name, role, "one")
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements(without=missing)})
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=policy)
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=name)
    endpoint = wait(aws, name)
    assert endpoint["EndpointStatus"] == "Failed"
    assert reason in endpoint["FailureReason"]
    remove(aws, name)


def test_hosting_cannot_assume_a_role_that_trusts_models_or_endpoints_alone(aws: RunningAws, role: str) -> None:
    """The asterisk of the documented ARN is a literal asterisk, so no narrower pattern matches it."""
    for kind in ("model", "endpoint"):
        condition = {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/*"}}
        narrow = aws.role(f"trusts-{kind}s", *statements(), service="sagemaker", Condition=condition)
        with pytest.raises(ClientError, match="trust relationship"):
            prepare(aws, f"trusts-{kind}s", narrow, "one")
    condition = {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:*"}}
    serve(aws, "trusted", aws.role("trusted", *statements(), service="sagemaker", Condition=condition), "one")
    remove(aws, "trusted")


def test_an_endpoint_whose_execution_role_was_deleted_cannot_be_deleted(aws: RunningAws, role: str) -> None:
    deleted = aws.role("deleted", *statements(), service="sagemaker")
    serve(aws, "orphan", deleted, "one")
    iam = aws.client("iam")
    iam.delete_role_policy(RoleName="deleted", PolicyName="policy")
    iam.delete_role(RoleName="deleted")
    aws.client("sagemaker").delete_endpoint(EndpointName="orphan")
    endpoint = wait(aws, "orphan", leaving=("Deleting",))
    assert endpoint["EndpointStatus"] == "Failed"
    assert deleted in endpoint["FailureReason"]


def test_refusals_of_models_configs_and_endpoints(aws: RunningAws, role: str) -> None:
    client = aws.client("sagemaker")
    serve(aws, "busy", role, "one")
    prepare(aws, "busy-next", role, "two")
    refusals = [
        (client.describe_model, {"ModelName": "nope"}, f'Could not find model "{arn("model", "nope")}".'),
        (client.delete_model, {"ModelName": "nope"}, f'Could not find model "{arn("model", "nope")}".'),
        (
            client.create_endpoint,
            {"EndpointName": "nope", "EndpointConfigName": "nope"},
            f'Could not find endpoint configuration "{arn("endpoint-config", "nope")}".',
        ),
        (client.describe_endpoint, {"EndpointName": "nope"}, f'Could not find endpoint "{arn("endpoint", "nope")}".'),
        (
            client.create_endpoint,
            {"EndpointName": "busy", "EndpointConfigName": "busy"},
            f'Cannot create already existing endpoint "{arn("endpoint", "busy")}".',
        ),
    ]
    for call, params, message in refusals:
        assert refusal(call, **params) == ("ValidationException", message)
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        prepare(aws, "busy", role, "one")
    with pytest.raises(ClientError, match="Could not access model data at s3://sagemaker-endpoint-test/nothing/"):
        prepare(aws, "nothing", role, "nothing")
    control(aws, "quotas", **{f"{INSTANCE} for endpoint usage": 1})
    code, message = refusal(client.update_endpoint, EndpointName="busy", EndpointConfigName="busy-next")
    control(aws, "quotas", **{f"{INSTANCE} for endpoint usage": 50})
    assert code == "ResourceLimitExceeded"
    assert message.startswith(f"The account-level service limit '{INSTANCE} for endpoint usage' is 1 Instances")

    # A config in use can be deleted, but then its endpoint cannot be updated.
    client.delete_endpoint_config(EndpointConfigName="busy")
    _, message = refusal(client.update_endpoint, EndpointName="busy", EndpointConfigName="busy-next")
    assert message == f'Could not find endpoint configuration "{arn("endpoint-config", "busy")}".'
    assert client.list_endpoints(NameContains="busy")["Endpoints"][0]["EndpointStatus"] == "InService"
    assert [m["ModelName"] for m in client.list_models(NameContains="busy", SortBy="Name")["Models"]] == [
        "busy-next",
        "busy",
    ]
    remove(aws, "busy")


def test_the_containers_refusals_and_the_size_limit_reach_the_caller(aws: RunningAws, role: str) -> None:
    serve(aws, "strict", role, "one")
    runtime = aws.client("sagemaker-runtime")
    with pytest.raises(ClientError) as error:
        runtime.invoke_endpoint(EndpointName="strict", Body=b"bad")
    answer = error.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (400, "bad input")
    assert 'Received client error (400) from primary with message "bad input".' in answer["Error"]["Message"]
    assert ask(aws, "strict", b"x" * 6_291_456).startswith(b"one:")
    code, message = refusal(runtime.invoke_endpoint, EndpointName="strict", Body=b"x" * 6_291_457)
    assert (code, message) == ("413", "HTTP content length exceeded 6291456 bytes.")
    remove(aws, "strict")


def test_the_vllm_image_serves_a_tiny_model(aws: RunningAws, role: str, tmp_path: Path) -> None:
    snapshot, s3 = tiny_model.ensure(tmp_path / "hub"), aws.client("s3")
    for path in snapshot.iterdir():
        s3.put_object(Bucket=BUCKET, Key=f"tiny/{path.name}", Body=path.read_bytes())
    prepare(aws, "tiny", role, "tiny", image=f"{REGISTRY}/vllm:0.30.0-gpu-py312", SM_VLLM_MAX_MODEL_LEN="128")
    client, runtime = aws.client("sagemaker"), aws.client("sagemaker-runtime")
    client.create_endpoint(EndpointName="tiny", EndpointConfigName="tiny")
    assert wait(aws, "tiny")["EndpointStatus"] == "InService"

    def chat(**options: Any) -> dict[str, Any]:
        body = {
            "messages": [{"role": "user", "content": "Hey, what time?"}],
            "max_tokens": 5,
            "temperature": 0,
            **options,
        }
        answer = runtime.invoke_endpoint(EndpointName="tiny", Body=json.dumps(body), ContentType="application/json")
        return dict(json.loads(answer["Body"].read()))

    first, again = chat(), chat()
    assert first["choices"][0]["message"]["role"] == "assistant"
    assert first["choices"] == again["choices"], "the same request gives the same text at temperature 0"
    assert first["usage"]["completion_tokens"] <= 5
    with pytest.raises(ClientError, match="This model's maximum context length is 128 tokens"):
        chat(max_tokens=128)
    with pytest.raises(ClientError, match="temperature: Input should be a valid number"):
        chat(temperature="hot")
    remove(aws, "tiny")
