"""The one file that touches MiniStack's private names; tests/local_aws/ministack/test_private.py says when one moves.

The other files of this folder use what is public here: services (`register_service`, `register_control`), IAM
(`role_session`, `trusts_service`, `authorize`), what runs functions and schedules (`run_functions_with`,
`run_schedules_with`), Step Functions' functions, and the types. `install` puts the hooks in place, `serve`
answers requests.
"""

from __future__ import annotations

import contextvars
import inspect
import json
import logging
import operator
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from ministack import app
from ministack.core import (
    concurrency,
    hypercorn_compat,
    iam_actions,
    iam_evaluator,
    lambda_runtime,
    responses,
)
from ministack.core import router as ministack_router
from ministack.services import (
    cloudformation,
    cloudwatch,
    eventbridge,
    iam,
    lambda_svc,
    s3,
    scheduler,
    sns,
    sqs,
    stepfunctions,
    sts,
    tagging,
)
from ministack.services.cloudformation import provisioners, stacks

from local_aws.core import faults
from local_aws.core.authorization import ApiCall, Check, passed_roles, resource_checks

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

logger = logging.getLogger("local_aws.private")

# ---------------------------------------------------------------------------------------------------------------------
# Services of this folder
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One API call, authenticated and authorized. Header names are in lower case; `query` holds lists of values."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    account: str
    region: str
    caller_arn: str


@dataclass(frozen=True)
class Response:
    """The answer; an asynchronous iterator as body is streamed as it comes."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


# A handler that answers None leaves the call to MiniStack's own service of that name.
Handler = Callable[[Request], "Response | Awaitable[Response | None] | None"]
TagSource = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True)
class _Service:
    name: str
    handler: Handler
    target_prefix: str | None
    paths: tuple[re.Pattern[str], ...]
    signing_names: tuple[str, ...]
    tags: TagSource | None


_services: list[_Service] = []
_controls: dict[str, Handler] = {}


def register_service(
    name: str,
    *,
    handler: Handler,
    target_prefix: str | None = None,
    paths: Sequence[str] = (),
    signing_names: Sequence[str] = (),
    namespace: str | None = None,
    model: str | None = None,
    tags: TagSource | None = None,
) -> None:
    """Answer the calls of one service with `handler`; a function that is not async runs on a thread of its own.

    A call belongs to the service when its X-Amz-Target begins with `target_prefix`, or when it is signed for one of
    `signing_names` and (where `paths` are given) its path matches one of these patterns from the start. Later ones
    are asked first. `namespace` is the prefix of its IAM actions and `model` its name in botocore, both `name` by
    default; `tags` tells the tags of one of its ARNs, for aws:ResourceTag conditions.
    """
    service = _Service(name, handler, target_prefix, tuple(re.compile(p) for p in paths), tuple(signing_names), tags)
    _services.insert(0, service)
    iam_actions.SERVICE_TO_IAM_NAMESPACE[name] = namespace or iam_actions.SERVICE_TO_IAM_NAMESPACE.get(name, name)
    if model is not None or name not in iam_actions._BOTOCORE_SERVICE_MAP:
        iam_actions._BOTOCORE_SERVICE_MAP[name] = [model or name]
    fallback = app.SERVICE_HANDLERS.get(name)

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], Any]:
        caller = iam_evaluator.request_caller_arn(headers, query)
        account, region = responses.get_account_id(), responses.get_region()
        request = Request(method, path, query, headers, body, account, region, caller)
        response = await _answer(handler, request)
        if response is None and fallback is not None:
            answer: tuple[int, dict[str, str], Any] = await fallback(method, path, headers, body, query)
            return answer
        return _raw(response or Response(400, body=b'{"__type": "UnknownOperationException"}'))

    app.SERVICE_HANDLERS[name] = handle


def register_control(prefix: str, handler: Handler) -> None:
    """Answer requests under /_tuneway/<prefix>: a way in for tests and tools, with neither signature nor IAM."""
    _controls[f"/_tuneway/{prefix.strip('/')}"] = handler


async def _answer(handler: Handler, request: Request) -> Response | None:
    if inspect.iscoroutinefunction(handler):
        result: Response | None = await handler(request)
        return result
    # A thread of its own a call: what runs here may call back into this server.
    result = await concurrency.run_reentrant(handler, request, thread_name="local-aws-handler")
    return result


def _raw(response: Response) -> tuple[int, dict[str, str], Any]:
    if isinstance(response.body, bytes):
        return response.status, dict(response.headers), response.body
    chunks = response.body

    async def run(send: Callable[[dict[str, Any]], Awaitable[None]], _receive: Any) -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return response.status, dict(response.headers), responses.StreamingResponse(run)


def _detect_service(method: str, path: str, headers: dict[str, str], query: dict[str, Any]) -> str:
    target = headers.get("x-amz-target", "")
    signed = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", headers.get("authorization", ""))
    for service in _services:
        if target and service.target_prefix and target.startswith(service.target_prefix):
            return service.name
        if target or signed is None or signed.group(1) not in service.signing_names:
            continue
        if not service.paths or any(pattern.match(path) for pattern in service.paths):
            return service.name
    return str(ministack_router.detect_service(method, path, headers, query))


# ---------------------------------------------------------------------------------------------------------------------
# IAM: sessions, checks, the decision log
# ---------------------------------------------------------------------------------------------------------------------

_SESSION_SECONDS = 12 * 3600
_REFUSED = 400  # The first HTTP status of a refusal.
_SEARCHED = 1 << 16  # Bytes of a request's body that a fault's `resource` is searched in.


@dataclass(frozen=True)
class Credentials:
    """Temporary credentials of a role's session, good for 12 hours."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: float = field(default_factory=lambda: time.time() + _SESSION_SECONDS)

    def expired(self) -> bool:
        """Whether less than an hour of the session is left: time to ask for another."""
        return time.time() > self.expiration - 3600

    def environment(self) -> dict[str, str]:
        """The variables an SDK reads these credentials from."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }


RESOURCE_POLICY = "resource policy"  # A decision's reason where the policy of a bucket or topic denied.


class AccessDeniedError(Exception):
    """IAM said no; the text is AWS's message."""


class NotAssumableError(AccessDeniedError):
    """A service may not assume the role: it does not exist, or its trust policy does not let the service in."""


_decisions_lock = threading.Lock()
_sessions_lock = threading.Lock()
_decisions_path: list[Path] = []


def _log_decision(principal: str, check: Check, allowed: bool, reason: str = "", injected: bool = False) -> None:
    if not _decisions_path:
        return
    decision: dict[str, Any] = {
        "time": round(time.time(), 3),
        "principal": principal,
        "action": check.action,
        "resource": check.resource,
        "context": check.context,
        "allowed": allowed,
    }
    if reason:
        decision["reason"] = reason
    if injected:  # `allowed` stays what the policies say; a fault refused the call all the same.
        decision["injected"] = True
    line = json.dumps(decision, default=str) + "\n"
    with _decisions_lock, _decisions_path[0].open("a", encoding="utf-8") as log:
        log.write(line)


def _role(role_arn: str) -> dict[str, Any] | None:
    found = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):role/(.+)", role_arn)
    if found is None:
        return None
    role: dict[str, Any] | None = iam._roles.get_scoped(found[1], None, found[2].rsplit("/", 1)[-1])
    return role if role is not None and role.get("Arn", role_arn) == role_arn else None


def _new_session(role_arn: str, session_name: str) -> Credentials:
    account = role_arn.split(":")[4]
    name = role_arn.rsplit("/", 1)[-1]
    credentials = Credentials(
        f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), secrets.token_urlsafe(96)
    )
    role_id = (_role(role_arn) or {}).get("RoleId", "AROA")
    with _sessions_lock:  # MiniStack walks all sessions when one is added, from whichever thread.
        sts.register_session(
            credentials.access_key_id,
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session_name}",
                "UserId": f"{role_id}:{session_name}",
                "SecretAccessKey": credentials.secret_access_key,
                "SessionToken": credentials.session_token,
                "Expiration": credentials.expiration,
                "AccountId": account,
                "PrincipalType": "AssumedRole",
            },
        )
    return credentials


def role_session(
    role_arn: str, session_name: str, service: str, *, source_arn: str = "", region: str = ""
) -> Credentials:
    """Assume a role as `<service>.amazonaws.com` does, if the role's trust policy lets it.

    `source_arn` is the resource on whose behalf the service acts, in the form that the service's documentation of trust
    policies gives: see `_may_assume`. Lambda has none. Raises NotAssumableError.
    """
    check, allowed = _may_assume(role_arn, service, source_arn, region)
    principal = _service_principal(service)
    injected = allowed and bool(_denial_fault(principal, check))
    _log_decision(principal, check, allowed, injected=injected)
    if not allowed or injected:
        raise NotAssumableError(
            f"User: {principal} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        )
    return _new_session(role_arn, re.sub(r"[^\w+=,.@-]", "-", session_name)[:64])


def trusts_service(role_arn: str, service: str, source_arn: str, region: str) -> bool:
    """Whether the role exists and lets `<service>.amazonaws.com` in; asked when a role is only handed over."""
    return _may_assume(role_arn, service, source_arn, region)[1]


def _service_principal(service: str) -> str:
    return service if "." in service else f"{service}.amazonaws.com"


def _may_assume(role_arn: str, service: str, source_arn: str, region: str) -> tuple[Check, bool]:
    """Whether the trust policy lets the service in, which shows the keys that its documentation promises and no others.

    So a trust that relies on any other key fails here. Of SageMaker only aws:SourceArn is documented ("Cross-service
    confused deputy prevention"), of Lambda's execution roles neither key.
    """
    keys = {"aws:sourcearn": source_arn} if source_arn else {}
    if source_arn and service != "sagemaker":
        keys["aws:sourceaccount"] = source_arn.split(":")[4]
    check = Check("sts:AssumeRole", role_arn, dict(keys))
    role = _role(role_arn)
    return check, role is not None and _trusts(role, _service_principal(service), check, region)


def _trusts(role: dict[str, Any], principal: str, check: Check, region: str) -> bool:
    document = role.get("AssumeRolePolicyDocument") or {}
    trust = json.loads(document) if isinstance(document, str) else document
    statements = trust.get("Statement", [])
    context = iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type="Service",
        principal_account=check.resource.split(":")[4],
        action=check.action,
        resource_arn=check.resource,
        region=region or responses.get_region(),
        service_context=check.context,
    )
    allowed = False
    for statement in [statements] if isinstance(statements, dict) else statements:
        actions, named = statement.get("Action", []), statement.get("Principal", {})
        services = named.get("Service", []) if isinstance(named, dict) else []
        matches = (
            iam_evaluator._action_matches(check.action, [actions] if isinstance(actions, str) else actions, [])
            and (named == "*" or principal in ([services] if isinstance(services, str) else services))
            and iam_evaluator._conditions_met(statement.get("Condition", {}), context)
        )
        if matches and statement.get("Effect") == "Deny":
            return False
        allowed = allowed or (matches and statement.get("Effect") == "Allow")
    return allowed


def authorize(
    principal: Credentials,
    action: str,
    resource: str,
    context: Mapping[str, str | Sequence[str]] | None = None,
) -> None:
    """Check one action of a session, as the service itself would have to make it.

    Identity policies, boundary and the resource's own policy are evaluated and the decision is logged. Raises
    AccessDeniedError with AWS's message.
    """
    check = Check(action, resource, dict(context or {}))
    fields = resource.split(":")
    region = fields[3] if len(fields) > 5 and fields[3] else responses.get_region()
    denied = _decide(principal.access_key_id, check, action.partition(":")[0], region)
    if denied is None:
        return
    if isinstance(denied, iam_evaluator.AuthError):
        raise AccessDeniedError(denied.message)
    explicit = denied.decision == "Deny"
    raise AccessDeniedError(iam_actions.identity_denial_message(action, denied.principal_arn, resource, explicit))


def caller_account() -> str:
    """The account of the call that is being answered."""
    return str(responses.get_account_id())


def current_region() -> str:
    """The Region of the call that is being answered."""
    return str(responses.get_region())


@dataclass
class _Current:
    call: ApiCall
    passes_role_checked: bool = False
    asked: tuple[str, Check] | None = None  # The access key, and the first check of the call.
    denied: Check | None = None


_current: contextvars.ContextVar[_Current | None] = contextvars.ContextVar("local_aws_call", default=None)
# The tags that an evaluation asks for while it runs, for the decision log.
_tags_read: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("local_aws_tags", default=None)
_ministack_enforce = iam_evaluator.enforce
_ministack_dispatch = app._dispatch_service_request
_ministack_denied = iam_actions.access_denied_response
_ministack_resource_tags = tagging.resource_tags
_ministack_app = app.app


def _principal(access_key_id: str) -> str:
    account = responses._account_from_sts_session(access_key_id) or responses.get_account_id()
    resolved = iam_evaluator.resolve_credential(access_key_id, account)
    return str(getattr(resolved, "principal_arn", "") or "unknown")


def _decide(access_key_id: str, check: Check, service: str, region: str) -> Any:
    principal = _principal(access_key_id)
    session = re.fullmatch(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/.+", principal)
    if session is not None and iam._roles.get_scoped(session[1], None, session[2]) is None:
        # A session ends with its role: an authentication failure, no decision of a policy.
        text = "The security token included in the request is invalid."
        return iam_evaluator.AuthError("UnrecognizedClientException", text)
    tags: dict[str, str] = {}
    token = _tags_read.set(tags)
    try:
        denied = _ministack_enforce(
            access_key_id,
            check.action,
            service,
            region,
            resource_arn=check.resource,
            service_context=check.context,
        )
    finally:
        _tags_read.reset(token)
    reason = denied.code if isinstance(denied, iam_evaluator.AuthError) else ""
    if getattr(denied, "resource_policy_arn", ""):
        reason = RESOURCE_POLICY
    # A resource's tags are gone with it, and are a part of what was asked.
    asked, injected = replace(check, context={**tags, **check.context}), False
    if denied is None and _denial_fault(principal, check):
        denied, injected = iam_evaluator.EvalResult("ImplicitDeny", principal_arn=principal), True
    _log_decision(principal, asked, denied is None or injected, reason, injected)
    return denied


def _denial_fault(principal: str, check: Check) -> faults.Fault:
    return faults.take("deny", action=check.action, principal=principal, resource=check.resource)


# What a front end answers that has waited in vain for the service behind it.
_LOST = faults.Fault({}, kind="error", code="InternalFailure", message="The answer was lost.", status=500)


class _CallFailedError(Exception):
    """A fault takes the place of the service's answer."""

    def __init__(self, fault: faults.Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault

    def answer(self, service: str, headers: dict[str, str], request_id: str) -> Any:
        """The error in the called service's protocol."""
        code, message = self.fault.code, self.fault.message
        _, answer_headers, body = _ministack_denied(
            service, "", "", request_id, error_code=code, message=message or code, headers=headers
        )
        responses.fix_error_content_type(service, self.fault.status, answer_headers)
        return self.fault.status, answer_headers, body


def _enforce(
    access_key_id: str,
    iam_action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: dict[str, Any] | None = None,
) -> Any:
    """Stands in for iam_evaluator.enforce: every check of a call, each one logged."""
    current = _current.get()
    checks = [Check(iam_action, resource_arn, {k: v for k, v in (service_context or {}).items() if v is not None})]
    if current is not None and current.call.service == service and not current.passes_role_checked:
        current.passes_role_checked = True
        own = resource_checks(current.call, iam_action)
        if own is not None:
            checks = [replace(check, context={**checks[0].context, **check.context}) for check in own]
        checks += passed_roles(current.call, iam_action)
        current.asked = access_key_id, checks[0]
    for check in checks:
        owner = "iam" if check.action == "iam:PassRole" else service
        denied = _decide(access_key_id, check, owner, region)
        if denied is not None:
            if current is not None:
                current.denied = check
            return denied
    if current is not None and current.call.service == service and (fault := _call_fault("error", current)):
        raise _CallFailedError(fault)
    return None


def _call_fault(kind: str, current: _Current) -> faults.Fault | None:
    """The fault that is meant for a call which IAM has let pass."""
    if current.asked is None:
        return None
    access_key_id, check = current.asked
    searched = f"{check.resource} {current.call.path} {current.call.body[:_SEARCHED].decode('utf-8', 'replace')}"
    return faults.take(kind, action=check.action, principal=_principal(access_key_id), resource=searched)


async def _dispatch(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]], request_id: str
) -> Any:
    """Stands in for app._dispatch_service_request: remembers the call its checks are about."""
    routing = app._routing_params(method, path, headers, body, query)
    service = _detect_service(method, path, headers, routing)
    region = ministack_router.extract_region(headers, query)
    call = ApiCall(service, path, routing, body, region, responses.get_account_id())
    current = _Current(call)
    token = _current.set(current)
    try:
        answer = await _ministack_dispatch(method, path, headers, body, query, request_id)
        if answer[0] < _REFUSED and _call_fault("lost", current):
            raise _CallFailedError(_LOST)
        return (_hide_missing_key(current, headers, request_id) if answer[0] == 404 else None) or answer
    except _CallFailedError as error:
        return error.answer(service, headers, request_id)
    finally:
        _current.reset(token)


def _hide_missing_key(current: _Current, headers: dict[str, str], request_id: str) -> Any:
    """S3's 403 in the place of a 404, for who may not list the bucket; None where the 404 stands.

    "If you don't have the s3:ListBucket permission, Amazon S3 returns an HTTP status code 403" (API Reference, GetObject and
    HeadObject). No page says what s3:prefix is then. Here there is none, so that a grant by prefix does not help: the
    stricter of two readings, for ceph takes the key as the prefix "to match aws behavior" (its pull request 68577).
    """
    access_key_id, check = current.asked or ("", Check("", ""))
    bucket = check.resource.partition("/")[0]
    if check.action not in ("s3:GetObject", "s3:GetObjectVersion") or s3._ensure_bucket(bucket.split(":")[-1]) is None:
        return None
    current.denied = Check("s3:ListBucket", bucket)
    denied = _decide(access_key_id, current.denied, "s3", current.call.region)
    if denied is None or isinstance(denied, iam_evaluator.AuthError):
        return None
    return _access_denied(
        "s3",
        "s3:ListBucket",
        denied.principal_arn,
        request_id,
        headers=headers,
        explicit_deny=denied.decision == "Deny",
        resource_policy_arn=denied.resource_policy_arn,
    )


def _access_denied(service: str, action: str, principal_arn: str, request_id: str, **options: Any) -> Any:
    """Stands in for iam_actions.access_denied_response: the message names what was denied, and on which resource."""
    current = _current.get()
    denied = current.denied if current is not None else None
    if denied is not None and not options.get("error_code"):
        explicit = bool(options.get("explicit_deny"))
        action = denied.action
        options["resource_arn"] = denied.resource
        if not options.get("resource_policy_arn"):
            resource = f'"{denied.resource}"' if service == "s3" else denied.resource
            options["message"] = iam_actions.identity_denial_message(action, principal_arn, resource, explicit)
    return _ministack_denied(service, action, principal_arn, request_id, **options)


def evaluate(policies: Sequence[Mapping[str, Any]], decision: Mapping[str, Any]) -> bool:
    """Whether identity policies (policy documents) allow what a line of the decision log asked; reads no state.

    MiniStack's own evaluator, with the line's `principal`, `action`, `resource` and `context` (aws:ResourceTag/ keys
    included). Not looked at: boundaries, policies of the resource itself, and condition keys that the log does not hold
    (aws:RequestedRegion, aws:PrincipalTag/ and the clock).
    """
    principal = str(decision["principal"])
    context = {key.lower(): value for key, value in decision["context"].items()}
    asked = iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole",
        principal_account=principal.split(":")[4],
        action=decision["action"],
        resource_arn=decision["resource"],
        region="",
        source_ip="127.0.0.1",
        secure_transport=True,
        service_context={"aws:tagkeys": None, **context},  # as enforce does: no tags named, no key
    )
    parsed = [iam_evaluator.parse_policy_document(dict(policy)) for policy in policies]
    return bool(iam_evaluator.evaluate(asked, parsed).decision == "Allow")


def _resource_tags(arn: str) -> Any:
    """Stands in for tagging.resource_tags: asks this folder's services first, and tells `_decide` what was read."""
    owner = next((s for s in _services if s.tags is not None and arn.startswith(_arn_prefix(s.name))), None)
    tags = dict(owner.tags(arn)) if owner is not None and owner.tags is not None else _ministack_resource_tags(arn)
    read = _tags_read.get()
    if read is not None:
        read.update({f"aws:ResourceTag/{name}": value for name, value in (tags or {}).items()})
    return tags


def _arn_prefix(service: str) -> str:
    return f"arn:aws:{iam_actions.SERVICE_TO_IAM_NAMESPACE[service]}:"


def _pin_origin(source_ip: str, secure_transport: bool) -> None:
    """Loopback counts as secure transport: a policy that denies plain http means the network, and there is none."""
    iam_evaluator._request_origin.set((source_ip, secure_transport or source_ip in ("127.0.0.1", "::1")))


# ---------------------------------------------------------------------------------------------------------------------
# Functions, schedules, alarms, buckets
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """One version of a function: its configuration as GetFunctionConfiguration has it, its zip and its layers' zips."""

    config: dict[str, Any]
    code_zip: bytes
    layers: list[bytes]
    trace_id: str | None


@dataclass(frozen=True)
class FunctionResult:
    """The payload's JSON text, or the error document with errorType and errorMessage, or neither if `throttled`."""

    payload: str | None = None
    error: dict[str, Any] | None = None
    log: str = ""
    throttled: bool = False


def run_functions_with(
    execute: Callable[[Function, Any, str], FunctionResult], invalidate: Callable[[str], None]
) -> None:
    """Run every zip function through `execute(function, event, request id)`.

    `invalidate(name)` is called when a function changed or is gone.
    """

    def execute_warm(record: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        config = record["config"]
        zips = [lambda_svc._resolve_layer_zip(layer) for layer in config.get("Layers") or []]
        trace_id = lambda_svc._xray_trace_id_for_invocation(config)
        function = Function(config, record["code_zip"], [layer for layer in zips if layer], trace_id)
        result = execute(function, event, request_id)
        if result.throttled:
            return dict(lambda_svc._throttle_response("ConcurrentInvocationLimitExceeded", "Rate Exceeded."))
        if result.error is not None:
            return {"body": result.error, "error": True, "function_error": "Unhandled", "log": result.log}
        return {"body": json.loads(result.payload or "null"), "log": result.log}

    def reserved(record: dict[str, Any], config: dict[str, Any]) -> int | None:
        """MiniStack keeps a version's own record; reserved concurrency is the whole function's."""
        found: int | None = of_record(lambda_svc._functions.get(config.get("FunctionName", "")) or record, config)
        return found

    of_record = lambda_svc._reserved_concurrency

    def invalidate_worker(name: str, *_qualifier: Any, **_scope: Any) -> None:
        invalidate(name)

    def no_logs(*_arguments: Any, **_options: Any) -> None:
        """Logs are written by `execute`, with the permissions of the function's role."""

    lambda_svc._execute_function_warm = execute_warm
    lambda_svc._reserved_concurrency = reserved
    lambda_svc.invalidate_worker = invalidate_worker
    lambda_svc._emit_lambda_logs = no_logs


def node_bootstrap() -> str:
    """MiniStack's bootstrap of Node functions, which stands in for the SDK clients of Lambda's own image too."""
    return str(lambda_runtime._NODEJS_WORKER_SCRIPT)


def run_schedules_with(
    invoke: Callable[[dict[str, Any], dict[str, Any], float, str], None],
    check: Callable[[dict[str, Any], str], str | None],
) -> None:
    """Call due targets through `invoke(schedule, target, time, region)`; `check(schedule, region)` refuses a new one."""
    rule_target, create, update = (
        eventbridge._invoke_target,
        scheduler._create_schedule,
        scheduler._update_schedule,
    )
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Scheduler::Schedule"]
    provision = handlers["create"]

    def invoke_target(target: dict[str, Any], event: dict[str, Any], source: dict[str, Any], *view: Any) -> None:
        if event.get("Source") == "aws.scheduler":
            invoke(dict(source), target, float(event["Time"]), responses.get_region())
        elif ":stateMachine:" in target.get("Arn", "") and not _rule_may_start(target, source):
            logger.warning("rule %s may not start %s", source.get("Arn"), target["Arn"])
        elif ":function:" not in target.get("Arn", "") or _rule_may_invoke(target["Arn"], source):
            rule_target(target, event, source, *view)

    def checked(operation: Callable[[str, dict[str, Any]], Any]) -> Callable[[str, dict[str, Any]], Any]:
        def call(name: str, body: dict[str, Any]) -> Any:
            refusal = check(body, responses.get_region())
            return scheduler._error(400, "ValidationException", refusal) if refusal else operation(name, body)

        return call

    def provision_checked(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        refusal = check(props, responses.get_region())
        if refusal:
            raise ValueError(refusal)
        return provision(logical_id, props, stack_name)

    eventbridge._invoke_target = invoke_target
    scheduler._create_schedule, scheduler._update_schedule = checked(create), checked(update)
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    handlers["create"] = provision_checked


def _rule_may_start(target: dict[str, Any], rule: dict[str, Any]) -> bool:
    """Whether a target's role lets EventBridge start the state machine ("Using identity-based policies for EventBridge")."""
    role = str(target.get("RoleArn", ""))
    try:
        session = role_session(role, "events", "events", source_arn=str(rule.get("Arn", "")))
        authorize(session, "states:StartExecution", target["Arn"])
    except AccessDeniedError as error:
        logger.warning("%s", error)
        return False
    return True


def _rule_may_invoke(function_arn: str, rule: dict[str, Any]) -> bool:
    """Whether the function's own policy lets a rule's events in ("Using resource-based policies for EventBridge")."""
    found = lambda_svc.function_policy_for_arn(function_arn)
    if found is None:
        return True  # No such function: MiniStack's own delivery says so.
    return _service_may("events", "lambda:InvokeFunction", function_arn, rule.get("Arn", ""), found[0])


def _service_may(service: str, action: str, resource: str, source_arn: str, policy: str) -> bool:
    """Whether a resource's own policy lets a service in on behalf of `source_arn`, over TLS; the decision is logged.

    aws:SourceOwner is the key of a topic's default policy (Amazon SNS Developer Guide, "aws:SourceAccount versus
    aws:SourceOwner").
    """
    keys = {"aws:sourcearn": source_arn} | dict.fromkeys(("aws:sourceaccount", "aws:sourceowner"), caller_account())
    principal = _service_principal(service)
    check = Check(action, resource, dict(keys))
    context = iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type="Service",
        principal_account=caller_account(),
        action=check.action,
        resource_arn=resource,
        region=responses.get_region(),
        secure_transport=True,
        service_context=keys,
    )
    allowed = bool(iam_evaluator.evaluate_resource_policy(policy, context, service=principal).decision == "Allow")
    _log_decision(principal, check, allowed)
    return allowed


_COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def _alarm_on_queues() -> None:
    """Set every alarm on a queue's ApproximateNumberOfMessagesVisible after each call of SQS.

    MiniStack's SQS has no metrics, and its alarms look at those of all dimensions together.
    """
    handle = app.SERVICE_HANDLERS["sqs"]

    async def handle_and_look(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        answer = await handle(method, path, headers, body, query)
        for alarm in list(cloudwatch._alarms.values()):
            if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible"):
                _set_alarm(alarm)
        return answer

    app.SERVICE_HANDLERS["sqs"] = handle_and_look


def _set_alarm(alarm: dict[str, Any]) -> None:
    (name,) = (dimension["Value"] for dimension in alarm["Dimensions"])
    queue = sqs._queue_by_arn(f"arn:aws:sqs:{responses.get_region()}:{caller_account()}:{name}")
    if queue is None:
        return
    sqs._refresh_counts(queue)
    visible = int(queue["attributes"]["ApproximateNumberOfMessages"])
    breaching = _COMPARISONS[alarm["ComparisonOperator"]](visible, alarm["Threshold"])
    reason = f"Threshold Crossed: 1 datapoint [{visible}.0] ({alarm['ComparisonOperator']} {alarm['Threshold']})"
    state = {"StateValue": "ALARM" if breaching else "OK", "StateReason": reason}
    cloudwatch._set_alarm_state({}, {"AlarmName": alarm["AlarmName"], **state}, is_cbor=False, is_json=True)


def _publish_alarms_by_policy() -> None:
    """An alarm's message is lost where the topic's policy does not let CloudWatch publish; MiniStack asks nobody.

    AWS keeps "Failed to execute action ..." in the alarm's history and tells nobody (AWS re:Post, "Why didn't I receive an
    SNS notification for my CloudWatch alarm trigger?").
    """
    dispatch = cloudwatch._dispatch_alarm_actions
    actions = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}

    def dispatch_allowed(alarm: dict[str, Any], old_state: str, new_state: str, reason: str) -> None:
        allowed = [arn for arn in alarm.get(actions[new_state]) or [] if _alarm_may_publish(alarm["AlarmArn"], arn)]
        dispatch({**alarm, actions[new_state]: allowed}, old_state, new_state, reason)

    cloudwatch._dispatch_alarm_actions = dispatch_allowed


def _alarm_may_publish(alarm: str, topic: str) -> bool:
    found = sns.topic_policy_for_arn(topic)
    if found is not None and _service_may("cloudwatch", "sns:Publish", topic, alarm, found[0]):
        return True
    logger.warning("the message of %s is lost: its policy does not let CloudWatch publish to %s", alarm, topic)
    return False


def _refuse_full_buckets() -> None:
    """CloudFormation's delete of a bucket fails as S3's does; MiniStack's would throw the objects away."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    delete = handlers["delete"]

    def delete_bucket(physical_id: str, props: dict[str, Any]) -> None:
        bucket = s3._ensure_bucket(physical_id)
        if bucket is not None and (bucket["objects"] or s3._bucket_has_versions(physical_id)):
            raise ValueError(
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket. "
                "(Service: S3, Status Code: 409)"
            )
        delete(physical_id, props)

    handlers["delete"] = delete_bucket


def _keep_dependencies() -> None:
    """A stack's deletion spares what a resource that could not be deleted depends on; MiniStack's goes on to the end.

    CloudFormation deletes in the reverse order of dependencies, so what a failed one depends on never has its turn
    ("DELETE_FAILED" in the User Guide's "Stack status codes"; DeleteStack, RetainResources). With a custom resource it is
    what decides whether a second deletion can go on: its function and roles are still there.
    """
    delete = stacks._delete_resource

    def delete_resource(kind: str, physical_id: str, props: dict[str, Any], stack_name: str, logical_id: str) -> None:
        stack = cloudformation._stacks.get(stack_name) or {}
        if stack.get("StackStatus") == "DELETE_IN_PROGRESS":
            left, declared = set(stack["_resources"]), stack["_template"]["Resources"]
            for other in left - {logical_id}:
                if logical_id in stacks._with_dependencies([other], declared, left):
                    raise ValueError(f"{other} depends on it and could not be deleted")
        delete(kind, physical_id, props, stack_name, logical_id)

    stacks._delete_resource = delete_resource


# ---------------------------------------------------------------------------------------------------------------------
# Step Functions (for local/stepfunctions/)
# ---------------------------------------------------------------------------------------------------------------------

ExecutionError = stepfunctions._ExecutionError  # A state's failure: ExecutionError(error, cause).
# What local/stepfunctions wraps, by a name of our own -> MiniStack's function of that name.
_STATES_FUNCTIONS = {
    "create_state_machine": "_create_state_machine",
    "update_state_machine": "_update_state_machine",
    "validate_definition": "_validate_state_machine_definition",
    "start_execution": "_start_execution",
    "stop_execution": "_stop_execution",
    "describe_execution": "_describe_execution",
    "describe_machine": "_describe_state_machine_for_execution",
    "announce": "_emit_execution_status_event",
    "run_execution": "_run_execution",
    "run_branch": "_run_sub_machine",
    "run_map": "_run_map_items",
    "run_parallel": "_run_parallel_branches",
    "add_event": "_add_event",
    "error_matches": "_error_matches",
    "invoke": "_invoke_resource",
    "fail_state": "_fail_state_error",
    "output_path": "_apply_output_path",
    "Pass": "_execute_pass",
    "Task": "_execute_task",
    "Choice": "_execute_choice",
    "Wait": "_execute_wait",
    "Parallel": "_execute_parallel",
    "Map": "_execute_map",
}


def wrap_states_function(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(original)` in the place of one of Step Functions' own functions (the keys of _STATES_FUNCTIONS)."""
    attribute = _STATES_FUNCTIONS[name]
    setattr(stepfunctions, attribute, make(getattr(stepfunctions, attribute)))


def states_function(name: str) -> Callable[..., Any]:
    """The function as it is now, wrapped or not."""
    function: Callable[..., Any] = getattr(stepfunctions, _STATES_FUNCTIONS[name])
    return function


def states_execution(arn: str) -> dict[str, Any] | None:
    """MiniStack's record of an execution (live: changes take effect)."""
    execution: dict[str, Any] | None = stepfunctions._executions.get(arn)
    return execution


def states_machine(arn: str) -> dict[str, Any] | None:
    """MiniStack's record of a state machine."""
    machine: dict[str, Any] | None = stepfunctions._state_machines.get(arn)
    return machine


def states_add_execution(execution: dict[str, Any]) -> None:
    """Make a record an execution that Step Functions' operations know: the child of a Distributed Map."""
    stepfunctions._executions[execution["executionArn"]] = execution


def states_add_map_run(record: dict[str, Any]) -> None:
    """Make a record a Map Run: DescribeMapRun's answer, and `_stateMachineArn` for ListMapRuns."""
    stepfunctions._map_runs[record["mapRunArn"]] = record


def states_announce(detail: Mapping[str, Any]) -> None:
    """Send EventBridge's "Step Functions Execution Status Change"; its delivery is best effort and raises nothing."""
    entry = {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Detail": json.dumps(detail),
        "Resources": [detail["executionArn"]],
    }
    try:
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    except Exception:
        logger.exception("no event was sent for %s", detail["executionArn"])


def states_error_response(code: str, message: str, status: int = 400) -> Any:
    """A refusal in the form that Step Functions' functions return."""
    return responses.error_response_json(code, message, status)


def states_json_response(document: Any) -> Any:
    """An answer in the form that Step Functions' functions return."""
    return responses.json_response(document)


def is_jsonata(state: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Whether the state is evaluated as JSONata."""
    return bool(stepfunctions._state_query_language(state, context) == "JSONata")


def evaluate_jsonata(template: Any, raw_input: Any, context: Any, result: Any = None) -> Any:
    """A value with every {% %} in it evaluated."""
    return stepfunctions._apply_jsonata_template(template, raw_input, context, result=result)


def assign_variables(state: Any, raw_input: Any, context: Any, result: Any = None) -> None:
    """Evaluate the state's Assign into the context's variables."""
    stepfunctions._apply_state_assign(state, raw_input, context, result=result)


def jsonpath_input(state: Any, raw_input: Any, context: Any) -> Any:
    """InputPath, then Parameters."""
    return stepfunctions._apply_parameters(state, stepfunctions._apply_input_path(state, raw_input, context), context)


def jsonpath_output(state: Any, raw_input: Any, context: Any, result: Any) -> Any:
    """ResultSelector, ResultPath, then OutputPath."""
    selected = stepfunctions._apply_result_selector(state, result)
    return stepfunctions._apply_output_path(
        state, stepfunctions._apply_result_path(state, raw_input, selected), context
    )


def succeed_output(state: Any, raw_input: Any, context: Any) -> Any:
    """What a Succeed state passes on."""
    selected = stepfunctions._apply_input_path(state, raw_input, context)
    return stepfunctions._apply_output_path(state, selected, context)


# ---------------------------------------------------------------------------------------------------------------------
# Start
# ---------------------------------------------------------------------------------------------------------------------


def install(state_dir: Path) -> None:
    """Put every hook into MiniStack; once, before `serve`. The decision log starts in `state_dir`/decisions.jsonl."""
    _decisions_path[:] = [state_dir / "decisions.jsonl"]
    app.detect_service = _detect_service
    app._dispatch_service_request = _dispatch
    app.pin_request_origin = _pin_origin
    iam_evaluator.enforce = _enforce
    iam_actions.access_denied_response = _access_denied
    tagging.resource_tags = _resource_tags
    _refuse_full_buckets()
    _keep_dependencies()
    _alarm_on_queues()
    _publish_alarms_by_policy()
    iam_evaluator._request_origin = contextvars.ContextVar("ministack_request_origin", default=("127.0.0.1", True))


async def _gateway(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope.get("path", "")
    if scope["type"] != "http" or not path.startswith("/_tuneway/"):
        await _ministack_app(scope, receive, send)
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True)
    responses.set_request_account_id("")
    responses.set_request_region(None)
    request = Request(scope["method"], path, query, headers, body, caller_account(), responses.get_region(), "")
    prefix = next((p for p in sorted(_controls, key=len, reverse=True) if path == p or path.startswith(p + "/")), None)
    response = await _answer(_controls[prefix], request) if prefix else None
    status, answer_headers, answer = _raw(response or Response(404, body=b"no such control path\n"))
    if isinstance(answer, bytes):
        await app._send_response(send, status, answer_headers, answer)
    else:
        await app._send_streaming_response(send, receive, status, answer_headers, answer)


async def serve(host: str, port: int, stopped: asyncio.Event) -> None:
    """Serve every service on one port until `stopped` is set."""
    hypercorn_compat.install()
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.shutdown_timeout = 2
    config.loglevel = "WARNING"
    await hypercorn_serve(_gateway, config, shutdown_trigger=stopped.wait)  # type: ignore[arg-type]
