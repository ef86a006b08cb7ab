"""The decision log: one line of JSON for every decision of IAM, and the evaluation of such a line once more."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator

from local_aws.core.authorization import Check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RESOURCE_POLICY = "resource policy"
"""A decision's reason where the policy of a bucket or topic denied."""
_lock = threading.Lock()
_path: list[Path] = []


def start(path: Path) -> None:
    """Write all further decisions into this file."""
    _path[:] = [path]


def log(principal: str, check: Check, allowed: bool, reason: str = "", injected: bool = False) -> None:
    """Write one decision. `injected` says that a fault refuses the call whatever the policies allow."""
    if not _path:
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
    with _lock, _path[0].open("a", encoding="utf-8") as file:
        file.write(line)


def question(principal: str, check: Check, region: str, principal_type: str, account: str) -> Any:
    """What MiniStack's evaluator is asked: over TLS, and from this machine."""
    return iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type=principal_type,
        principal_account=account,
        action=check.action,
        resource_arn=check.resource,
        region=region,
        source_ip="127.0.0.1",
        secure_transport=True,
        service_context=check.context,
    )


def evaluate(policies: Sequence[Mapping[str, Any]], decision: Mapping[str, Any]) -> bool:
    """Whether identity policies (policy documents) allow what a line of the decision log asked; reads no state.

    MiniStack's own evaluator, with the line's `principal`, `action`, `resource` and `context` (aws:ResourceTag/ keys
    included). Not looked at: boundaries, policies of the resource itself, and condition keys that the log does not hold
    (aws:RequestedRegion, aws:PrincipalTag/ and the clock).
    """
    context = {"aws:tagkeys": None}  # As enforce does: no tags named, no key.
    context |= {key.lower(): value for key, value in decision["context"].items()}
    check = Check(decision["action"], decision["resource"], context)
    principal = str(decision["principal"])
    asked = question(principal, check, "", principal_type="AssumedRole", account=principal.split(":")[4])
    parsed = [iam_evaluator.parse_policy_document(dict(policy)) for policy in policies]
    return bool(iam_evaluator.evaluate(asked, parsed).decision == "Allow")
