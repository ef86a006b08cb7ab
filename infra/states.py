"""The kinds of states in the definition, and the errors after which a function is called again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contracts.planned import StackFacts
    from pipeline.contracts.values import JsonObject

State = dict[str, Any]
"""A state in the Amazon States Language."""

PAYLOAD = "{% $states.result.Payload %}"
"""The answer of the function that a task has called."""
REDRIVE = "{% $states.context.Execution.RedriveCount %}"
"""How often the execution has been redriven."""

ATTEMPT = {"name": "{% $plan.name %}", "redrive": REDRIVE}
"""What each function that makes something gets: the beginning of its names, and the count that they end in."""
PROGRESS = "{% $states.result.Payload.progress %}"
"""The progress in one line, as the output of a task that looks at long work."""


class StackParts(NamedTuple):
    """The parts of the stack that a state may need.

    Attributes:
        stack: the stack's facts, which Plan gets.
        settings: the deployed settings, which Plan gets unchanged.
        steps: version ARNs of the functions, by the names of `infra.steps.STEPS`.
    """

    stack: StackFacts
    settings: JsonObject
    steps: Mapping[str, str]


HOUR: dict[str, Any] = {
    # These errors pass by themselves: `pipeline.aws.AwsBusy`, Lambda's own failures (developer guide, "Handle transient
    # Lambda service exceptions"), and the small concurrency of a new account. No paid job is lost because of a minute of
    # them. Without jitter, the pauses are more than an hour in all: 5, 10, ... 160 s, then 300 s each.
    "ErrorEquals": [
        "AwsBusy",
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.SdkClientException",
        "Lambda.ServiceException",
        "Lambda.TooManyRequestsException",
    ],
    "IntervalSeconds": 5,
    "BackoffRate": 2,
    "MaxDelaySeconds": 300,
    "MaxAttempts": 17,
}
MINUTES = {
    # Plan has checked the quota. So another job or endpoint of the account uses the instances, or one that is being stopped.
    "ErrorEquals": ["AwsLimit"],
    "IntervalSeconds": 60,
    "BackoffRate": 2,
    "MaxAttempts": 3,
}
SECONDS = {
    # A new role may not be known everywhere yet; Lambda then raises AWSLambdaException. Nor may the tags of a job that was
    # made a second ago (NotOurs). SourceUnavailable means that the Hub stays down or that a source changes while it is read;
    # data prep itself has tried for minutes.
    "ErrorEquals": ["AwsRefused", "Lambda.AWSLambdaException", "NotOurs", "SourceUnavailable"],
    "IntervalSeconds": 2,
    "BackoffRate": 2,
    "MaxAttempts": 4,
}
ONCE = {
    # The function's process died. It is called once more and no more often; every step can be run again. Errors of memory or
    # time (Runtime.OutOfMemory, Sandbox.Timedout) are not here, because the second call would end in the same way.
    "ErrorEquals": ["Runtime.ExitError", "Lambda.Unknown"],
    "IntervalSeconds": 2,
    "MaxAttempts": 1,
}

BRIEFLY = [{**SECONDS, "ErrorEquals": HOUR["ErrorEquals"]}, SECONDS, ONCE]
"""The retriers of a task for which nothing waits an hour. What it does is done again later."""


def lambda_task(version: str, payload: dict[str, Any] | str, *, looks: bool = False) -> State:
    """Return a Task without its `Next`.

    Args:
        version: ARN of the function's version that it calls.
        payload: the function's event.
        looks: whether the function looks at long work. Such a function runs out of time only if AWS hangs, and that passes
            by itself. So the timeout is retried, too.
    """
    busy = {**HOUR, "ErrorEquals": [*HOUR["ErrorEquals"], "Sandbox.Timedout"]} if looks else HOUR
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": version, "Payload": payload},
        "Retry": [busy, MINUTES, SECONDS, ONCE],
    }


def report_event(
    execution: str, moment: str, bucket: str, region: str, spent: str | None = None
) -> dict[str, str | None]:
    """Return the event of the function that writes a run's page (`ReportEvent`). `execution` and `spent` are expressions."""
    return {"execution": execution, "moment": moment, "bucket": bucket, "region": region, "spent": spent}


def branch(condition: str, following: str, **assigned: Any) -> State:
    """Return a branch of a Choice: the assigned variables and the next state if the condition holds."""
    return {"Condition": condition, **({"Assign": assigned} if assigned else {}), "Next": following}


def choice(*branches: State, default: str) -> State:
    """Return a Choice. It takes the first branch whose condition holds."""
    return {"Type": "Choice", "Choices": list(branches), "Default": default}


def wait(variable: str, following: str) -> State:
    """Return a Wait of `wait_seconds` of the function's answer in `variable`."""
    return {"Type": "Wait", "Seconds": f"{{% ${variable}.wait_seconds %}}", "Next": following}
