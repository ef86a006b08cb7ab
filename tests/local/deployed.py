"""The real stack on a local AWS: the real CDK CLI synthesises, deploys and destroys it, and tests run its executions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local import cdk, inventory, settings, tiny_model
from local_aws.server import ACCOUNT
from local_aws.session import LocalAws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-west-2"
LAYER = Path(__file__).with_name("settings.yaml")
JUDGED = {"evaluation": {"judge_model": "us.amazon.nova-lite-v1:0", "max_new_tokens": 8, "batch_size": 8}}
"""The fields of `training` that give a stack a judge model, for `synthesise`. The account has no access to it at first."""

OFTEN = {"Delay": 0.5, "MaxAttempts": 360}


@dataclass
class Deployed:
    """A stack, which its methods deploy, run, look at and destroy.

    Attributes:
        aws: the local AWS.
        name: the stack's name.
        assembly: the cloud assembly.
        log: the file with the output of the CDK CLI.
        outputs: the stack's outputs by key, once it is deployed.
    """

    aws: LocalAws
    name: str
    assembly: Path
    log: Path
    outputs: dict[str, str] = field(default_factory=dict)
    _cleanups: dict[str, Any] = field(default_factory=dict)
    """The known executions of the cleanup, with their inputs."""

    @property
    def prefix(self) -> str:
        """The beginning of all names of the stack's runs. It is also the endpoint's name."""
        return self.outputs["EndpointName"]

    @property
    def env(self) -> dict[str, str]:
        return cdk.environment(self.aws.endpoint_url, self.aws.region, self.log.parent / "home")

    def cdk(self, command: str, *arguments: str) -> None:
        cdk.run(command, "--app", str(self.assembly), *arguments, env=self.env, log=self.log)

    def bootstrap(self) -> None:
        """Bootstrap the account, unless it is bootstrapped."""
        stacks = self.aws.client("cloudformation").list_stacks()["StackSummaries"]
        if "CDKToolkit" not in {stack["StackName"] for stack in stacks}:
            self.cdk("bootstrap")

    def deploy(self) -> None:
        self.cdk("deploy", "--require-approval", "never")
        self._after_deploy()

    def create(self) -> None:
        """Call CreateStack as `cdk deploy` does. An earlier deploy must have put the assets into the account."""
        manifest = json.loads((self.assembly / "manifest.json").read_text(encoding="utf-8"))
        (uri,) = (
            artifact["properties"]["stackTemplateAssetObjectUrl"]
            for artifact in manifest["artifacts"].values()
            if artifact["type"] == "aws:cloudformation:stack"
        )
        bucket, _, key = uri.removeprefix("s3://").replace("${AWS::AccountId}", ACCOUNT).partition("/")
        cloudformation = self.aws.client("cloudformation")
        cloudformation.create_stack(
            StackName=self.name,
            TemplateURL=f"https://s3.{self.aws.region}.amazonaws.com/{bucket}/{key}",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(StackName=self.name, WaiterConfig=OFTEN)
        self._after_deploy()

    def delete(self, running: str) -> None:
        """Call DeleteStack as `cdk destroy` does, and wait for its end.

        The teardown stops the execution `running`, and waits for a minute after that. 45 of these seconds are skipped.
        """
        cloudformation, states = self.aws.client("cloudformation"), self.aws.client("stepfunctions")
        cloudformation.delete_stack(StackName=self.name)
        deadline = time.time() + 60
        while states.describe_execution(executionArn=running)["status"] == "RUNNING":
            assert time.time() < deadline, "the teardown does not stop the execution"
            time.sleep(0.5)
        self.aws.control("_tuneway/states", {"backdate": running, "seconds": 45})
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig=OFTEN)

    def _after_deploy(self) -> None:
        """Read the outputs, and upload the sample data."""
        self.outputs = self.aws.stack_outputs(self.name)
        for path in (ROOT / "data" / "dialogues").glob("*.csv"):
            self.upload(f"uploads/samples/{path.name}", path.read_bytes())

    def upload(self, key: str, body: bytes) -> None:
        self.aws.client("s3").put_object(Bucket=self.outputs["BucketName"], Key=key, Body=body)

    def start(self, run_input: Any, name: str | None = None) -> str:
        arguments = {"name": name} if name else {}
        started = self.aws.client("stepfunctions").start_execution(
            stateMachineArn=self.outputs["StateMachineArn"], input=json.dumps(run_input), **arguments
        )
        return str(started["executionArn"])

    def wait_for_end(self, arn: str, seconds: float = 240) -> dict[str, Any]:
        """Wait for an execution's end. Return the answer of DescribeExecution, with its output parsed."""
        client = self.aws.client("stepfunctions")
        deadline = time.time() + seconds
        while (described := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.time() < deadline, f"{arn} still runs after {seconds} s"
            time.sleep(0.5)
        if described["status"] == "SUCCEEDED":
            described["output"] = json.loads(described["output"])
        return dict(described)

    def run(self, run_input: Any, name: str | None = None) -> dict[str, Any]:
        """Start an execution and wait for its end."""
        return self.wait_for_end(self.start(run_input, name))

    def redrive(self, arn: str) -> dict[str, Any]:
        """Redrive an execution and wait for its end."""
        self.aws.client("stepfunctions").redrive_execution(executionArn=arn)
        return self.wait_for_end(arn)

    def wait_for_cleanup(self, arn: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for the cleanup after an execution's last end. Return its output: `left`, subject and message."""
        client, prefix = self.aws.client("stepfunctions"), self.outputs["EndpointName"]
        machine = self.outputs["StateMachineArn"].replace(f":{prefix}", f":{prefix}-cleanup")
        ended = client.describe_execution(executionArn=arn)
        cleanup_input = {"execution": arn, "redrives": ended.get("redriveCount", 0), "status": ended["status"]}
        deadline = time.time() + seconds
        while True:
            assert time.time() < deadline, f"no cleanup of {cleanup_input} ended in {seconds} s"
            for page in client.get_paginator("list_executions").paginate(stateMachineArn=machine):
                for execution in page["executions"]:
                    if self._cleanups.get(execution["executionArn"], cleanup_input) != cleanup_input:
                        continue
                    described = client.describe_execution(executionArn=execution["executionArn"])
                    self._cleanups[execution["executionArn"]] = json.loads(described["input"])
                    if self._cleanups[execution["executionArn"]] == cleanup_input and described["status"] != "RUNNING":
                        assert described["status"] == "SUCCEEDED", described
                        return dict(json.loads(described["output"]))
            time.sleep(0.5)

    def ask(self, output: dict[str, Any]) -> str:
        """Run the program in an execution's output, as a user of the account does. Return its standard output."""
        program = "\n".join(output["call"]["python"])
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask_bedrock(self) -> str:
        """Ask the stack's model in Bedrock as `tuneway ask --model bedrock` does. Return the answer."""
        done = self.tuneway("ask", "-", "--model", "bedrock", text="Ann: Are you coming?\nBob: In ten minutes.")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tuneway(
        self, command: str, *arguments: str, text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of `tuneway` as a user of the account, without a terminal."""
        settings_file = str(self.log.with_name("settings.yaml"))
        return subprocess.run(
            [sys.executable, "-m", "cli", command, *arguments, "--settings", settings_file],
            cwd=ROOT,
            env=self.env | environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def result(self, arn: str, state: str) -> dict[str, Any]:
        """Return the answer of the state's task, of the last time it succeeded."""
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        exited = [e["id"] for e in events if e.get("stateExitedEventDetails", {}).get("name") == state]
        answers = [e for e in events if "taskSucceededEventDetails" in e and e["id"] < exited[-1]]
        return dict(json.loads(answers[-1]["taskSucceededEventDetails"]["output"]))

    def outputs_of(self, arn: str, state: str) -> list[Any]:
        """Return the state's outputs, one for each time that the execution left the state."""
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        exited = [
            e["stateExitedEventDetails"] for page in pages for e in page["events"] if "stateExitedEventDetails" in e
        ]
        return [json.loads(details["output"]) for details in exited if details["name"] == state]

    def inventory(self) -> list[str]:
        """Return the account's inventory of this stack."""
        return [line for line in inventory.left(self.aws.client) if self.name in line]

    @contextmanager
    def listening(self) -> Iterator[Callable[[], list[str]]]:
        """Subscribe a queue to the stack's topic. Yield a function that returns the notifications since its last call."""
        sqs, sns = self.aws.client("sqs"), self.aws.client("sns")
        queue = sqs.create_queue(QueueName=f"{self.prefix}-notices")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sender = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [sender]})
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        subscription = sns.subscribe(
            TopicArn=self.outputs["TopicArn"],
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )

        def notices() -> list[str]:
            found = []
            while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
                for message in messages:
                    found.append(message["Body"])
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return found

        try:
            yield notices
        finally:
            sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
            sqs.delete_queue(QueueUrl=queue)

    def judge(self, *pairs: tuple[str, str]) -> None:
        """Give the account access to the judge model, with these scripted answers. Without any, it has no access again."""
        access = "amazon.nova-lite-v1:0" if pairs else ""
        self.aws.control("_tuneway/bedrock", {"model_access": access, "scripted_answers": json.dumps(pairs)})

    def faults(self, *faults: dict[str, Any]) -> None:
        """Replace the list of faults. Without arguments, no fault is left (local_aws/README.md, "Faults")."""
        self.aws.control("_tuneway/faults", list(faults))

    def states(self, arn: str) -> list[str]:
        """Return the states that an execution has entered, in order."""
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]

    def wait_for_state(self, arn: str, state: str, seconds: float = 240) -> None:
        """Wait until the execution has entered the state."""
        client, deadline = self.aws.client("stepfunctions"), time.time() + seconds

        def entered() -> bool:
            # Fewer events than this happen between two looks.
            newest = client.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=200)["events"]
            return any(event.get("stateEnteredEventDetails", {}).get("name") == state for event in newest)

        while not entered():
            assert time.time() < deadline, f"{arn} has not entered {state} after {seconds} s"
            time.sleep(0.2)

    def quota(self, **values: float) -> None:
        """Set quotas of the local account for ml.g5.xlarge: `training`, `spot` and `endpoint`."""
        usage = {"training": "training job usage", "spot": "spot training job usage", "endpoint": "endpoint usage"}
        quotas = {f"ml.g5.xlarge for {usage[kind]}": value for kind, value in values.items()}
        (self.aws.state_dir / "quotas.json").write_text(json.dumps(quotas))

    def jobs(self) -> int:
        """Return how many training and customization jobs the account has had."""
        training = self.aws.client("sagemaker").get_paginator("list_training_jobs").paginate()
        customization = self.aws.client("bedrock").get_paginator("list_model_customization_jobs").paginate()
        return sum(len(page["TrainingJobSummaries"]) for page in training) + sum(
            len(page["modelCustomizationJobSummaries"]) for page in customization
        )

    def endpoint(self) -> dict[str, Any] | None:
        """Return the description of the stack's endpoint, or None if there is none."""
        try:
            return dict(self.aws.client("sagemaker").describe_endpoint(EndpointName=self.prefix))
        except ClientError as error:
            assert "Could not find" in str(error)
            return None


def synthesise(folder: Path, aws: LocalAws, *, layer: Path = LAYER, **changes: Any) -> Deployed:
    """Run `cdk synth` with the settings of `layer` and `changes`. Return the stack, which is not deployed yet.

    Its Hub is that of `aws`, unless `changes` name another.
    """
    changes["access"] = {"hub_endpoint": aws.hub_endpoint} | changes.get("access", {})
    target = folder / "settings.yaml"
    name = settings.write(layer, target, **changes)
    env = cdk.environment(None, REGION, folder / "home")
    assembly = folder / "cdk.out"
    log = folder / "cdk.log"
    # `make check` has the CDK's rules checked. They take as long as the rest of a synth.
    context = ("-c", f"settings={target}", "-c", "@aws-cdk/core:validateAgainstDefaultRules=false")
    cdk.run("synth", "--quiet", *context, "--output", str(assembly), env=env, log=log)
    return Deployed(aws, name, assembly, log)


def wait_scale(aws: LocalAws, scale: float = 0.1) -> None:
    """Shorten Step Functions' waits and retry intervals to this share of those in the definition."""
    aws.control("_ministack/config", {"stepfunctions._SFN_WAIT_SCALE": scale})  # MiniStack's own setting


@contextmanager
def on_its_own(
    folder: Path, region: str = REGION, faults: Sequence[dict[str, Any]] = (), **changes: Any
) -> Iterator[Deployed]:
    """Deploy the stack on a local AWS of its own, with short waits and a tiny random Llama.

    Args:
        folder: an empty folder for both.
        region: the Region.
        faults: the faults that are set before the stack is deployed.
        changes: changes of the tests' settings.
    """
    changes["stack"] = {"region": region} | changes.get("stack", {})
    tiny_model.ensure(folder / "hub")
    aws = LocalAws(folder / "state", region, folder / "hub")
    stack = synthesise(folder, aws, **changes)
    aws.start()
    try:
        wait_scale(aws)
        stack.faults(*faults)
        stack.bootstrap()
        stack.deploy()
        stack.quota(training=2, endpoint=4)
        yield stack
    finally:
        aws.stop()
