"""Sessions of roles: which service may assume a role by its trust policy, and what a resource's own policy allows it."""

from __future__ import annotations

import json
import re
import secrets
import threading
from typing import Any

from ministack.core import iam_evaluator, responses
from ministack.services import iam, sts

from local_aws.core import faults
from local_aws.core.authorization import Check
from local_aws.core.clients import Credentials
from local_aws.ministack import decisions

_lock = threading.Lock()


class AccessDeniedError(Exception):
    """IAM denied the action. The text is AWS's message."""


class UnknownSignerError(Exception):
    """The credentials behind a signature are not valid. `code` is AWS's code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotAssumableError(AccessDeniedError):
    """A service may not assume the role: the role does not exist, or its trust policy does not allow the service."""


def signer(access_key_id: str, session_token: str, region: str) -> Credentials:
    """Return the credentials of an access key, for a signature that MiniStack does not check itself.

    The account of the key and the region become those of the current request. Raises UnknownSignerError with AWS's code and
    message if there is no such key, its session token is another one, or its time is over.
    """
    responses.set_request_account_id(access_key_id)
    responses.set_request_region(region)
    found = iam_evaluator.resolve_credential(access_key_id, responses.get_account_id(), session_token)
    if isinstance(found, iam_evaluator.CredentialResolutionError):
        raise UnknownSignerError(found.code, found.message)
    return Credentials(found.access_key_id, found.secret_access_key, found.session_token or "")


def role_of(role_arn: str) -> dict[str, Any] | None:
    """Return MiniStack's record of a role."""
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
    role_id = (role_of(role_arn) or {}).get("RoleId", "AROA")
    with _lock:  # MiniStack goes through all sessions when a thread adds one.
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
    """Assume a role as `<service>.amazonaws.com`. Raises NotAssumableError.

    `source_arn` is the resource for which the service acts, in the form of the service's documentation of trust policies
    (see `_may_assume`). Lambda has none.
    """
    check, allowed = _may_assume(role_arn, service, source_arn, region)
    principal = _service_principal(service)
    injected = allowed and bool(denial_fault(principal, check))
    decisions.log(principal, check, allowed, injected=injected)
    if not allowed or injected:
        raise NotAssumableError(
            f"User: {principal} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        )
    return _new_session(role_arn, re.sub(r"[^\w+=,.@-]", "-", session_name)[:64])


def trusts_service(role_arn: str, service: str, source_arn: str, region: str) -> bool:
    """Return whether the role exists and trusts `<service>.amazonaws.com`, for calls that only pass a role."""
    return _may_assume(role_arn, service, source_arn, region)[1]


def _service_principal(service: str) -> str:
    return service if "." in service else f"{service}.amazonaws.com"


# Unconfirmed: `aws:SourceArn` and `aws:SourceAccount` when a service assumes a role | Here: only the keys that the
#   service's documentation has in its trust policies: a condition on any other key is never met. The same when a call only
#   passes a role (CreateTrainingJob, CreateModel, CreateModelCustomizationJob, CreateStateMachine, CreateSchedule) |
#   Source: the rows below; that AWS evaluates the keys for a passed role too is a guess
# Unconfirmed: aws:SourceArn and aws:SourceAccount of SageMaker, a training job | Here: the job's ARN; no
#   `aws:SourceAccount` | Source: "Cross-service confused deputy prevention" in the developer guide: "you do not need to
#   specify an aws:SourceAccount value"
# Unconfirmed: aws:SourceArn and aws:SourceAccount of SageMaker, a model and its endpoint | Here: literally
#   `arn:aws:sagemaker:REGION:ACCOUNT:*`, so a trust policy with `endpoint/*` or `model/*` fails; no `aws:SourceAccount` |
#   Source: the same page: "The asterisk in the ARN template does not stand for wildcard and should not be changed"
# Unconfirmed: aws:SourceArn and aws:SourceAccount of Bedrock, Step Functions, EventBridge | Here: the ARN of the
#   customization or import job, of the state machine (`stateMachine:NAME/LABEL` for a Distributed Map's child, as in
#   DescribeExecution), of the rule; and its account | Source: "Create a service role for model customization" and "...
#   for importing pre-trained models"; "Creating an IAM role for your state machine"; "Cross-service confused deputy
#   prevention" in the EventBridge User Guide
# Unconfirmed: aws:SourceArn and aws:SourceAccount of Scheduler | Here: the ARN of the schedule's group, and its account
#   | Source: "Confused deputy prevention" in the Scheduler User Guide: never the ARN of a schedule
# Unconfirmed: aws:SourceArn and aws:SourceAccount of Lambda | Here: neither key | Source: no page has them for an
#   execution role
def _may_assume(role_arn: str, service: str, source_arn: str, region: str) -> tuple[Check, bool]:
    """Return the check, and whether the trust policy allows the service with only the keys of the service's documentation.

    So a trust policy that needs another key fails here. SageMaker documents only aws:SourceArn ("Cross-service confused
    deputy prevention"), and Lambda neither key for execution roles.
    """
    keys = {"aws:sourcearn": source_arn} if source_arn else {}
    if source_arn and service != "sagemaker":
        keys["aws:sourceaccount"] = source_arn.split(":")[4]
    check = Check("sts:AssumeRole", role_arn, dict(keys))
    role = role_of(role_arn)
    return check, role is not None and _trusts(role, _service_principal(service), check, region)


def _trusts(role: dict[str, Any], principal: str, check: Check, region: str) -> bool:
    document = role.get("AssumeRolePolicyDocument") or {}
    trust = json.loads(document) if isinstance(document, str) else document
    statements = trust.get("Statement", [])
    account = check.resource.split(":")[4]
    context = decisions.question(principal, check, region or responses.get_region(), "Service", account)
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


def service_may(service: str, action: str, resource: str, source_arn: str, policy: str) -> bool:
    """Return whether a resource's own policy allows a service to act for `source_arn`, over TLS. Log the decision.

    A topic's default policy has the key aws:SourceOwner (Amazon SNS Developer Guide, "aws:SourceAccount versus
    aws:SourceOwner").
    """
    keys = {"aws:sourcearn": source_arn} | dict.fromkeys(
        ("aws:sourceaccount", "aws:sourceowner"), str(responses.get_account_id())
    )
    principal, check = _service_principal(service), Check(action, resource, keys)
    context = decisions.question(principal, check, responses.get_region(), "Service", str(responses.get_account_id()))
    allowed = bool(iam_evaluator.evaluate_resource_policy(policy, context, service=principal).decision == "Allow")
    decisions.log(principal, check, allowed)
    return allowed


def denial_fault(principal: str, check: Check) -> faults.Fault:
    """Return the fault that denies the check to the principal, or a false one."""
    return faults.take("deny", action=check.action, principal=principal, resource=check.resource)
