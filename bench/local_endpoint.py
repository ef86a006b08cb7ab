"""An endpoint on a local AWS of its own, with a model of a Hub cache, and the address of the server behind it."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.rows import ROOT
from local_aws.session import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = ROOT / ".local" / "bench-serving"
REGION = "us-west-2"
NAME = "bench"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/vllm:bench"
INSTANCE = "ml.g5.xlarge"
STARTUP_SECONDS = 600
# The actions of local AWS's container under the model's role, and those of the caller under its own role.
_SERVES = ("ecr:*", "logs:*", "cloudwatch:PutMetricData")
_CALLS = ("sagemaker:CallWithBearerToken", "sagemaker:InvokeEndpoint")


class BenchEndpoint(NamedTuple):
    """The role that may call the endpoint, and the address of the server behind it."""

    role: str
    server: str


@contextmanager
def endpoint(hub: Path, model: str) -> Iterator[BenchEndpoint]:
    """Start local AWS with the endpoint, and make this process a user of its account.

    Args:
        hub: the Hub cache.
        model: a model in it.
    """
    aws = LocalAws(HOME / "aws", REGION, hub)
    aws.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": aws.endpoint_url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    try:
        aws.control("_tuneway/quotas", {f"{INSTANCE} for endpoint usage": 1})
        _create(aws, model)
        yield BenchEndpoint(_role(aws, "caller", {"AWS": "000000000000"}, _CALLS), server(aws.endpoint_url))
    finally:
        aws.stop()


def _create(aws: LocalAws, model: str) -> None:
    sagemaker = aws.client("sagemaker")
    role = _role(aws, "model", {"Service": "sagemaker.amazonaws.com"}, _SERVES)
    container = {"Image": IMAGE, "Environment": {"SM_VLLM_MODEL": model, "SM_VLLM_MAX_MODEL_LEN": "1024"}}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": NAME,
        "InstanceType": INSTANCE,
        "InitialInstanceCount": 1,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_SECONDS,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    while (found := sagemaker.describe_endpoint(EndpointName=NAME))["EndpointStatus"] == "Creating":
        time.sleep(0.5)
    if found["EndpointStatus"] != "InService":
        raise RuntimeError(f"the endpoint is {found['EndpointStatus']}: {found.get('FailureReason')}")


def _role(aws: LocalAws, name: str, principal: dict[str, str], actions: tuple[str, ...]) -> str:
    iam = aws.client("iam")
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))["Role"]["Arn"]
    grant = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    iam.put_role_policy(RoleName=name, PolicyName="bench", PolicyDocument=_policy(grant))
    return arn


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def server(endpoint_url: str) -> str:
    """Return the address of the server behind the one endpoint of a local AWS. Its process knows the port (Linux only)."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            items = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # The process has ended, or is another user's.
            continue
        variables = dict(item.split("=", 1) for item in items if "=" in item)
        if "SAGEMAKER_BIND_TO_PORT" in variables and variables.get("AWS_ENDPOINT_URL") == endpoint_url:
            return f"http://127.0.0.1:{variables['SAGEMAKER_BIND_TO_PORT']}"
    raise RuntimeError("the endpoint has no server")
