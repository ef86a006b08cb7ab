"""The current call: all checks that IAM makes of it, and the faults that can meet it after IAM allowed it."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, responses
from ministack.core import router as ministack_router
from ministack.services import s3

from local_aws.core import faults
from local_aws.core.authorization import ApiCall, Check, passed_roles, resource_checks
from local_aws.ministack import iam
from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_ERROR_STATUS = 400


@dataclass
class _Current:
    call: ApiCall
    first: tuple[str, Check] | None = None  # The access key, and the first check of the call. None before the checks.
    denied: Check | None = None


_current: contextvars.ContextVar[_Current | None] = contextvars.ContextVar("local_aws_call", default=None)


def caller_key() -> str | None:
    """Return the access key of the call that is served, or for which a task goes on working."""
    current = _current.get()
    return current.first[0] if current is not None and current.first is not None else None


# The answer of a front end that waited in vain for the service behind it.
_LOST = faults.Fault({}, kind="error", code="InternalFailure", message="The answer was lost.", status=500)


class _CallFailedError(Exception):
    """A fault replaces the service's answer."""

    def __init__(self, fault: faults.Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault

    def answer(self, service: str, headers: dict[str, str], request_id: str) -> Any:
        """Return the error in the called service's protocol."""
        code, message = self.fault.code, self.fault.message
        _, answer_headers, body = iam_actions.access_denied_response(
            service, "", "", request_id, error_code=code, message=message or code, headers=headers
        )
        responses.fix_error_content_type(service, self.fault.status, answer_headers)
        return self.fault.status, answer_headers, body


@patch(iam_evaluator, "enforce")
def _enforce(
    _original: Any,
    access_key_id: str,
    iam_action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: dict[str, Any] | None = None,
) -> Any:
    """Make and log every check of a call. Return MiniStack's refusal of the first denied check, else None."""
    current = _current.get()
    checks = [Check(iam_action, resource_arn, {k: v for k, v in (service_context or {}).items() if v is not None})]
    if current is not None and current.call.service == service and current.first is None:
        own = resource_checks(current.call, iam_action)
        if own is not None:
            checks = [replace(check, context={**checks[0].context, **check.context}) for check in own]
        checks += passed_roles(current.call, iam_action)
        current.first = access_key_id, checks[0]
    for check in checks:
        owner = "iam" if check.action == "iam:PassRole" else service
        denied = iam.decide(access_key_id, check, owner, region)
        if denied is not None:
            if current is not None:
                current.denied = check
            return denied
    if current is not None and current.call.service == service and (fault := _call_fault("error", current)):
        raise _CallFailedError(fault)
    return None


def _call_fault(kind: str, current: _Current) -> faults.Fault | None:
    """Return the fault that fits a call which IAM has allowed."""
    if current.first is None:
        return None
    access_key_id, check = current.first
    body = current.call.body[: faults.SEARCHED_BYTES].decode("utf-8", "replace")
    searched = f"{check.resource} {current.call.path} {body}"
    return faults.take(kind, action=check.action, principal=iam.principal_of(access_key_id), resource=searched)


@patch(app, "_dispatch_service_request")
async def _dispatch(
    original: Callable[..., Any],
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    query: dict[str, list[str]],
    request_id: str,
) -> Any:
    """Keep the call for its checks while MiniStack answers it."""
    routing = app._routing_params(method, path, headers, body, query)
    service = app.detect_service(method, path, headers, routing)
    region = ministack_router.extract_region(headers, query)
    call = ApiCall(service, path, routing, body, region, responses.get_account_id())
    current = _Current(call)
    token = _current.set(current)
    try:
        answer = await original(method, path, headers, body, query, request_id)
        if answer[0] < _FIRST_ERROR_STATUS and _call_fault("lost", current):
            raise _CallFailedError(_LOST)
        return (_hide_missing_key(current, headers, request_id) if answer[0] == 404 else None) or answer
    except _CallFailedError as error:
        return error.answer(service, headers, request_id)
    finally:
        _current.reset(token)


# Unconfirmed: GetObject or HeadObject of a missing object | Here: 403 unless `s3:ListBucket` is allowed without
#   `s3:prefix`; a grant by prefix does not make it 404 | Source: API Reference: "If you don't have the s3:ListBucket
#   permission", which does not mention `s3:prefix`. ceph's pull request 68577 takes the key as the prefix "to match aws
#   behavior". The product lists, and relies on neither
def _hide_missing_key(current: _Current, headers: dict[str, str], request_id: str) -> Any:
    """Return S3's 403 for a caller that may not list the bucket, or None for a caller that gets the 404."""
    access_key_id, check = current.first or ("", Check("", ""))
    bucket = check.resource.partition("/")[0]
    if check.action not in ("s3:GetObject", "s3:GetObjectVersion") or s3._ensure_bucket(bucket.split(":")[-1]) is None:
        return None
    current.denied = Check("s3:ListBucket", bucket)
    denied = iam.decide(access_key_id, current.denied, "s3", current.call.region)
    if denied is None or isinstance(denied, iam_evaluator.AuthError):
        return None
    return iam_actions.access_denied_response(
        "s3",
        "s3:ListBucket",
        denied.principal_arn,
        request_id,
        headers=headers,
        explicit_deny=denied.decision == "Deny",
        resource_policy_arn=denied.resource_policy_arn,
    )


@patch(iam_actions, "access_denied_response")
def _access_denied(
    original: Callable[..., Any], service: str, action: str, principal_arn: str, request_id: str, **options: Any
) -> Any:
    """Name the denied action and its resource in the message."""
    current = _current.get()
    denied = current.denied if current is not None else None
    if denied is not None and not options.get("error_code"):
        explicit = bool(options.get("explicit_deny"))
        action = denied.action
        options["resource_arn"] = denied.resource
        if not options.get("resource_policy_arn"):
            resource = f'"{denied.resource}"' if service == "s3" else denied.resource
            options["message"] = iam_actions.identity_denial_message(action, principal_arn, resource, explicit)
    return original(service, action, principal_arn, request_id, **options)
