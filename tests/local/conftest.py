"""The real stack, deployed once a session with the real CDK CLI on a local AWS of its own, with a tiny random Llama."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local import cdk, settings, tiny_model
from local.session import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-west-2"


@dataclass
class Deployed:
    """A deployed stack, and how to run it."""

    aws: LocalAws
    name: str
    assembly: Path
    log: Path
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return cdk.environment(self.aws.endpoint_url, REGION, self.log.parent / "home")

    def cdk(self, command: str, *arguments: str) -> None:
        cdk.run(command, "--app", str(self.assembly), *arguments, env=self.env, log=self.log)

    def deploy(self) -> None:
        self.cdk("deploy", "--require-approval", "never")
        self.outputs = self.aws.stack_outputs(self.name)
        for path in (ROOT / "data").glob("*.csv"):
            self.upload(f"uploads/samples/{path.name}", path.read_bytes())

    def upload(self, key: str, body: bytes) -> None:
        self.aws.client("s3").put_object(Bucket=self.outputs["BucketName"], Key=key, Body=body)

    def start(self, run_input: Any, name: str | None = None) -> str:
        arguments = {"name": name} if name else {}
        started = self.aws.client("stepfunctions").start_execution(
            stateMachineArn=self.outputs["StateMachineArn"], input=json.dumps(run_input), **arguments
        )
        return str(started["executionArn"])

    def end(self, arn: str, seconds: float = 240) -> dict[str, Any]:
        """Wait for an execution's end: DescribeExecution, with the output parsed."""
        client = self.aws.client("stepfunctions")
        deadline = time.time() + seconds
        while (described := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.time() < deadline, f"{arn} still runs after {seconds} s"
            time.sleep(0.5)
        if described["status"] == "SUCCEEDED":
            described["output"] = json.loads(described["output"])
        return dict(described)

    def run(self, run_input: Any, name: str | None = None) -> dict[str, Any]:
        return self.end(self.start(run_input, name))

    def states(self, arn: str) -> list[str]:
        """The states that an execution entered, in order."""
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]

    def quota(self, **values: float) -> None:
        """Set instance quotas of the local account: `training` and `endpoint`, of ml.g5.xlarge."""
        usage = {"training": "training job usage", "endpoint": "endpoint usage"}
        written = {f"ml.g5.xlarge for {usage[kind]}": value for kind, value in values.items()}
        (self.aws.state_dir / "quotas.json").write_text(json.dumps(written))

    def jobs(self) -> int:
        """How many training and customization jobs were ever started."""
        training = self.aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        customization = self.aws.client("bedrock").list_model_customization_jobs()["modelCustomizationJobSummaries"]
        return len(training) + len(customization)

    def endpoint(self) -> dict[str, Any] | None:
        """DescribeEndpoint of the stack's endpoint; None when there is none."""
        name = self.outputs["EndpointName"]
        sagemaker = self.aws.client("sagemaker")
        if name not in [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]]:
            return None
        return dict(sagemaker.describe_endpoint(EndpointName=name))


def synthesise(folder: Path, layer: Path, **changes: Any) -> tuple[Path, str]:
    """Run `cdk synth` with a settings file of `layer` for this machine; the assembly and the stack's name."""
    target = folder / "settings.yaml"
    name = settings.write(layer, target, **changes)
    env = cdk.environment(None, REGION, folder / "home")
    assembly = folder / "cdk.out"
    log = folder / "cdk.log"
    cdk.run("synth", "--quiet", "-c", f"settings={target}", "--output", str(assembly), env=env, log=log)
    return assembly, name


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS with an empty, bootstrapped account and the tiny model in the Hub's cache."""
    folder = tmp_path_factory.mktemp("aws")
    tiny_model.ensure(folder / "hub")
    local = LocalAws(folder / "state", REGION, folder / "hub")
    local.start()
    yield local
    local.stop()


@pytest.fixture(scope="session")
def stack(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The stack, deployed with the sample data in uploads/samples/."""
    folder = tmp_path_factory.mktemp("stack")
    assembly, name = synthesise(folder, Path(__file__).with_name("settings.yaml"))
    deployed = Deployed(aws, name, assembly, folder / "cdk.log")
    deployed.cdk("bootstrap")
    deployed.deploy()
    # Two executions at once train and serve side by side.
    deployed.quota(training=2, endpoint=4)
    return deployed
