"""CloudFormation: as whom it makes, changes and deletes the resources of a stack, and what it needs for that."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import cloudformation
from ministack.services import iam as ministack_iam
from ministack.services.cloudformation import changesets, handlers, provisioners, stacks

from local_aws.core.clients import Credentials
from local_aws.core.provisioning import Operation, checks
from local_aws.ministack import calls, iam
from local_aws.ministack.patches import patch
from local_aws.ministack.sessions import AccessDeniedError, NotAssumableError, role_of, role_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OK = 200

# The role of the stack operation that the current task works on.
_role: contextvars.ContextVar[Credentials | None] = contextvars.ContextVar("local_aws_stack_role", default=None)


def _principal() -> Credentials | None:
    """Return as whom CloudFormation works: the operation's role, and else its caller."""
    role = _role.get()
    if role is not None:
        return role
    key = calls.caller_key()
    return Credentials(key, "", "") if key else None


def _boundary_of(arn: str) -> str | None:
    return (role_of(arn) or {}).get("PermissionsBoundary") or None


# Differs: Retries of CloudFormation after a denial | AWS: some handlers try again for a while | Here: none | Why: a missing
#   grant does not appear by itself
def check(operation: Operation) -> None:
    """Check the permissions of one operation, as the handlers of the type would meet them. Raises ValueError."""
    principal = _principal()
    if principal is None:
        return
    for needed in checks(operation, iam.caller_account(), iam.current_region(), _boundary_of):
        try:
            iam.authorize(principal, needed.action, needed.resource, needed.context)
        except AccessDeniedError as error:
            message = f'Resource handler returned message: "{error}" (HandlerErrorCode: AccessDenied)'
            raise ValueError(message) from None


@patch(stacks, "_provision_resource")
def _provision_resource(
    original: Callable[..., Any], kind: str, logical_id: str, props: dict[str, Any], stack_name: str
) -> Any:
    """Check the permissions of the create handler, and of the read handler that gives the attributes."""
    check(Operation(("create", "read"), kind, props, stack_name, logical_id))
    made = original(kind, logical_id, props, stack_name)
    _keep_boundary(kind, made[0], props)
    return made


@patch(stacks, "_update_resource")
def _update_resource(
    original: Callable[..., Any],
    kind: str,
    physical_id: str,
    old: dict[str, Any],
    new: dict[str, Any],
    stack_name: str,
    logical_id: str,
    *attributes: Any,
) -> Any:
    """Check the permissions of an update, or of the creation of a replacement."""
    if old != new:
        if provisioners._replacing_change(kind, old, new):
            check(Operation(("create", "read"), kind, new, stack_name, logical_id))
        else:
            check(Operation(("update", "read"), kind, new, stack_name, logical_id, physical_id, old))
    made = original(kind, physical_id, old, new, stack_name, logical_id, *attributes)
    _keep_boundary(kind, made[0], new)
    return made


def _keep_boundary(kind: str, name: str, props: dict[str, Any]) -> None:
    """Give a role the boundary of its template, which MiniStack drops."""
    if kind == "AWS::IAM::Role":
        role = ministack_iam._roles.get_scoped(responses.get_account_id(), None, name)
        if role is not None:
            role["PermissionsBoundary"] = props.get("PermissionsBoundary")


def _assume(role_arn: str) -> Any:
    """Assume the role of a stack operation. Return CloudFormation's refusal if that fails."""
    try:
        _role.set(role_session(role_arn, "AWSCloudFormation", "cloudformation") if role_arn else None)
    except NotAssumableError:
        return handlers._error("ValidationError", f"Role {role_arn} is invalid or cannot be assumed")
    return None


def _given_role(params: Any, record: Mapping[str, Any] | None) -> str:
    """Return the role that the call names, or that the stack got before (API Reference, RoleARN of DeleteStack)."""
    return str(handlers._p(params, "RoleARN") or (record or {}).get("RoleARN") or "")


def _with_role(original: Callable[..., Any], params: Any) -> Any:
    """Run CreateStack, UpdateStack or DeleteStack with its role, which the stack keeps."""
    name = handlers._p(params, "StackName")
    role_arn = _given_role(params, handlers._resolve_stack(name) if name else None)
    refused = _assume(role_arn)
    if refused is not None:
        return refused
    answer = original(params)
    stack = handlers._resolve_stack(name) if name else None
    if stack is not None and role_arn:
        stack["RoleARN"] = role_arn
    return answer


for _action in ("CreateStack", "UpdateStack", "DeleteStack"):
    patch(handlers._ACTION_HANDLERS, _action)(_with_role)


@patch(handlers._ACTION_HANDLERS, "CreateChangeSet")
def _create_change_set(original: Callable[..., Any], params: Any) -> Any:
    """Keep the role of the change set, and read the template's parameters of Systems Manager with it.

    AWS's message is that of aws/aws-cdk issue 20959.
    """
    name, stack_name = handlers._p(params, "ChangeSetName"), handlers._p(params, "StackName")
    role_arn = _given_role(params, handlers._resolve_stack(stack_name) if stack_name else None)
    refused = _assume(role_arn)
    if refused is not None:
        return refused
    answer = original(params)
    identity, change_set = changesets._find_change_set(name, stack_name)
    if change_set is None or answer[0] != _OK:
        return answer
    change_set["RoleARN"] = role_arn
    parameters = change_set["_template"].get("Parameters", {})
    principal = _principal()
    for each in parameters.values():
        if principal is not None and str(each.get("Type")).startswith("AWS::SSM::Parameter::Value"):
            path = str(each.get("Default", "")).lstrip("/")
            arn = f"arn:aws:ssm:{iam.current_region()}:{iam.caller_account()}:parameter/{path}"
            try:
                iam.authorize(principal, "ssm:GetParameters", arn)
            except AccessDeniedError:
                cloudformation._change_sets.pop(identity, None)
                text = "AccessDenied. User doesn't have permission to call ssm:GetParameters"
                return handlers._error("ValidationError", text)
    return answer


@patch(handlers._ACTION_HANDLERS, "ExecuteChangeSet")
def _execute_change_set(original: Callable[..., Any], params: Any) -> Any:
    """Run a change set with its role, which the stack keeps."""
    name, stack_name = handlers._p(params, "ChangeSetName"), handlers._p(params, "StackName")
    _, change_set = changesets._find_change_set(name, stack_name)
    role_arn = str((change_set or {}).get("RoleARN", ""))
    refused = _assume(role_arn)
    if refused is not None:
        return refused
    stack = handlers._resolve_stack(change_set["StackName"]) if change_set else None
    if stack is not None and role_arn:
        stack["RoleARN"] = role_arn
    return original(params)
