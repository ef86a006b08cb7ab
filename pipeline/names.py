"""The names of what a run makes: unique to stack, execution, redrive and retry, inside AWS's patterns.

SageMaker allows 63 characters of `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`, Bedrock's `customModelName` 63 of
`([0-9a-zA-Z][_-]?){1,63}` (service models). A prefix has at most 33 (a stack name of 24 and eight hexadecimal digits
of the stack's id), a run's name 44, and a job's name adds `-REDRIVE-RETRY` inside the state that starts it.
"""

from __future__ import annotations

import hashlib

STACK_TAG = "tuneway:stack"
"""Tag on everything that a stack or its runs make; its value is the stack's prefix. Teardown acts on it."""

RUN_TAG = "tuneway:run"


def run_id(execution_arn: str) -> str:
    """Ten hexadecimal digits for an execution, whatever its name holds (80 characters, dots and underscores)."""
    return hashlib.sha256(execution_arn.encode()).hexdigest()[:10]


def run_prefix(run: str) -> str:
    """Where a run keeps its objects in the stack's bucket."""
    return f"runs/{run}/"
