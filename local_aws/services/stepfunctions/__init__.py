"""Step Functions on this machine: MiniStack's engine, calls under the role, its differences corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_aws.core.registry import register_control, register_service
from local_aws.services.stepfunctions import (
    definition,
    distributed_map,
    executions,
    history,
    machine,
    redrive,
    runs,
    tasks,
)

if TYPE_CHECKING:
    from pathlib import Path

REPLACING = (definition, distributed_map, executions, history, machine, tasks)
"""The modules that replace functions of MiniStack's Step Functions."""


def register(_state_dir: Path, endpoint_url: str) -> None:
    """Answer RedriveExecution and the control path /_tuneway/states; the other operations stay MiniStack's."""
    runs.SERVER.endpoint_url = endpoint_url
    register_control("states", executions.control)
    register_service(
        "states", handler=redrive.handle, target_prefix="AWSStepFunctions.RedriveExecution", model="stepfunctions"
    )
