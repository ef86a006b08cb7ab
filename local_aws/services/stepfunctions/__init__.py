"""Step Functions on this machine: MiniStack's engine with corrections, and calls under the role."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from local_aws.core.registry import Registered, register_control, register_service
from local_aws.services.apis import STATES
from local_aws.services.stepfunctions import definition, distributed_map, executions, machine, redrive, runs, tasks

if TYPE_CHECKING:
    from pathlib import Path

MODULES = (definition, distributed_map, executions, machine, redrive, tasks)
"""The modules that replace functions of MiniStack's Step Functions, and the one with an operation that it lacks."""


def register(_state_dir: Path, endpoint_url: str) -> None:
    """Answer RedriveExecution and the control path /_tuneway/states. MiniStack answers the other operations."""
    runs.SERVER.endpoint_url = endpoint_url
    register_control("states", executions.control)
    handler = partial(STATES.handle, None)
    register_service(Registered("states", handler, STATES.target_prefix, model="stepfunctions"))
