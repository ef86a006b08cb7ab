"""Reads AWS's own histories into a recording: of executions, jobs, the endpoint, the stack, and the functions' logs."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from cli.history import reason
from pipeline import aws
from pipeline.endpoints import describe_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from account.recording import AnswerRecorder

_PLATFORM = re.compile(r"^(INIT_START|START|END|REPORT|EXTENSION|INIT_REPORT)\b")
_MOST_EVENTS = 10_000
"""The most log events of a function that are read. A function of a life writes a few hundred."""


def execution(recorder: AnswerRecorder, states: Any, arn: str, name: str) -> list[str]:
    """Record an ended execution: its status, its error, and its events. Return the states that it entered.

    A loop of looks and waits counts once, because it is as long as the job: each kind of event of a state is recorded when it
    comes first.
    """
    described = states.describe_execution(executionArn=arn)
    failed = described.get("error") or described.get("cause")
    why = [reason(described.get("error"), described.get("cause"))] if failed else []
    recorder.order(f"end of {name}", "stepfunctions", "DescribeExecution", [described["status"], *why])
    entered: list[str] = []
    kinds: list[str] = []
    now = ""
    for event in aws.all_of(states, "get_execution_history", "events", executionArn=arn):
        details: dict[str, Any] = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
        if event["type"].endswith("StateEntered"):
            now = details["name"]
            entered.append(now)
        error = f" {reason(details['error'], details.get('cause'))}" if details.get("error") else ""
        kind = f"{now} {event['type']}{error}".strip()
        if kind not in kinds:
            kinds.append(kind)
    recorder.order(f"events of {name}", "stepfunctions", "GetExecutionHistory", kinds)
    return entered


def training_job(recorder: AnswerRecorder, sagemaker: Any, name: str) -> None:
    """Record the statuses of an ended training job, as its description has kept them."""
    found = sagemaker.describe_training_job(TrainingJobName=name)
    statuses = [one["Status"] for one in found["SecondaryStatusTransitions"]]
    recorder.order(
        "statuses of the training job", "sagemaker", "DescribeTrainingJob", [*statuses, found["TrainingJobStatus"]]
    )


@contextmanager
def followed_endpoint(recorder: AnswerRecorder, sagemaker: Any, name: str, of: str, seconds: float) -> Iterator[None]:
    """Record the statuses of the endpoint meanwhile. SageMaker keeps no history of them, so they are looked at in time.

    Args:
        recorder: the recorder.
        sagemaker: a client.
        name: the endpoint's name.
        of: what is recorded.
        seconds: the time between two looks.
    """
    over = threading.Event()
    statuses: list[str] = []

    def look() -> None:
        try:
            status = describe_endpoint(sagemaker, name)["EndpointStatus"]
        except (ClientError, BotoCoreError):
            return  # The recorder has the error, and the next look comes soon.
        if not statuses or statuses[-1] != status:
            statuses.append(status)

    def follow() -> None:
        while not over.wait(seconds):
            look()

    look()  # The first and the last status must not depend on the moment of a look.
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()
        recorder.order(of, "sagemaker", "DescribeEndpoint", statuses)


def stack_events(recorder: AnswerRecorder, cloudformation: Any, stack_id: str, of: str) -> None:
    """Record what CloudFormation did with the resources of each type, of the whole life of a stack."""
    by_type: dict[str, list[str]] = {}
    events = aws.all_of(cloudformation, "describe_stack_events", "StackEvents", StackName=stack_id)
    for event in reversed(events):
        cause = f" {event['ResourceStatusReason']}" if event.get("ResourceStatusReason") else ""
        statuses = by_type.setdefault(event["ResourceType"], [])
        if (status := f"{event['ResourceStatus']}{cause}") not in statuses:
            statuses.append(status)
    for kind, statuses in sorted(by_type.items()):
        recorder.order(f"{kind} {of}", "cloudformation", "DescribeStackEvents", statuses)


def function_logs(recorder: AnswerRecorder, logs: Any, prefix: str) -> None:
    """Record the forms of the lines that Lambda itself writes into the logs of the stack's functions.

    Args:
        recorder: the recorder.
        logs: a client of CloudWatch Logs.
        prefix: the beginning of the functions' names.
    """
    forms = set()
    groups = aws.all_of(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/lambda/{prefix}")
    for group in groups:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group["logGroupName"], PaginationConfig={"MaxItems": _MOST_EVENTS}
        )
        for page in pages:
            for event in page["events"]:
                if found := _PLATFORM.match(event["message"]):
                    names = re.findall(r"(?:^|\t| )([A-Z][A-Za-z ]*):", event["message"])
                    kind = found[1]
                    forms |= {kind, *(f"{kind} {name.removeprefix(kind).strip()}" for name in names)}
    recorder.order("lines of Lambda in the logs", "logs", "FilterLogEvents", sorted(forms))
