"""Step Functions on this machine: MiniStack's engine, AWS's service integrations, its differences corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local import private
from local.stepfunctions import definition, history, machine, tasks

if TYPE_CHECKING:
    from pathlib import Path


def register(state_dir: Path, endpoint_url: str) -> None:
    """Put the integrations and corrections into MiniStack's Step Functions."""
    del state_dir
    wrappers = {
        "create_state_machine": definition.create_state_machine,
        "update_state_machine": definition.update_state_machine,
        "validate_definition": definition.validate_definition,
        "start_execution": machine.start_execution,
        "stop_execution": machine.stop_execution,
        "describe_execution": machine.describe_execution,
        "run_execution": machine.run_execution(endpoint_url),
        "run_branch": machine.run_branch,
        "run_parallel": machine.run_parallel,
        "fail_execution": machine.fail_execution,
        "add_event": history.add_event,
        "error_matches": machine.error_matches,
        "fail_state": machine.fail_state,
        "output_path": machine.output_path,
        "invoke": tasks.invoke,
        "invoke_with_timeout": tasks.invoke_with_timeout,
        "invoke_lambda": tasks.invoke_lambda,
        "invoke_sdk": tasks.invoke_sdk,
        **dict.fromkeys(("Pass", "Task", "Choice", "Wait", "Parallel", "Map"), machine.state),
    }
    for name, make in wrappers.items():
        private.wrap_states_function(name, make)
