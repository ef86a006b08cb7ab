"""What CreateStateMachine and UpdateStateMachine refuse before anything runs.

Sources: refusals quoted in public issues: `The field "key" is not supported by Step Functions at
/States/Train Step/Parameters` (aws-step-functions-data-science-sdk-python#200, aws-cdk#10014), `'ROLE' is not
authorized to create managed-rule.` (many, for a role without the events permissions of "IAM policies for
integrated services"), `Neither the global service principal states.amazonaws.com, nor the regional one is
authorized to assume the provided role.`
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local import private
from local.stepfunctions import distributed_map, resources
from local.stepfunctions.resources import OPTIMIZED, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# `.sync` operations that Step Functions follows through an EventBridge rule it makes with the machine's role.
_MANAGED_RULES = {"sagemaker:createTrainingJob": "StepFunctionsGetEventsForSageMakerTrainingJobsRule"}
_NOT_RECOGNIZED = (
    "The resource provided {arn} is not recognized. The value is not a valid resource ARN, or the resource is not "
    "available in this region."
)


class InvalidDefinitionError(Exception):
    """What is wrong, and where as a path into the definition."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")
        self.what, self.where = what, where


def states(
    definition: dict[str, Any], jsonata: bool = False, path: str = ""
) -> Iterator[tuple[dict[str, Any], bool, str]]:
    """Every state with whether it is JSONata and its path, branches and iterations included."""
    jsonata = definition.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
    for name, state in definition.get("States", {}).items():
        where = f"{path}/States/{name}"
        own = state.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
        yield state, own, where
        for index, branch in enumerate(state.get("Branches", [])):
            yield from states(branch, own, f"{where}/Branches[{index}]")
        for inner in ("ItemProcessor", "Iterator"):
            if inner in state:
                yield from states(state[inner], own, f"{where}/{inner}")


def check(definition: dict[str, Any]) -> list[Resource]:
    """The service integrations of a definition. Raises InvalidDefinitionError for the first that AWS does not have."""
    found = []
    for state, jsonata, where in states(definition):
        if jsonata and distributed_map.is_distributed(state):
            for problem in distributed_map.problems(state):
                raise InvalidDefinitionError(problem, where)
        if state.get("Type") != "Task":
            continue
        arn = state.get("Resource", "")
        resource = resources.parse(arn)
        if resource is None:
            if ":function:" not in arn and ":activity:" not in arn:
                raise InvalidDefinitionError(_NOT_RECOGNIZED.format(arn=arn), f"{where}/Resource")
            continue
        _check_resource(resource, arn, where)
        _check_fields(resource, state, jsonata, where)
        found.append(resource)
    return found


def _check_resource(resource: Resource, arn: str, where: str) -> None:
    if resource.sdk:
        known = resources.operation_model(resource) is not None and resource.pattern in ("", "waitForTaskToken")
    elif resource.service in resources.ELSEWHERE:
        known = True  # AWS has it; MiniStack says at run time whether it does.
    else:
        patterns = OPTIMIZED.get(resource.key)
        known = patterns is not None and resource.pattern in ("", *patterns)
    if not known:
        raise InvalidDefinitionError(_NOT_RECOGNIZED.format(arn=arn), f"{where}/Resource")


def _check_fields(resource: Resource, state: dict[str, Any], jsonata: bool, where: str) -> None:
    if not resource.sdk and (resource.service not in resources.CHECKED or resource.key == "bedrock:invokeModel"):
        return
    operation = resources.operation_model(resource)
    member = "Arguments" if jsonata else "Parameters"
    if operation is None or not isinstance(state.get(member), dict):
        return
    unknown = resources.unknown_literal(operation.input_shape, state[member], jsonata)
    if unknown is not None:
        raise InvalidDefinitionError(f'The field "{unknown}" is not supported by Step Functions', f"{where}/{member}")


def _refusal(definition: str, role_arn: str, machine_arn: str) -> tuple[str, str] | None:
    """Code and message of what AWS would refuse, else None."""
    region = machine_arn.split(":")[3]
    try:
        found = check(json.loads(definition))
    except ValueError as error:
        return "InvalidDefinition", f"Invalid State Machine Definition: 'INVALID_JSON_DESCRIPTION: {error}'"
    except InvalidDefinitionError as error:
        return "InvalidDefinition", f"Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: {error}'"
    try:
        private.role_session(role_arn, "create", "states", source_arn=machine_arn, region=region)
    except private.NotAssumableError:
        return "AccessDeniedException", (
            "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume "
            "the provided role."
        )
    for resource in found:
        rule = _MANAGED_RULES.get(resource.key) if resource.pattern == "sync" else None
        if rule is not None and not _may_manage(
            role_arn, f"arn:aws:events:{region}:{role_arn.split(':')[4]}:rule/{rule}"
        ):
            return "AccessDeniedException", f"'{role_arn}' is not authorized to create managed-rule."
    return None


def _may_manage(role_arn: str, rule_arn: str) -> bool:
    try:
        for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
            private.authorize(role_arn, action, rule_arn)
    except private.AccessDeniedError:
        return False
    return True


def create_state_machine(original: Callable[..., Any]) -> Callable[..., Any]:
    """CreateStateMachine, also where CloudFormation calls it."""

    def create(data: dict[str, Any]) -> Any:
        root = f"arn:aws:states:{private.current_region()}:{private.caller_account()}"
        machine_arn = f"{root}:stateMachine:{data.get('name', '')}"
        refusal = _refusal(data.get("definition", ""), data.get("roleArn", ""), machine_arn)
        return original(data) if refusal is None else private.states_error_response(*refusal)

    return create


def update_state_machine(original: Callable[..., Any]) -> Callable[..., Any]:
    """UpdateStateMachine: what stays as it is counts too, since a new role must fit the old definition."""

    def update(data: dict[str, Any]) -> Any:
        machine = private.states_machine(data.get("stateMachineArn", ""))
        if machine is not None:
            definition = data.get("definition", machine["definition"])
            role_arn = data.get("roleArn", machine["roleArn"])
            refusal = _refusal(definition, role_arn, machine["stateMachineArn"])
            if refusal is not None:
                return private.states_error_response(*refusal)
        return original(data)

    return update


def validate_definition(original: Callable[..., Any]) -> Callable[..., Any]:
    """ValidateStateMachineDefinition finds what creation would refuse in the definition itself."""

    def validate(data: dict[str, Any]) -> Any:
        try:
            check(json.loads(data.get("definition", "")))
        except ValueError as error:
            return _diagnosis("INVALID_JSON_DESCRIPTION", str(error), "")
        except InvalidDefinitionError as error:
            return _diagnosis("SCHEMA_VALIDATION_FAILED", error.what, error.where)
        return original(data)

    return validate


def _diagnosis(code: str, message: str, where: str) -> Any:
    diagnostic = {"severity": "ERROR", "code": code, "message": message, "location": where}
    return private.states_json_response({"result": "FAIL", "diagnostics": [diagnostic], "truncated": False})
