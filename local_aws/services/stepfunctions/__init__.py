"""Step Functions on this machine: MiniStack's engine, calls under the role, its differences corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_aws.ministack import private
from local_aws.services.stepfunctions import definition, distributed_map, executions, history, machine, redrive, tasks

if TYPE_CHECKING:
    from pathlib import Path


def register(state_dir: Path, endpoint_url: str) -> None:
    """Put the calls and corrections into MiniStack's Step Functions."""
    del state_dir
    wrappers = {
        "create_state_machine": definition.create_state_machine,
        "update_state_machine": definition.update_state_machine,
        "validate_definition": definition.validate_definition,
        "start_execution": executions.start_execution(endpoint_url),
        "stop_execution": executions.stop_execution,
        "describe_execution": executions.describe_execution,
        "describe_machine": executions.describe_machine,
        "run_execution": executions.run_execution(endpoint_url),
        "announce": executions.announce,
        "run_branch": machine.run_branch,
        "run_parallel": machine.run_parallel,
        "run_map": distributed_map.run_map,
        "add_event": history.add_event,
        "error_matches": machine.error_matches,
        "output_path": machine.output_path,
        "invoke": tasks.invoke,
        **dict.fromkeys(("Pass", "Task", "Choice", "Wait", "Parallel", "Map"), machine.state),
    }
    for name, make in wrappers.items():
        private.wrap_states_function(name, make)
    private.register_control("states", executions.control)
    private.register_service(
        "states",
        handler=redrive.handle,
        target_prefix="AWSStepFunctions.RedriveExecution",
        model="stepfunctions",
    )
