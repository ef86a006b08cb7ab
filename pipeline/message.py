"""Writes the message about the end of a run: the step, the reason, the remedy, and what still runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pipeline import aws

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUBJECT_LIMIT = 100  # SNS API reference, Publish: a subject is ASCII without line ends.
REASON_LIMIT = 1500

REDRIVE = "redrive the execution in the Step Functions console: it goes on at this step"
ANEW = "a redrive would fail in the same way: do what the reason says, then start a new execution"
_REMEDIES = (
    # Each pattern is searched in "ERROR: REASON". The first that matches counts.
    (r"^Tuneway\.Refused", "nothing was spent; do what the line says, then start a new execution"),
    (r"^MaxCostReached", "do what the reason says"),
    (
        r"CapacityError|InsufficientInstanceCapacity|Unable to provision",
        "AWS has no free instance of this type now: redrive the execution later, or start a new one with more types in "
        "training.instance_types or endpoint.instance_types",
    ),
    (
        r"ResourceLimitExceeded|ServiceQuotaExceeded|LimitExceeded",
        "request an increase of the quota that the reason names in "
        "the Service Quotas console, then redrive the execution",
    ),
    (
        r"^AwsBusy|Throttl|TooManyRequests|Rate exceeded",
        f"AWS was busy, and an hour of retries did not help: {REDRIVE}",
    ),
    (
        r"AccessDenied|not authorized|Could not assume",
        "a permission is missing: run `cdk deploy` to restore the roles, or ask "
        "who manages your organization's policies, then redrive the execution",
    ),
    (r"^EndpointSick", f"look into the endpoint's log group, then {REDRIVE}"),
    (
        r"^EndpointFailed",
        f"look into the endpoint's log group. If it names memory or a length, a redrive fails in the same way: start a new "
        "execution with a lower endpoint.max_model_len or larger endpoint.instance_types. Otherwise "
        f"{REDRIVE}",
    ),
    (r"InternalServerError", f"AWS had an internal error: {REDRIVE}"),
    # A line of Tuneway itself that recommends a redrive. Lines about settings or data say what to change instead.
    (r"(?i)redrive the execution", f"do what the reason says: {REDRIVE}"),
    (
        # The training job begins the line of an error that it does not know with "unexpected" (training.train).
        r"AlgorithmError: (unexpected |training ended with exit code)",
        "the job's log group has the traceback. A redrive would fail in the same way: change what the traceback suggests and "
        "start a new execution, or report it",
    ),
    (
        # This is 128 + SIGKILL. A killed process cannot write a line. Nearly always Linux kills it, because memory ran out.
        r"exit code: 137",
        "the job was killed, most often because its instance's memory ran out (not the GPU's): start a new execution with a "
        "larger type in training.instance_types. If the log group shows another cause, redrive the execution: it goes on "
        "from its last checkpoint",
    ),
    # The job's own code ended it with a line (training.errors). A redrive would cost money and fail again.
    (r"AlgorithmError", ANEW),
    # SageMaker could not use the data or the settings. ClientError is its word for a mistake of the user.
    (r"Failed: ClientError", ANEW),
    (
        r"MaxRuntimeExceeded",
        "the job reached its time limit: redrive the execution, and it goes on from its last checkpoint for the same time "
        "again, or start a new one with a higher training.max_runtime_minutes, or fewer steps or rows",
    ),
    (
        r"MaxWaitTimeExceeded",
        "the job waited too long for spot capacity: redrive the execution later, and it goes on from its last checkpoint, or "
        "start a new one with a higher training.spot_wait_minutes, or with training.spot false",
    ),
    (
        r"^ShardFailed: .*(OutOfMemory|signal: killed|Timedout|timed out)",
        "a shard was too large for its function: start a new execution with a smaller dataset.shard_mb",
    ),
    (
        # Lambda kills a function that has no memory left by a signal, and often calls that Runtime.ExitError.
        r"OutOfMemory|ENOMEM|MemoryError|signal: killed",
        "memory ran out: if the step prepares data, start a new execution with fewer rows or shorter texts; else redrive "
        "the execution",
    ),
    (
        r"Sandbox\.Timedout|Task timed out",
        "the function ran out of time: if the step prepares data, start a new execution with fewer or smaller files; else "
        "redrive the execution",
    ),
    (r"\b(Stopped|Stopping)\b", f"somebody stopped the job: {REDRIVE}"),
    (r"^(ABORTED|TIMED_OUT)", REDRIVE),
    (
        # Bedrock's messages about itself, and not about data or hyperparameters (its user guide, "Troubleshooting model
        # customization issues").
        r"^CustomizationFailed: .*(?i:internal|try again|retry|capacity|high traffic|gives no reason)",
        f"Bedrock had an internal error: {REDRIVE}, and repeats nothing else",
    ),
    (
        r"^CustomizationFailed",
        "Bedrock would refuse these records or hyperparameters again; the tuned model serves nevertheless: change what the "
        "reason names, then start a new execution, or leave Bedrock out with bedrock.mode off",
    ),
    (
        r"^ModelImportFailed: .*(?i:internal|try again|retry|capacity|gives no reason)",
        f"Bedrock had an internal error: {REDRIVE}, and repeats nothing else",
    ),
    (
        r"^ModelImportFailed",
        "Bedrock would refuse this model again; the tuned model serves nevertheless: start a new execution with another "
        "training.base_model, or leave Bedrock out with bedrock.mode off",
    ),
    (
        r"^(ModelDeploymentFailed|BedrockSick)",
        f"the tuned model serves nevertheless: {REDRIVE}, or start a new execution without Bedrock (bedrock.mode off)",
    ),
    (
        r"\bBadRecord\b",
        "a row was written in a form that its format does not allow, and a redrive would write it again: start a new "
        "execution without the row, and report it",
    ),
    (
        r"^ReadBackError",
        "a written file does not have the intended content: start a new execution, which writes it again",
    ),
    (r"^NotOurs", "do what the reason says"),
    (r"^AwsRefused: .*(Conflict|InUse|NotFound|NoSuch)", f"a resource was in use, or no longer exists: {REDRIVE}"),
    (r"^AwsRefused", ANEW),
)
UNKNOWN = f"{REDRIVE}. If it fails in the same way again, report it"
"""The remedy if no pattern matches. A step without a job costs nothing to repeat."""


def notice(
    execution: dict[str, Any],
    prefix: str,
    region: str,
    endpoint: str,
    bedrock: str,
    unfinished: list[str],
    costs: Sequence[str] = (),
) -> dict[str, str]:
    """Return the subject and the text of the message for the user.

    Args:
        execution: the answer of DescribeExecution for an execution that has ended.
        prefix: the stack's prefix.
        region: the stack's region.
        endpoint: the model that is served, and until when, in words.
        bedrock: the state of the run's Bedrock jobs, in words.
        unfinished: the jobs and endpoints that could not be brought to an end.
        costs: the lines about what the run has cost.
    """
    status, name = execution["status"], execution["name"]
    lines = _success(execution) if status == "SUCCEEDED" else _failure(execution)
    arn = execution["executionArn"]
    lines += [
        f"Serving: {endpoint}",
        f"Bedrock: {bedrock}",
        *costs,
        f"Left: {'; '.join(unfinished) or 'nothing of this run is running'}",
        f"Execution: https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{arn}",
    ]
    subject = f"{prefix}: run {name} {status}".encode("ascii", "replace").decode()[:SUBJECT_LIMIT]
    return {"subject": subject, "message": "\n".join(lines)}


def _success(execution: dict[str, Any]) -> list[str]:
    output = json.loads(execution["output"])
    lines = [f"Promoted: {output['promoted']}", f"Why: {output['why']}", f"Model: {output['model']}"]
    # An execution that began before an update of the stack has none of these.
    if run := output.get("model_run"):
        lines[-1] += f", of run {run}"
        lines.append(f"Serve it again: start an execution with the input {json.dumps(output['serve_again'])}")
    if version := output.get("model_package"):
        lines.append(f"Model Registry: {version}")
    if idle := output.get("idle_minutes"):
        lines.append(f"Idle: the endpoint ends when nobody has used it for {idle} minutes, and you are told")
    if call := output.get("bedrock_call"):
        lines.append(f"Ask Bedrock: {call}")
    if call := output.get("call"):
        lines += [f"OpenAI base URL: {call['base_url']}", "Python:", *call["python"]]
    lines += [f"Warning: {line}" for line in output.get("warnings", ())]
    return lines


def _failure(execution: dict[str, Any]) -> list[str]:
    error, reason = error_and_reason(execution)
    return [
        f"Step: {step(execution['executionArn']) or 'none was entered'}",
        f"Reason: {error}: {reason or 'no reason was given'}",
        f"What to do: {remedy(error, reason)}",
    ]


def error_and_reason(execution: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of the error with which an execution has ended, and the line that matters in its cause."""
    status = execution["status"]
    error = (execution.get("error") or status) if status == "FAILED" else status
    return error, _reason(execution.get("cause") or "")


def step(execution_arn: str) -> str | None:
    """Return the last task, or the Map over shards, that the execution entered; None if it entered none."""
    tasks = ("TaskStateEntered", "MapStateEntered")
    return next((state for kind, state in _entered(execution_arn) if kind in tasks), None)


def entered_states(execution_arn: str) -> set[str]:
    """Return the states that the execution ever entered."""
    return {name for _, name in _entered(execution_arn)}


def _entered(execution_arn: str) -> Iterator[tuple[str, str]]:
    """Yield the states that the execution entered, the last one first: the event's type and the state's name."""
    client = aws.client("stepfunctions")
    pages = client.get_paginator("get_execution_history").paginate(
        executionArn=execution_arn, reverseOrder=True, includeExecutionData=False
    )
    for event in (event for page in pages for event in page["events"]):
        if "stateEnteredEventDetails" in event:
            yield event["type"], event["stateEnteredEventDetails"]["name"]


def remedy(error: str, reason: str) -> str:
    """Return what a user can do about an error.

    It recommends a redrive only where the error may pass, because each new job costs money.
    """
    text = f"{error}: {reason}"
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, text)), UNKNOWN)


def _reason(cause: str) -> str:
    """Return the line that matters in a cause: a function's error message, or the cause itself."""
    try:
        document = json.loads(cause)
    except ValueError:
        return cause[:REASON_LIMIT]
    message = document.get("errorMessage") if isinstance(document, dict) else None
    return str(message or cause)[:REASON_LIMIT]
