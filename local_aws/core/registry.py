"""The services and controls that answer calls on this server, and what a call and its answer look like."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

CONTROL = "/_tuneway/"
"""What the paths of the controls begin with."""


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
    """The answer to a request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Handler = Callable[[Request], "Response | Awaitable[Response | None] | None"]
"""A handler that answers None leaves the call to MiniStack's own service of that name."""


@dataclass(frozen=True)
class Registered:
    """A service that is answered here; see `register_service`."""

    name: str
    handler: Handler
    target_prefix: str | None
    paths: tuple[re.Pattern[str], ...]
    signing_names: tuple[str, ...]
    namespace: str | None
    model: str | None
    tags: Callable[[str], Mapping[str, str]] | None


SERVICES: list[Registered] = []
CONTROLS: dict[str, Handler] = {}


def register_service(
    name: str,
    *,
    handler: Handler,
    target_prefix: str | None = None,
    paths: Sequence[str] = (),
    signing_names: Sequence[str] = (),
    namespace: str | None = None,
    model: str | None = None,
    tags: Callable[[str], Mapping[str, str]] | None = None,
) -> None:
    """Answer the calls of one service with `handler`; a function that is not async runs on a thread of its own.

    Args:
        name: MiniStack's name of the service.
        handler: answers a call.
        target_prefix: a call belongs to the service when its X-Amz-Target begins with this,
        paths: or when its path matches one of these patterns from the start (any path where none is given)
        signing_names: and it is signed for one of these. Services that are registered later are asked first.
        namespace: the prefix of its IAM actions, `name` by default.
        model: its name in botocore, `name` by default.
        tags: returns the tags of one of its ARNs, for aws:ResourceTag conditions.
    """
    patterns = tuple(re.compile(path) for path in paths)
    SERVICES.insert(0, Registered(name, handler, target_prefix, patterns, tuple(signing_names), namespace, model, tags))


def register_control(name: str, handler: Handler) -> None:
    """Answer requests under /_tuneway/NAME: a way in for tests and tools, with neither signature nor IAM."""
    CONTROLS[CONTROL + name] = handler


def service_of(path: str, headers: Mapping[str, str]) -> str | None:
    """The name of the registered service that a call belongs to."""
    target = headers.get("x-amz-target", "")
    signed = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", headers.get("authorization", ""))
    for service in SERVICES:
        if target and service.target_prefix and target.startswith(service.target_prefix):
            return service.name
        if target or signed is None or signed[1] not in service.signing_names:
            continue
        if not service.paths or any(pattern.match(path) for pattern in service.paths):
            return service.name
    return None


def control_of(path: str) -> Handler | None:
    """The handler of a control's path."""
    known = sorted(CONTROLS, key=len, reverse=True)
    return next((CONTROLS[name] for name in known if path == name or path.startswith(name + "/")), None)
