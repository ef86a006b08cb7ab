"""The refusals of CreateStateMachine and UpdateStateMachine.

Sources: refusals quoted in public issues: `The field "key" is not supported by Step Functions at
/States/Train Step/Parameters` (aws-step-functions-data-science-sdk-python#200, aws-cdk#10014), `Neither the global
service principal states.amazonaws.com, nor the regional one is authorized to assume the provided role.`
An accepted definition may still fail in the run: AWS created machines whose fields the run then refused (same SDK, #15).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_aws.ministack import states as engine
from local_aws.ministack.iam import caller_account, current_region
from local_aws.ministack.sessions import NotAssumableError, role_session
from local_aws.services.apis import STATES
from local_aws.services.stepfunctions import distributed_map, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_aws.core.registry import Request


class InvalidDefinitionError(Exception):
    """An error of the definition, with its place as a path into the definition."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")
        self.what, self.where = what, where


def states(
    definition: dict[str, Any], jsonata: bool = False, path: str = ""
) -> Iterator[tuple[dict[str, Any], bool, str]]:
    """Yield every state, also of a Map's children, with whether it is JSONata and with its path."""
    jsonata = definition.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
    for name, state in definition.get("States", {}).items():
        where = f"{path}/States/{name}"
        own = state.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
        yield state, own, where
        yield from states(state.get("ItemProcessor", {}), own, f"{where}/ItemProcessor")


def check(definition: dict[str, Any]) -> None:
    """Raise InvalidDefinitionError for the first state that AWS refuses, or that local AWS does not have."""
    for state, jsonata, where in states(definition):
        if state.get("Type") in ("Map", "Parallel"):
            for problem in distributed_map.problems(state, jsonata):
                raise InvalidDefinitionError(problem, where)
        if state.get("Type") == "Task":
            _check_task(state, "Arguments" if jsonata else "Parameters", where)


def _check_task(state: dict[str, Any], member: str, where: str) -> None:
    arn = state.get("Resource", "")
    name = tasks.integration(arn)
    if name is None and ":function:" not in arn:
        raise InvalidDefinitionError(
            f"Local AWS does not have the resource {arn}: call the service from a function", f"{where}/Resource"
        )
    if name is not None and isinstance(state.get(member), dict) and (reason := tasks.problem(name, state[member])):
        raise InvalidDefinitionError(reason, f"{where}/{member}")


def _refusal(definition: str, role_arn: str, machine_arn: str) -> tuple[str, str] | None:
    """Return code and message of AWS's refusal, or None."""
    region = machine_arn.split(":")[3]
    try:
        check(json.loads(definition))
    except ValueError as error:
        return "InvalidDefinition", f"Invalid State Machine Definition: 'INVALID_JSON_DESCRIPTION: {error}'"
    except InvalidDefinitionError as error:
        return "InvalidDefinition", f"Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: {error}'"
    try:
        role_session(role_arn, "create", "states", source_arn=machine_arn, region=region)
    except NotAssumableError:
        return "AccessDeniedException", (
            "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume "
            "the provided role."
        )
    return None


# Differs: ValidateStateMachineDefinition | AWS: all mistakes of the definition, also of its JSONata | Here: the first that
#   CreateStateMachine would refuse | Why: one check serves both
# Unconfirmed: A diagnostic of ValidateStateMachineDefinition | Here: `ERROR`, with the code of CreateStateMachine's refusal
#   and the path as `location` | Source: API Reference: "SCHEMA_VALIDATION_FAILED" and "INVALID_JSON_DESCRIPTION"
@STATES.operation
def validate_state_machine_definition(_: None, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    """Check a definition as CreateStateMachine does, and make nothing."""
    found: dict[str, str] = {}
    try:
        check(json.loads(params["definition"]))
    except ValueError as error:
        found = {"code": "INVALID_JSON_DESCRIPTION", "message": str(error)}
    except InvalidDefinitionError as error:
        found = {"code": "SCHEMA_VALIDATION_FAILED", "message": error.what, "location": error.where}
    diagnostics = [{"severity": "ERROR", **found}] if found else []
    return {"result": "FAIL" if diagnostics else "OK", "diagnostics": diagnostics, "truncated": False}


@engine.replaces("create_state_machine")
def create_state_machine(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """Check a new state machine, also when CloudFormation makes it."""
    root = f"arn:aws:states:{current_region()}:{caller_account()}"
    machine_arn = f"{root}:stateMachine:{data.get('name', '')}"
    refusal = _refusal(data.get("definition", ""), data.get("roleArn", ""), machine_arn)
    return original(data) if refusal is None else engine.error_response(*refusal)


@engine.replaces("update_state_machine")
def update_state_machine(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    """Check an update. A definition or role that it does not give stays unchanged."""
    machine = engine.machine(data.get("stateMachineArn", ""))
    if machine is not None:
        definition = data.get("definition", machine["definition"])
        role_arn = data.get("roleArn", machine["roleArn"])
        refusal = _refusal(definition, role_arn, machine["stateMachineArn"])
        if refusal is not None:
            return engine.error_response(*refusal)
    return original(data)
