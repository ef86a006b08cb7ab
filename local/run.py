"""Deploy, run and destroy on this machine: `python -m local.run [--dataset FILE|FOLDER --fields DIALOGUE:SUMMARY] [--keep]`.

`make local` runs it. Its steps: synthesise, start local AWS, bootstrap and deploy with the real CDK CLI, upload the dataset,
execute, ask the endpoint, destroy, and list what is left. The exit code is 0 only if every step succeeded, IAM denied nothing
and nothing is left. A model that is not promoted is no failure: then no endpoint is asked.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import watch
from cli.dataset import columns, local_dataset
from cli.history import reason
from local import cdk, inventory, settings
from local.steps import QUIET_SECONDS, step
from local_aws.session import LocalAws, LocalAwsError
from pipeline.errors import Refused
from pipeline.settings import overlay
from serving.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

ROOT = cdk.ROOT
HOME = ROOT / ".local"
LAST_RUN = HOME / "last-run.json"
REGION = "us-west-2"

console = Console(highlight=False, soft_wrap=True, emoji=False)

POLL_SECONDS = 1.0
"""The seconds between two looks at the execution. Nobody else uses the local account."""


class RunError(Exception):
    """A user's mistake, or a run that failed. The message is one line."""


def dataset_input(dataset: Path | None, fields: str | None) -> tuple[dict[str, Path], dict[str, Any], str]:
    """Return the files to upload by their keys, the execution's input that names them, and the dataset in words.

    Args:
        dataset: the user's file or folder; None for the samples in data/dialogues/.
        fields: DIALOGUE:SUMMARY, the names of the two columns; None for those of the settings.

    Raises:
        Refused: there is no such file or folder, it holds no data, or `fields` is not DIALOGUE:SUMMARY.
    """
    if dataset is None:
        if fields:
            raise Refused("FIELDS needs DATASET: name your own data too")
        files = sorted((ROOT / "data" / "dialogues").glob("*.csv"))
        return {f"uploads/samples/{path.name}": path for path in files}, {}, "data/dialogues/"
    own = local_dataset(dataset)
    given = overlay(own.input, columns(fields)) if fields else own.input
    return own.files, given, own.described(given)


def ask_endpoint(aws: LocalAws, output: dict[str, Any]) -> dict[str, str]:
    """Ask the endpoint a held-out dialogue, as a user's own client would.

    Returns:
        The texts `dialogue`, `endpoint` (its answer), `base` (the base model's answer, from the evaluation) and `reference`.
    """
    s3 = aws.client("s3")

    def read(uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return str(s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    sample = json.loads(read(f"{output['model']}tuneway/evaluation.json"))["samples"][0]
    body = json.dumps({"messages": sample["prompt"], "max_tokens": 96, "temperature": 0})
    response = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=output["endpoint"], ContentType="application/json", Body=body
    )
    answer = json.loads(response["Body"].read())["choices"][0]["message"]["content"]
    return {
        "dialogue": _as_text(sample["prompt"]),
        "endpoint": answer.strip(),
        "base": sample["base"],
        "reference": sample["reference"],
    }


def _as_text(prompt: list[dict[str, str]]) -> str:
    """Return what a sample asks, without its system message. The turns of a conversation have their roles."""
    turns = [turn for turn in prompt if turn["role"] != "system"]
    return turns[0]["content"] if len(turns) == 1 else "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def show(texts: dict[str, str]) -> None:
    """Print the dialogue and the three answers."""
    table = Table(show_header=False, title="A held-out dialogue", title_justify="left", padding=(0, 1, 1, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("dialogue", escape(texts["dialogue"]))
    table.add_row("tuned (endpoint)", escape(texts["endpoint"]))
    table.add_row("base", escape(texts["base"]))
    table.add_row("reference", escape(texts["reference"]))
    console.print(table)


def execute(aws: LocalAws, stack: str, dataset: Path | None, fields: str | None, record: dict[str, Any]) -> None:
    """Upload the dataset, run an execution and ask the endpoint. Write the results into `record`.

    If the rows are too few for Bedrock's base model, or it does not take them, the execution runs again without Bedrock: a
    user who tries a few rows here wants to see them trained.

    Raises:
        RunError: the execution did not succeed, or its model should be served and is not.
    """
    outputs = aws.stack_outputs(stack)
    endpoint, role = outputs["EndpointName"], outputs["CallerRoleArn"]
    machine, bucket = outputs["StateMachineArn"], outputs["BucketName"]
    deployed = LocalStack(aws, Stack(stack, aws.region, endpoint, role, bucket, machine))
    uploads, run_input, described = dataset_input(dataset, fields)
    if dataset:
        console.print(f"[bold]Dataset[/bold] {escape(described)}")
    s3 = aws.client("s3")
    for key, path in uploads.items():
        s3.upload_file(str(path), bucket, key)
    execution = _start_and_watch(deployed, run_input)
    if refused_for_bedrock(execution.description):
        console.print(f"[bold]Bedrock is left out.[/bold] {escape(execution.description['cause'])}")
        run_input = {**run_input, "bedrock": {"mode": "off"}}
        execution = _start_and_watch(deployed, run_input)
    record |= {"status": execution.description["status"], "states": execution.seconds, "input": run_input}
    if not execution.succeeded:
        record |= {"error": execution.description.get("error"), "cause": execution.description.get("cause")}
        raise RunError(f"execution {record['status']}: {reason(record['error'], record['cause'])}")
    output = execution.output
    record |= {"output": output, "scores": output["scores"]}
    if output["deployment"] == "skipped":
        console.print(f"[bold]No model is served, so none is asked.[/bold] {escape(output['why'])}")
        return
    if output["endpoint"] is None:
        raise RunError(f"the model was not served ({output['deployment']}): {output['why']}")
    record["texts"] = ask_endpoint(aws, output)
    show(record["texts"])


def refused_for_bedrock(description: dict[str, Any]) -> bool:
    """Return whether an execution was refused because Bedrock's base model does not take the rows (`data_prep.outputs`).

    Args:
        description: the answer of DescribeExecution.
    """
    return description.get("error") == "Tuneway.Refused" and str(description.get("cause")).startswith("bedrock: ")


class LocalStack(NamedTuple):
    """The stack in the local account, as `tuneway watch` sees it."""

    aws: LocalAws
    stack: Stack

    def client(self, service: str) -> Any:
        """Return a client of the local account."""
        return self.aws.client(service)


def _start_and_watch(deployed: LocalStack, run_input: dict[str, Any]) -> watch.WatchEnd:
    answer = deployed.client("stepfunctions").start_execution(
        stateMachineArn=deployed.stack.state_machine, input=json.dumps(run_input)
    )
    arn = answer["executionArn"]
    input_text = escape(json.dumps(run_input, ensure_ascii=False))
    console.print(f"[bold]Execution[/bold] {arn.rsplit(':', 1)[1]} with input {input_text}")
    options = f" --settings {settings.TARGET.relative_to(ROOT)}"
    return watch.show(deployed, arn, console, options=options, poll=POLL_SECONDS, heartbeat=QUIET_SECONDS)


def allow_endpoint_update(aws: LocalAws) -> None:
    """Set the quotas of endpoint instances to 2, because an update of a serving endpoint needs two for a while."""
    names = json.loads(aws.control("_tuneway/quotas"))
    aws.control("_tuneway/quotas", {name: 2 for name in names if name.endswith("for endpoint usage")})


def keep_instructions(
    aws: LocalAws, outputs: Mapping[str, str], run_input: Mapping[str, Any], call: Mapping[str, Any] | None
) -> str:
    """Return the commands to use the local account while it is up: to run once more with the same input, and to ask the model.

    Args:
        aws: the local account.
        outputs: the stack's outputs.
        run_input: the input of the execution.
        call: how to call the model (the execution's output `call`); None if none is served.
    """
    # Not with the AWS CLI, which may not be installed.
    start = (
        'import boto3, sys; print(boto3.client("stepfunctions").start_execution('
        f'stateMachineArn="{outputs["StateMachineArn"]}", input=sys.argv[1])["executionArn"])'
    )
    ask = ""
    if call:
        program = "\n".join(call["python"])
        ask = (
            f"To ask the model, give an OpenAI client the base URL {call['base_url']}, or run this program with "
            f"{sys.executable} in {ROOT}:\n{program}\n"
        )
    return (
        f"Local AWS and the endpoint {outputs['EndpointName']} stay up. To run once more, in another shell:\n"
        f"  export AWS_ENDPOINT_URL={aws.endpoint_url} AWS_REGION={aws.region} AWS_DEFAULT_REGION={aws.region} "
        "AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test\n"
        f"  {shlex.quote(sys.executable)} -c {shlex.quote(start)} {shlex.quote(json.dumps(run_input))}\n"
        f'With \'{{"serve": "last"}}\' as its last word, it serves the last model again, without a training.\n{ask}'
        f"Every command of tuneway works there as with an account: .venv/bin/tuneway ask FILE --settings {settings.TARGET} "
        "(also chat, plan, run, watch, runs, report, serve, stop, down and doctor)\n"
        f"To stop local AWS and all that runs in it: kill {aws.pid}"
    )


def main() -> None:
    """Parse the command line, deploy, run and destroy."""
    parser = argparse.ArgumentParser(prog="python -m local.run", description="Deploy, run and destroy on this machine.")
    parser.add_argument("--dataset", type=Path, help="your own file or folder, in place of data/dialogues/")
    parser.add_argument("--fields", help="DIALOGUE:SUMMARY, the names of its two columns")
    parser.add_argument("--keep", action="store_true", help="leave local AWS up, with the stack and the endpoint")
    arguments = parser.parse_args()
    # SIGTERM ends the run like Ctrl-C, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, interrupt)
    HOME.mkdir(exist_ok=True)
    try:
        dataset_input(arguments.dataset, arguments.fields)  # before a minute is spent on a mistyped path
        lock = (HOME / "run.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        clean = run(arguments.dataset, arguments.fields, keep=arguments.keep)
    except (Refused, RunError, cdk.CdkError, LocalAwsError) as error:
        sys.exit(f"error: {error}")
    except BlockingIOError:
        sys.exit("error: another `make local` runs in this folder: wait for its end, or use a second clone")
    except KeyboardInterrupt:
        sys.exit("interrupted: local AWS and all that it ran are stopped")
    sys.exit(0 if clean else 1)


def run(dataset: Path | None, fields: str | None, *, keep: bool) -> bool:
    """Do every step from synth to destroy, and write the results to .local/last-run.json.

    Args:
        dataset: as for `dataset_input`.
        fields: as for `dataset_input`.
        keep: leave local AWS up, with the stack and the endpoint.

    Returns:
        Whether IAM denied nothing and nothing is left after destroy.

    Raises:
        RunError: as for `execute`.
        local.cdk.CdkError: a command of the CDK CLI failed.
        LocalAwsError: local AWS did not start.
    """
    started = time.time()
    record: dict[str, Any] = {"status": "NOT_FINISHED", "states": {}, "input": {}, "denied": [], "left": None}
    aws = LocalAws(HOME / "aws", REGION, HOME / "hub")
    stack = settings.write(access={"hub_endpoint": aws.hub_endpoint})
    assembly, log = HOME / "cdk.out", HOME / "cdk.log"
    log.unlink(missing_ok=True)
    LAST_RUN.unlink(missing_ok=True)
    with step(console, "Package the functions"):
        make("infra.package", str(settings.TARGET))
    with step(console, "Get the base model"):
        make("local.model", "--cache", str(HOME / "hub"))
    failed: Exception | None = None
    kept = False
    try:
        env = _prepare(aws, assembly, log)
        app = ("--app", str(assembly))
        with cdk.Command("deploy", *app, "--require-approval", "never", env=env, log=log) as deploy:
            with step(console, "cdk deploy", log):
                _await_stack(deploy, aws, stack)
            try:
                execute(aws, stack, dataset, fields, record)
            except RunError as error:
                failed = error
            deploy.wait()
        record["denied"] = aws.denied()
        if keep:
            kept = True
            allow_endpoint_update(aws)
            call = record.get("output", {}).get("call")
            console.print(escape(keep_instructions(aws, aws.stack_outputs(stack), record["input"], call)))
        else:
            if failed:
                console.print(f"[red]{escape(str(failed))}[/red]")
            with step(console, "cdk destroy", log):
                cdk.run("destroy", *app, "--force", env=env, log=log)
            record["left"] = inventory.left(aws.client)
            console.print(f"[bold]Left after destroy:[/bold] {', '.join(record['left']) or 'nothing'}")
            record["denied"] = aws.denied()
    finally:
        record["seconds"] = round(time.time() - started, 1)
        LAST_RUN.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not kept:
            aws.stop()
    for denied in record["denied"]:
        console.print(f"[red]IAM denied[/red] {denied['action']} on {denied['resource']} to {denied['principal']}")
    if failed:
        raise failed
    console.print(f"{record['seconds']:.0f} s in all; details in {LAST_RUN.relative_to(ROOT)}")
    return not record["denied"] and not record["left"]


def _prepare(aws: LocalAws, assembly: Path, log: Path) -> dict[str, str]:
    """Make the cloud assembly, and start and bootstrap local AWS meanwhile. Return the environment of the CDK's commands."""
    offline, own_log = cdk.environment(None, REGION, HOME / "home"), log.with_name("cdk-synth.log")
    own_log.unlink(missing_ok=True)
    context = ("-c", f"settings={settings.TARGET}")
    with cdk.Command("synth", "--quiet", *context, "--output", str(assembly), env=offline, log=own_log) as synth:
        with step(console, "Start local AWS"):
            aws.start()
        env = cdk.environment(aws.endpoint_url, REGION, HOME / "home")
        account = aws.client("sts").get_caller_identity()["Account"]
        with step(console, "cdk bootstrap", log):
            cdk.run("bootstrap", f"aws://{account}/{REGION}", env=env, log=log, cwd=HOME)
        with step(console, "Synthesise", own_log):
            synth.wait()
    return env


def _await_stack(deploy: cdk.Command, aws: LocalAws, stack: str) -> None:
    """Wait until the stack is complete. The CLI looks every five seconds, and only its own end tells of a failure.

    Raises:
        local.cdk.CdkError: `cdk deploy` failed.
    """
    while deploy.runs:
        try:
            (found,) = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        except (ClientError, BotoCoreError):  # There is no such stack yet, or local AWS is gone, so the CLI will fail.
            found = {}
        if found.get("StackStatus") == "CREATE_COMPLETE":
            return
        time.sleep(POLL_SECONDS / 2)
    deploy.wait()


def make(module: str, *arguments: str) -> None:
    """Run a module as a program, which makes something once and is quick after that.

    Raises:
        RunError: it failed. The message is its last line.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"{module} failed: {lines[-1].removeprefix('error: ')}; mend that, and run it again")


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the program as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
