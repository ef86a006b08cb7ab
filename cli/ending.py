"""Follows what comes to an end: the cleanup after an execution was stopped, and things that AWS takes minutes to delete."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from botocore.exceptions import BotoCoreError, ClientError

from cli.context import console
from cli.errors import of_aws
from pipeline import aws, catalogue
from pipeline.endpoints import configs, describe_endpoint
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.context import ConnectedStack
    from cli.known_runs import KnownRun

SECONDS_BETWEEN = 3
"""The time between two looks. SageMaker, Bedrock and Step Functions allow several of them per second."""

SECONDS_BETWEEN_LINES = 30
"""The time between two lines that say that the command still waits, where there is no terminal for a spinner."""

CLEANUP_BEGINS = 120
"""The seconds in which EventBridge starts the cleanup. It takes a second or two."""

PATIENCE = 75 * 60
"""The seconds for which a command waits. The creation of an endpoint can hang for an hour, and it cannot be deleted before."""


class CleanupEnd(NamedTuple):
    """How the cleanup of an execution ended.

    Attributes:
        left: one line for each job or endpoint that has not ended.
        serving: the line about the endpoint, as in the message to the topic; None if the execution runs again.
    """

    left: list[str]
    serving: str | None


class Waiting:
    """Says what a command waits for: a spinner in a terminal, else a line now and then."""

    def __init__(self, about: str) -> None:
        """Begin to wait. `about` says for what."""
        self._about = about
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES
        self._deadline = time.monotonic() + PATIENCE
        self._status = console.status(about) if console.is_terminal else None

    def __enter__(self) -> Waiting:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def pause(self) -> bool:
        """Wait until the next look. Return False if the command has waited long enough."""
        if self._status is None and time.monotonic() > self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            typer.echo(self._about)
        time.sleep(SECONDS_BETWEEN)
        return time.monotonic() < self._deadline


@contextmanager
def kept_going(line: str) -> Iterator[None]:
    """Let Ctrl-C, or an error of AWS, end the command with a line that says what goes on by itself.

    Raises:
        Refused: AWS refuses a call, for example because the credentials have expired.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise Refused(f"{of_aws(error)}; {line}") from error
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {line}", err=True)
        raise typer.Exit(130) from None


def until_gone(about: str, ended: str, look: Callable[[], list[str]]) -> list[str]:
    """Call `look` until it returns nothing, and print a line for each thing that it no longer returns.

    Args:
        about: what the command waits for.
        ended: the word for a thing that is no longer there.
        look: deletes or stops what it can, and returns what is still there.

    Returns:
        What is still there when the command has waited long enough.
    """
    left = look()
    if not left:
        return []
    with Waiting(about) as waiting:
        while waiting.pause():
            now = look()
            for thing in left:
                if thing not in now:
                    console.print(f"{thing}: {ended}", markup=False)  # above the line that Rich draws
            left = now
            if not left:
                return []
    return left


def stop_execution(connected: ConnectedStack, run: KnownRun, cause: str) -> None:
    """Stop a running execution. `cause` is the command that stops it."""
    connected.client("stepfunctions").stop_execution(executionArn=run.execution, error="Stopped", cause=cause)
    typer.echo(f"execution {run.name}: stopped")


def follow_cleanup(connected: ConnectedStack, run: KnownRun) -> CleanupEnd:
    """Wait for the cleanup of an execution that has ended. Print a line for each job and for the endpoint, when they change.

    The cleanup waits a minute first, because a function that the execution has called may still make a job.

    Raises:
        Refused: the cleanup has not begun, or it failed.
    """
    seen: dict[str, str] = {}
    begun, arn = time.monotonic(), ""
    about = f"waiting for the cleanup of {run.name}, which first waits a minute for calls that are under way"
    with Waiting(about) as waiting:
        while True:
            for thing, status in _parts(connected, run, seen).items():
                if seen.get(thing) != status:
                    console.print(f"{thing}: {status}", markup=False)
                    seen[thing] = status
            arn = arn or _cleanup(connected, run)
            if arn:
                described = connected.client("stepfunctions").describe_execution(executionArn=arn)
                if described["status"] != "RUNNING":
                    return _ended(described)
            elif time.monotonic() - begun > CLEANUP_BEGINS:
                raise Refused(
                    f"the cleanup of {run.name} has not begun within {CLEANUP_BEGINS} s; run `tuneway down`, which stops jobs"
                )
            if not waiting.pause():
                raise Refused(f"the cleanup of {run.name} takes too long; look into {arn}")


def _cleanup(connected: ConnectedStack, run: KnownRun) -> str:
    """Return the ARN of the cleanup of an execution's last end, or an empty text if it has not begun."""
    client, stack = connected.client("stepfunctions"), connected.stack
    ended = client.describe_execution(executionArn=run.execution)
    machine = f"{stack.state_machine}-cleanup"
    # The newest come first (API reference, ListExecutions).
    for page in client.get_paginator("list_executions").paginate(stateMachineArn=machine):
        for one in page["executions"]:
            if one["startDate"] < run.began:
                return ""
            given = json.loads(client.describe_execution(executionArn=one["executionArn"])["input"])
            if (given["execution"], given["redrives"]) == (run.execution, ended.get("redriveCount", 0)):
                return str(one["executionArn"])
    return ""


def _ended(described: dict[str, Any]) -> CleanupEnd:
    output = json.loads(described.get("output") or "{}")
    if described["status"] != "SUCCEEDED" or "left" not in output:
        text = output.get("message") or described.get("cause") or described["status"]
        raise Refused(
            f"the cleanup failed: {' '.join(text.split())}; run `tuneway down`, which stops and deletes what bills"
        )
    lines = (output.get("message") or "").splitlines()
    serving = next((line.removeprefix("Serving: ") for line in lines if line.startswith("Serving: ")), None)
    return CleanupEnd(output["left"], serving)


def _parts(connected: ConnectedStack, run: KnownRun, seen: dict[str, str]) -> dict[str, str]:
    """Return the run's jobs, and the endpoint if the run has made or changed it, each with its status."""
    begin = f"{connected.stack.endpoint}-{run.run}-"
    sagemaker = connected.client("sagemaker")
    found = {
        f"training job {job['TrainingJobName']}": job["TrainingJobStatus"]
        for job in aws.all_of(sagemaker, "list_training_jobs", "TrainingJobSummaries", NameContains=begin)
    }
    found |= _bedrock_jobs(connected, begin)
    endpoint = describe_endpoint(sagemaker, connected.stack.endpoint)
    name = f"endpoint {connected.stack.endpoint}"
    if any(config and config.startswith(begin) for config in configs(endpoint)):
        found[name] = endpoint["EndpointStatus"]
    elif name in seen:
        gone = endpoint["EndpointStatus"] == "Absent"
        found[name] = "gone" if gone else f"{endpoint['EndpointStatus']} with an earlier model"
    return found


def _bedrock_jobs(connected: ConnectedStack, begin: str) -> dict[str, str]:
    """Return the run's jobs in Bedrock with their status; none if the account cannot use Bedrock."""
    if connected.stack.region not in catalogue.REGIONS:
        return {}
    client = connected.client("bedrock")
    found: dict[str, str] = {}
    for kind in ("customization", "import"):
        operation, key = f"list_model_{kind}_jobs", f"model{kind.title()}JobSummaries"
        try:
            jobs = aws.all_of(client, operation, key, nameContains=begin)
        except (ClientError, BotoCoreError) as error:
            if not aws.is_out_of_reach(error):
                raise
            continue
        found |= {f"{kind} job {job['jobName']}": job["status"] for job in jobs}
    return found
