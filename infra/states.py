"""The kinds of states that the definition is made of, and the failures after which a function is called again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contracts.planned import StackFacts

State = dict[str, Any]
"""A state in the Amazon States Language."""

PAYLOAD = "{% $states.result.Payload %}"
"""What a function has answered."""
REDRIVE = "{% $states.context.Execution.RedriveCount %}"


class StackParts(NamedTuple):
    """What a state may need of the stack.

    Attributes:
        stack: what exists, handed to Plan.
        settings: the deployed settings, handed to Plan as they are.
        steps: version ARNs of the functions by the names of `infra.steps.STEPS`.
    """

    stack: StackFacts
    settings: dict[str, Any]
    steps: Mapping[str, str]


HOUR: dict[str, Any] = {
    # What passes by itself: `pipeline.aws.AwsBusy`, Lambda's own failures (developer guide, "Handle transient Lambda service
    # exceptions"), and the concurrency of a new account, which is small. No paid job is lost over a minute of it. Without
    # jitter, the pauses are an hour and more in all: 5, 10, ... 160 s, then 300 s each.
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
    # Plan has seen the quota: another job or endpoint of the account has the instances, or one that is being stopped.
    "ErrorEquals": ["AwsLimit"],
    "IntervalSeconds": 60,
    "BackoffRate": 2,
    "MaxAttempts": 3,
}
SECONDS = {
    # A role may not be known everywhere yet, of Lambda it is AWSLambdaException; nor the tags of a job of a second ago
    # (NotOurs). SourceUnavailable: the Hub stays down, or a source changes while it is read, and data prep has tried for
    # minutes itself.
    "ErrorEquals": ["AwsRefused", "Lambda.AWSLambdaException", "NotOurs", "SourceUnavailable"],
    "IntervalSeconds": 2,
    "BackoffRate": 2,
    "MaxAttempts": 4,
}
ONCE = {
    # A function whose process died: once more, and not oftener. Every step can be run again. Out of memory or out of time
    # (Runtime.OutOfMemory, Sandbox.Timedout) it would only be so again.
    "ErrorEquals": ["Runtime.ExitError", "Lambda.Unknown"],
    "IntervalSeconds": 2,
    "MaxAttempts": 1,
}


def lambda_task(version: str, payload: dict[str, Any] | str, *, looks: bool = False) -> State:
    """Return a Task without what follows it.

    Args:
        version: ARN of the function's version that it calls.
        payload: what the function gets.
        looks: whether it looks at long work. Its time is over then only where AWS hangs, which passes, too.
    """
    busy = {**HOUR, "ErrorEquals": [*HOUR["ErrorEquals"], "Sandbox.Timedout"]} if looks else HOUR
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": version, "Payload": payload},
        "Retry": [busy, MINUTES, SECONDS, ONCE],
    }


def branch(condition: str, following: str, **assigned: Any) -> State:
    """Return a branch of a Choice: what is assigned and which state comes next where the condition holds."""
    return {"Condition": condition, **({"Assign": assigned} if assigned else {}), "Next": following}


def choice(*branches: State, default: str) -> State:
    """Return a Choice, whose first branch that holds is taken."""
    return {"Type": "Choice", "Choices": list(branches), "Default": default}


def wait(variable: str, following: str) -> State:
    """Return a Wait for as long as the function whose answer is in `variable` has said."""
    return {"Type": "Wait", "Seconds": f"{{% ${variable}.wait_seconds %}}", "Next": following}
