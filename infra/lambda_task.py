"""A state that calls a function, and the failures after which it is called again."""

from __future__ import annotations

from typing import Any

_RETRY = [
    {
        # Lambda's own failures, as the Step Functions developer guide asks every Lambda task to retry them.
        "ErrorEquals": [
            "Lambda.ClientExecutionTimeoutException",
            "Lambda.ServiceException",
            "Lambda.AWSLambdaException",
            "Lambda.SdkClientException",
            "Lambda.TooManyRequestsException",
            # What boto3 raises when AWS throttles or a role is not known everywhere yet; a user's mistake is never raised.
            "ClientError",
            "ThrottlingException",
            # What data prep raises when the Hub stays down, or a source changes while it is read.
            "SourceUnavailable",
        ],
        "IntervalSeconds": 2,
        "MaxAttempts": 4,
        "BackoffRate": 2,
        "JitterStrategy": "FULL",
    },
    {
        # A function whose process died: once more, and not oftener. Every step can be run again. Out of memory or out of
        # time (Runtime.OutOfMemory, Sandbox.Timedout) it would only be so again.
        "ErrorEquals": ["Runtime.ExitError", "Lambda.Unknown"],
        "IntervalSeconds": 2,
        "MaxAttempts": 1,
    },
]


def lambda_task(version: str, payload: dict[str, Any] | str) -> dict[str, Any]:
    """A Task without what follows it: calls the function's version (ARN) with `payload`."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": version, "Payload": payload},
        "Retry": _RETRY,
    }
