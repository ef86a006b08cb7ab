"""How a run ended, in words: which step, why, what to do, and what is left."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pipeline import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT_LIMIT = 100  # SNS API reference, Publish: Subject, ASCII without line ends.
REASON_LIMIT = 1500

REDRIVE = "redrive the execution in the Step Functions console: it goes on at this step"
ANEW = "a redrive would send the same input to the same end: do what the reason says, then start a new execution"
_REMEDIES = (
    # Looked for in "ERROR: REASON", the first that matches.
    (r"^Tuneway\.Refused", "nothing was spent; do what the line says, then start a new execution"),
    (
        r"CapacityError|InsufficientInstanceCapacity|Unable to provision",
        "AWS has no such instance free now: redrive the execution later, or start a new one with more types in "
        "training.instance_types or endpoint.instance_types",
    ),
    (
        r"ResourceLimitExceeded|ServiceQuotaExceeded|LimitExceeded",
        "request an increase of the quota that the reason names in "
        "the Service Quotas console, then redrive the execution",
    ),
    (r"^AwsBusy|Throttl|TooManyRequests|Rate exceeded", f"AWS was busy and an hour of retries was used up: {REDRIVE}"),
    (
        r"AccessDenied|not authorized|Could not assume",
        "a permission is missing: run `cdk deploy` to restore the roles, or ask "
        "who manages your organization's policies, then redrive the execution",
    ),
    (r"^EndpointSick", f"look into the endpoint's log group, then {REDRIVE}"),
    (
        r"^EndpointFailed",
        f"look into the endpoint's log group. Where it names memory or a length, a redrive ends the same way: start a new "
        "execution with a lower endpoint.max_model_len or larger endpoint.instance_types. Else "
        f"{REDRIVE}",
    ),
    (r"InternalServerError", f"AWS failed by itself: {REDRIVE}"),
    # A line of Tuneway's own that knows it. What ends by the settings or the data says what to change, and never this.
    (r"(?i)redrive the execution", f"do what the reason says: {REDRIVE}"),
    (
        # "unexpected" is how training begins a line for what it does not know (training.train).
        r"AlgorithmError: (unexpected |training ended with exit code)",
        "the job's log group has the traceback. A redrive would send the same input to the same end: start a new execution "
        "with what that suggests, or report it",
    ),
    (
        # 128 + SIGKILL, which no code can answer with a line: nearly always Linux's, for want of memory.
        r"exit code: 137",
        "the job was killed, most often because its instance's memory ran out (not the GPU's): start a new execution with a "
        "larger type in training.instance_types. Where the log group tells another cause, redrive the execution: it goes on "
        "from its last checkpoint",
    ),
    # What the job's own code ends by: its line (training.errors). A redrive would pay for the same end again.
    (r"AlgorithmError", ANEW),
    # Data or settings that SageMaker could not use, by its word for the user's part in it.
    (r"Failed: ClientError", ANEW),
    (
        r"MaxRuntimeExceeded",
        "the job reached its time limit: redrive the execution, and it goes on from its last checkpoint for as long again, "
        "or start a new one with a higher training.max_runtime_minutes, or fewer steps or rows",
    ),
    (
        r"MaxWaitTimeExceeded",
        "the job waited too long for spot capacity: redrive the execution later, and it goes on from its last checkpoint, or "
        "start a new one with a higher training.spot_wait_minutes, or with training.spot false",
    ),
    (
        r"^ShardFailed: .*(OutOfMemory|signal: killed|Timedout|timed out)",
        "a shard was too much for its function: start a new execution with a smaller dataset.shard_mb",
    ),
    (
        # Lambda ends a function without memory by a signal, and often calls it Runtime.ExitError.
        r"OutOfMemory|ENOMEM|MemoryError|signal: killed",
        "memory ran out: start a new execution with fewer rows or shorter texts if it was to prepare data, else redrive the "
        "execution",
    ),
    (
        r"Sandbox\.Timedout|Task timed out",
        "the function ran out of time: start a new execution with fewer or smaller files if it was to prepare data, else "
        "redrive the execution",
    ),
    (r"\b(Stopped|Stopping)\b", f"somebody stopped the job: {REDRIVE}"),
    (r"^(ABORTED|TIMED_OUT)", REDRIVE),
    (
        # What Bedrock says of itself, and not of data or hyperparameters (its user guide, "Troubleshooting model
        # customization issues").
        r"^CustomizationFailed: .*(?i:internal|try again|retry|capacity|high traffic|gives no reason)",
        f"Bedrock failed by itself: {REDRIVE}, and repeats nothing else",
    ),
    (
        r"^CustomizationFailed",
        "Bedrock takes these records or hyperparameters no better a second time, and the tuned model serves all the same: "
        "change what the reason names, then start a new execution, or leave Bedrock out with bedrock.enabled false",
    ),
    (
        r"\bBadRecord\b",
        "a row came out in a form that its format does not allow, and would again: start a new execution without the row, "
        "and report it",
    ),
    (r"^ReadBackError", "what was written is not what was meant: start a new execution, which writes it anew"),
    (r"^NotOurs", "do what the reason says"),
    (r"^AwsRefused: .*(Conflict|InUse|NotFound|NoSuch)", f"something was in use, or has gone: {REDRIVE}"),
    (r"^AwsRefused", ANEW),
)
UNKNOWN = f"{REDRIVE}. If it ends so again, report it"
"""For what none of them matches: a step that is no job costs nothing to try again."""


def notice(
    execution: dict[str, Any], prefix: str, region: str, endpoint: str, bedrock: str, left: list[str]
) -> dict[str, str]:
    """Subject and message for the user.

    Args:
        execution: DescribeExecution's answer for an execution that has ended.
        prefix: the stack's prefix.
        region: its region.
        endpoint: what serves and until when, in words.
        bedrock: what became of the run's Bedrock jobs, in words.
        left: what could not be brought to an end.
    """
    status, name = execution["status"], execution["name"]
    lines = _success(execution) if status == "SUCCEEDED" else _failure(execution)
    arn = execution["executionArn"]
    lines += [
        f"Serving: {endpoint}",
        f"Bedrock: {bedrock}",
        f"Left: {'; '.join(left) or 'nothing of this run is running'}",
    ]
    lines += [
        f"Execution: https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{arn}"
    ]
    subject = f"{prefix}: run {name} {status}".encode("ascii", "replace").decode()[:SUBJECT_LIMIT]
    return {"subject": subject, "message": "\n".join(lines)}


def _success(execution: dict[str, Any]) -> list[str]:
    output = json.loads(execution["output"])
    return [f"Promoted: {output['promoted']}", f"Why: {output['why']}", f"Model: {output['model']}"]


def _failure(execution: dict[str, Any]) -> list[str]:
    error, reason = execution.get("error") or execution["status"], _reason(execution.get("cause") or "")
    if execution["status"] != "FAILED":
        error = execution["status"]
    return [
        f"Step: {step(execution['executionArn']) or 'none was entered'}",
        f"Reason: {error}: {reason or 'no reason was given'}",
        f"What to do: {remedy(error, reason)}",
    ]


def step(execution_arn: str) -> str | None:
    """The last task, or the Map over shards, that the execution entered."""
    tasks = ("TaskStateEntered", "MapStateEntered")
    return next((state for kind, state in _entered(execution_arn) if kind in tasks), None)


def has_entered(execution_arn: str, state: str) -> bool:
    """Whether the execution ever entered the state."""
    return any(entered == state for _, entered in _entered(execution_arn))


def _entered(execution_arn: str) -> Iterator[tuple[str, str]]:
    """The states that the execution entered, the last one first: the event's type and the state's name."""
    client = aws.client("stepfunctions")
    pages = client.get_paginator("get_execution_history").paginate(
        executionArn=execution_arn, reverseOrder=True, includeExecutionData=False
    )
    for event in (event for page in pages for event in page["events"]):
        if "stateEnteredEventDetails" in event:
            yield event["type"], event["stateEnteredEventDetails"]["name"]


def remedy(error: str, reason: str) -> str:
    """What a user can do about an error: to redrive only where it may pass, since a job is paid for each time."""
    text = f"{error}: {reason}"
    return next((what for pattern, what in _REMEDIES if re.search(pattern, text)), UNKNOWN)


def _reason(cause: str) -> str:
    """The one line that matters in a cause: a function's message, or the cause itself."""
    try:
        document = json.loads(cause)
    except ValueError:
        return cause[:REASON_LIMIT]
    said = document.get("errorMessage") if isinstance(document, dict) else None
    return str(said or cause)[:REASON_LIMIT]
