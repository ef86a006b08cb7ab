"""The local AWS that a session of tests shares, and the functions that start, ask and stop one."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws.core.processes import free_port
from local_aws.server import gateway_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-west-2"
ACCOUNT = "000000000000"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# A function can import only the boto3 of its own package. boto3 is too large to be zipped for each test, so these functions
# import this machine's.
IMPORT_BOTO3 = f"import sys; sys.path.append({str(Path(boto3.__file__).parents[1])!r})\nimport boto3\n"


@dataclass
class RunningAws:
    """A running local AWS, with its clients and its decision log."""

    process: subprocess.Popen[bytes]
    endpoint: str
    state_dir: Path

    def client(self, service: str, credentials: dict[str, str] | None = None) -> Any:
        """Return a client of the account's root, or of a session (the Credentials of AssumeRole)."""
        keys = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
        return _client(self.endpoint, service, keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken"))

    def decisions(self, **values: Any) -> list[dict[str, Any]]:
        """Return the logged decisions that have these values."""
        lines = (self.state_dir / "decisions.jsonl").read_text().splitlines()
        return [d for d in map(json.loads, lines) if all(d[k] == v for k, v in values.items())]

    def role(self, name: str, *statements: dict[str, Any], service: str = "lambda", **trust: Any) -> str:
        """Create a role that a service and the account can assume. Return its ARN."""
        principal = {"Service": f"{service}.amazonaws.com", "AWS": ACCOUNT}
        trusted = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **trust}
        iam = self.client("iam")
        document = json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=policy)
        return str(arn)

    def session(self, role_arn: str) -> dict[str, str]:
        """Return the Credentials of AssumeRole."""
        answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")
        return dict(answer["Credentials"])

    def function(self, name: str, source: str, role: str, **config: Any) -> None:
        """Create a function with this source as its index file, and wait until it is active."""
        config = {"Runtime": PYTHON, "Timeout": 10, "MemorySize": 256, **config}
        files = {"index.js" if config["Runtime"].startswith("node") else "index.py": source}
        client = self.client("lambda")
        client.create_function(
            FunctionName=name, Role=role, Handler="index.handler", Code={"ZipFile": zipped(files)}, **config
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})

    def invoke(self, name: str, event: Any = None, **options: Any) -> tuple[Any, str | None]:
        """Return the payload and the FunctionError of an invocation."""
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), **options)
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")


@functools.cache  # To make a client takes longer than most of its calls.
def _client(endpoint: str, service: str, key: str, secret: str, token: str | None) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def zipped(files: dict[str, str]) -> bytes:
    """Return a zip file with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
    """Call `check` until it returns a true value or the time is over. Return its last value."""
    deadline = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def start(state_dir: Path, environment: dict[str, str] | None = None) -> RunningAws:
    """Start local AWS and wait until it answers."""
    port = free_port()
    command = [sys.executable, "-m", "local_aws.server", "--port", str(port), "--state-dir", str(state_dir)]
    return _start([*command, "--die-with-parent"], port, state_dir, {**os.environ, **(environment or {})})


def start_script(script: Path, state_dir: Path) -> RunningAws:
    """Start a script that serves services of its own on local AWS's gateway."""
    port = free_port()
    environment = gateway_environment(port, state_dir, REGION) | {"PYTHONPATH": str(ROOT)}
    return _start([sys.executable, str(script), str(port), str(state_dir)], port, state_dir, environment)


def _start(command: list[str], port: int, state_dir: Path, environment: dict[str, str]) -> RunningAws:
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urlopen(f"{endpoint}/_ministack/health", timeout=1) as response:
                return bool(response.status)
        except (URLError, ConnectionError):
            return process.poll() is not None

    assert eventually(answers, 30), "local AWS did not answer within 30 s"
    assert process.poll() is None, (state_dir / "server.log").read_text()
    return RunningAws(process, endpoint, state_dir)


def stop(aws: RunningAws) -> int:
    """Send SIGTERM to local AWS and return its exit code."""
    aws.process.send_signal(signal.SIGTERM)
    return aws.process.wait(15)


def failure(call: Callable[..., Any], **params: Any) -> tuple[str, str, int]:
    """Make a call that must fail. Return the error's code, message and HTTP status."""
    with pytest.raises(ClientError) as error:
        call(**params)
    response = error.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def refusal(call: Callable[..., Any], **params: Any) -> tuple[str, str]:
    """Make a call that must fail. Return the error's code and message."""
    return failure(call, **params)[:2]


def control(aws: RunningAws, path: str, **values: Any) -> None:
    """POST values to one of local AWS's own controls (local_aws/README.md)."""
    urlopen(Request(f"{aws.endpoint}/_tuneway/{path}", json.dumps(values).encode(), method="POST")).close()


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAws]:
    """A local AWS for all tests. HF_TOKEN and AWS_PROFILE stand for the variables of a user's shell."""
    running = start(tmp_path_factory.mktemp("aws"), {"HF_TOKEN": "hf_secret", "AWS_PROFILE": "nobody"})
    yield running
    assert stop(running) == 0
