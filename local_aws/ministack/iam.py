"""IAM's decisions by identity policies, boundary and the resource's own policy. Each is logged with its whole question."""

from __future__ import annotations

import contextvars
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services import iam, tagging

from local_aws.core import registry
from local_aws.core.authorization import Check
from local_aws.ministack import decisions
from local_aws.ministack.patches import patch, put
from local_aws.ministack.sessions import AccessDeniedError, denial_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local_aws.core.clients import Credentials


def authorize(
    principal: Credentials, action: str, resource: str, context: Mapping[str, str | Sequence[str]] | None = None
) -> None:
    """Check an action that a service takes in a session without an API call.

    IAM evaluates identity policies, boundary and the resource's own policy, and logs its decision. Raises
    AccessDeniedError with AWS's message.
    """
    check = Check(action, resource, dict(context or {}))
    fields = resource.split(":")
    region = fields[3] if len(fields) > 5 and fields[3] else responses.get_region()
    denied = decide(principal.access_key_id, check, action.partition(":")[0], region)
    if denied is None:
        return
    if isinstance(denied, iam_evaluator.AuthError):
        raise AccessDeniedError(denied.message)
    explicit = denied.decision == "Deny"
    raise AccessDeniedError(iam_actions.identity_denial_message(action, denied.principal_arn, resource, explicit))


def caller_account() -> str:
    """Return the account of the current call."""
    return str(responses.get_account_id())


def current_region() -> str:
    """Return the Region of the current call."""
    return str(responses.get_region())


# The tags that the current evaluation has read, for the decision log.
_tags_read: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("local_aws_tags", default=None)
_ministack_enforce = iam_evaluator.enforce  # Without the patch, because `authorize` works outside of any call too.


def principal_of(access_key_id: str) -> str:
    """Return the ARN of an access key's principal."""
    account = responses._account_from_sts_session(access_key_id) or responses.get_account_id()
    resolved = iam_evaluator.resolve_credential(access_key_id, account)
    return str(getattr(resolved, "principal_arn", "") or "unknown")


# Unconfirmed: A session whose role was deleted | Here: `UnrecognizedClientException`, not in the decision log | Source:
#   IAM User Guide: temporary credentials of a deleted role stop working
def decide(access_key_id: str, check: Check, service: str, region: str) -> Any:
    """Decide and log one check. Return None if it is allowed, else MiniStack's refusal."""
    principal = principal_of(access_key_id)
    session = re.fullmatch(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/.+", principal)
    if session is not None and iam._roles.get_scoped(session[1], None, session[2]) is None:
        # A session ends with its role. That is a failed authentication and no decision of a policy.
        text = "The security token included in the request is invalid."
        return iam_evaluator.AuthError("UnrecognizedClientException", text)
    tags: dict[str, str] = {}
    token = _tags_read.set(tags)
    try:
        denied = _ministack_enforce(
            access_key_id, check.action, service, region, resource_arn=check.resource, service_context=check.context
        )
    finally:
        _tags_read.reset(token)
    reason = denied.code if isinstance(denied, iam_evaluator.AuthError) else ""
    if getattr(denied, "resource_policy_arn", ""):
        reason = decisions.RESOURCE_POLICY
    # The tags are a part of the question, and a deletion of the resource deletes them too.
    whole, injected = replace(check, context={**tags, **check.context}), False
    if denied is None and denial_fault(principal, check):
        denied, injected = iam_evaluator.EvalResult("ImplicitDeny", principal_arn=principal), True
    decisions.log(principal, whole, denied is None or injected, reason, injected)
    return denied


@patch(tagging, "resource_tags")
def _resource_tags(original: Callable[[str], Any], arn: str) -> Any:
    """Ask the registered services first, and note the tags for `decide`."""
    owner = next((s for s in registry.SERVICES if s.tags is not None and arn.startswith(_arn_prefix(s.name))), None)
    tags = dict(owner.tags(arn)) if owner is not None and owner.tags is not None else original(arn)
    read = _tags_read.get()
    if read is not None:
        read.update({f"aws:ResourceTag/{name}": value for name, value in (tags or {}).items()})
    return tags


def _arn_prefix(service: str) -> str:
    return f"arn:aws:{iam_actions.SERVICE_TO_IAM_NAMESPACE[service]}:"


put(iam_evaluator, "_request_origin", contextvars.ContextVar("ministack_request_origin", default=("127.0.0.1", True)))


# Differs: `SimulatePrincipalPolicy` and `SimulateCustomPolicy` | AWS: every resource of the call, the boundary, and which
#   statements matched | Here: the first resource, by the identity policies alone; `MatchedStatements` and
#   `MissingContextValues` are empty | Why: MiniStack's; nothing here needs more
# Differs: Transport | AWS: https | Here: http on loopback counts as `aws:SecureTransport` | Why: no network is involved
@patch(app, "pin_request_origin")
def _pin_origin(_original: Any, source_ip: str, secure_transport: bool) -> None:
    """Count loopback as secure transport: a policy that denies plain http means the network, and here is none."""
    iam_evaluator._request_origin.set((source_ip, secure_transport or source_ip in ("127.0.0.1", "::1")))
