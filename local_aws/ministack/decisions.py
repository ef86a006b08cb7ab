"""The decision log: one line of JSON per decision of IAM, and a function that evaluates such a line again."""

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
"""The reason of a denial by the policy of a bucket or topic."""
_lock = threading.Lock()
_path: list[Path] = []


def start(path: Path) -> None:
    """Write all further decisions into this file."""
    _path[:] = [path]


def log(principal: str, check: Check, allowed: bool, reason: str = "", injected: bool = False) -> None:
    """Write one decision. `injected` means that a fault refuses the call although the policies allow it."""
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
    if injected:  # `allowed` stays the decision of the policies.
        decision["injected"] = True
    line = json.dumps(decision, default=str) + "\n"
    with _lock, _path[0].open("a", encoding="utf-8") as file:
        file.write(line)


def question(principal: str, check: Check, region: str, principal_type: str, account: str) -> Any:
    """Return the question to MiniStack's evaluator: over TLS, and from this machine."""
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
    """Return whether identity policies (policy documents) allow the action of a line of the decision log.

    It reads no state. MiniStack's own evaluator decides on the line's `principal`, `action`, `resource` and `context`
    (with aws:ResourceTag/ keys). It ignores boundaries, policies of the resource itself, and condition keys that are not in
    the log (aws:RequestedRegion, aws:PrincipalTag/ and the clock).
    """
    context = {"aws:tagkeys": None}  # As in enforce: without tags the key has no value.
    context |= {key.lower(): value for key, value in decision["context"].items()}
    check = Check(decision["action"], decision["resource"], context)
    principal = str(decision["principal"])
    asked = question(principal, check, "", principal_type="AssumedRole", account=principal.split(":")[4])
    parsed = [iam_evaluator.parse_policy_document(dict(policy)) for policy in policies]
    return bool(iam_evaluator.evaluate(asked, parsed).decision == "Allow")
