"""Faults on demand: any step of a run fails in a way in which AWS can fail.

`POST /_tuneway/faults` replaces the list of faults (JSON, see "Faults" in local_aws/README.md). `GET` returns it. Both
answer with the list and with how often each fault has `fired`. A fault that this module does not understand is refused
with 400 and one line, and the list stays unchanged. The code that can fail calls `take`. Without a list nothing changes.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Request, Response, register_control

if TYPE_CHECKING:
    from pathlib import Path

# AWS's own texts: DIAGNijmegen/rse-grand-challenge issue 2631, aws/deep-learning-containers pull 6673.
TRAINING_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
ENDPOINT_CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."

SEARCHED_BYTES = 1 << 16
"""A fault's `resource` is searched in this part of a request's body."""

SLOW_SECONDS = 60.0  # A slow job takes this much longer.

# Kind -> required keys, optional keys (beside `times`), values of `how`.
_KINDS: dict[str, tuple[set[str], set[str], tuple[str, ...]]] = {
    "error": ({"action", "code"}, {"principal", "resource", "message", "status"}, ()),
    "deny": ({"action"}, {"principal", "resource"}, ()),
    "lost": ({"action"}, {"principal", "resource"}, ()),
    "no-endpoint": ({"service"}, {"function"}, ()),
    "function": ({"how"}, {"function", "payload"}, ("crash", "memory", "timeout", "throttle", "stuck")),
    "training": (
        {"how"},
        {"after", "instance_type"},
        ("fail", "capacity", "stop", "max-runtime", "slow", "kill", "reclaim"),
    ),
    "customization": ({"how"}, set(), ("fail", "stop", "slow")),
    "import": ({"how"}, set(), ("fail", "stuck")),
    "deployment": ({"how"}, set(), ("fail", "update-failed", "slow")),
    "inference": ({"how"}, {"resource"}, ("not-ready", "throttled", "cut")),
    "endpoint": ({"how"}, {"instance_type"}, ("fail", "capacity", "stuck", "rollback-failed")),
}
_PATTERNS = ("principal", "resource", "function", "payload", "instance_type")
# Training's `how` that may have `after` -> the default number of checkpoints that the job has uploaded before the fault.
_AFTER = {"stop": 0, "kill": 1, "reclaim": 1}
_NUMBERS = ("times", "status", "after")


class JobFaultError(Exception):
    """A fault fails a job. It is planned, so no log calls it an error of local AWS."""


@dataclass
class Fault:
    """One fault of the list. `given` is its JSON object. An empty pattern fits everything. `times` None means always."""

    given: dict[str, Any]
    kind: str
    how: str = ""
    action: str = ""
    code: str = ""
    message: str = ""
    status: int = 400
    principal: str = ""
    resource: str = ""
    service: str = ""
    function: str = ""
    payload: str = ""
    instance_type: str = ""
    after: int | None = None
    times: int | None = None
    fired: int = 0

    def __bool__(self) -> bool:
        return bool(self.kind)

    def fits(self, kind: str, hows: tuple[str, ...], checkpoints: int, where: dict[str, str]) -> bool:
        """Return whether this fault fits the event, is due and is not used up."""
        after = _AFTER.get(self.how, 0) if self.after is None else self.after
        return (
            self.kind == kind
            and (not hows or self.how in hows)
            and checkpoints >= after
            and (self.times is None or self.fired < self.times)
            and fnmatchcase(where.get("action", ""), self.action)
            and all(re.search(getattr(self, name), where.get(name, "")) for name in _PATTERNS)
        )


_NONE = Fault({}, kind="")
_changed = threading.Condition()
_faults: list[Fault] = []


def take(kind: str, *hows: str, checkpoints: int = 0, **where: str) -> Fault:
    """Return the first fault of the list that fits, and count it as fired. If none fits, return a false fault without `how`.

    Args:
        kind: the fault's kind.
        hows: the values of `how` that can happen here. Without any, all can.
        checkpoints: the number of checkpoints that a training job has uploaded, for `after`.
        where: `action` (compared; the fault's own may have `*`), `principal`, `resource`, `function`, `payload` and
            `instance_type` (the fault's patterns search in them).
    """
    with _changed:
        for fault in _faults:
            if fault.fits(kind, hows, checkpoints, where):
                fault.fired += 1
                return fault
    return _NONE


def wait_replaced(fault: Fault) -> None:
    """Wait until another list replaces the list with this fault."""
    with _changed:
        _changed.wait_for(lambda: all(other is not fault for other in _faults))


def parse(item: Any) -> Fault:
    """Return the fault of a JSON object. Raises ValueError with one line that names the error."""
    if not isinstance(item, dict) or item.get("kind") not in tuple(_KINDS):
        raise ValueError(f"a fault needs a kind, one of {', '.join(_KINDS)}: {json.dumps(item)}")
    kind = item["kind"]
    needed, optional, hows = _KINDS[kind]
    missing, unknown = needed - item.keys(), item.keys() - needed - optional - {"kind", "times"}
    if missing or unknown:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"does not know {', '.join(sorted(unknown))}"
        raise ValueError(f"a fault of kind {kind} {what}: {json.dumps(item)}")
    how, times, status, after = item.get("how"), item.get("times"), item.get("status", 400), item.get("after", 0)
    texts = [name for name, value in item.items() if name not in _NUMBERS and not isinstance(value, str)]
    # Text of the rule -> whether the fault keeps it.
    rules = {
        f"how is one of {', '.join(hows)}": not hows or how in hows,
        "times is a number from 1 on, or null for always": times is None or (type(times) is int and times >= 1),
        "status is a number from 400 to 599": type(status) is int and 400 <= status < 600,
        f"after is a number from 0 on, with how {', '.join(_AFTER)}": (
            type(after) is int and after >= 0 and ("after" not in item or how in _AFTER)
        ),
        "instance_type goes with how capacity": "instance_type" not in item or how == "capacity",
        f"{', '.join(texts)} is a text": not texts,
    }
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(f"{rule}: {json.dumps(item)}")
    for name in _PATTERNS:
        try:
            re.compile(item.get(name, ""))
        except re.error as error:
            raise ValueError(f"{name} is not a regular expression ({error}): {json.dumps(item)}") from None
    return Fault(given=item, **item)


def control(request: Request) -> Response:
    """Answer a request to /_tuneway/faults."""
    if request.method == "POST":
        try:
            items = json.loads(request.body)
            if not isinstance(items, list):
                raise ValueError("faults are a JSON list")
            faults = [parse(item) for item in items]
        except ValueError as error:
            return Response(400, {"Content-Type": "text/plain"}, f"{error}\n".encode())
        with _changed:
            _faults[:] = faults
            _changed.notify_all()
    with _changed:
        shown = [{**fault.given, "fired": fault.fired} for fault in _faults]
    return Response(200, {"Content-Type": "application/json"}, json.dumps(shown).encode())


def register(_state_dir: Path, _endpoint_url: str) -> None:
    """Answer the control path /_tuneway/faults."""
    register_control("faults", control)
