"""The services and controls that answer calls on this server, and the form of a call and of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

CONTROL = "/_tuneway/"
"""The prefix of the controls' paths."""


@dataclass(frozen=True)
class Request:
    """One API call, authenticated and authorized. Header names are in lower case. `query` holds lists of values."""

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
    """The answer to a request.

    `chunks` replaces the body: each is sent at once. If it raises ConnectionError, or if it is closed because the client has
    gone, the connection ends without the end of the answer.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Generator[bytes, None, None] | None = None


Handler = Callable[[Request], Response | None]
"""A handler that returns None leaves the call to MiniStack's own service of that name. Each call has a thread of its own."""


@dataclass(frozen=True)
class Registered:
    """A service whose calls local AWS answers. A service that registers later comes first.

    Attributes:
        name: MiniStack's name of the service.
        handler: answers a call.
        target_prefix: a call belongs to the service if its X-Amz-Target begins with this.
        paths: without X-Amz-Target, a call belongs to it if this pattern matches the start of its path,
        signing_name: and if its signature names this service.
        namespace: the prefix of its IAM actions, `name` by default.
        model: its name in botocore, `name` by default.
        tags: returns the tags of one of its ARNs, for aws:ResourceTag conditions.
    """

    name: str
    handler: Handler
    target_prefix: str = ""
    paths: str = ""
    signing_name: str = ""
    namespace: str = ""
    model: str = ""
    tags: Callable[[str], Mapping[str, str]] | None = None


SERVICES: list[Registered] = []
CONTROLS: dict[str, Handler] = {}
FRONT_DOORS: dict[str, Handler] = {}


def register_service(service: Registered) -> None:
    """Answer the calls of one service."""
    SERVICES.insert(0, service)


def register_control(name: str, handler: Handler) -> None:
    """Answer requests of tests and tools under /_tuneway/NAME, which need neither a signature nor IAM."""
    CONTROLS[name] = handler


def register_front_door(pattern: str, handler: Handler) -> None:
    """Answer requests whose whole path matches a pattern and which have a credential of their own kind.

    Nobody authenticates or authorizes them before: the handler does.
    """
    FRONT_DOORS[pattern] = handler


def service_of(path: str, headers: Mapping[str, str]) -> str | None:
    """Return the name of the registered service to which a call belongs."""
    target = headers.get("x-amz-target", "")
    signed = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", headers.get("authorization", ""))
    for service in SERVICES:
        if target:
            if service.target_prefix and target.startswith(service.target_prefix):
                return service.name
        elif signed and signed[1] == service.signing_name and re.match(service.paths, path):
            return service.name
    return None


def front_door_of(path: str) -> Handler | None:
    """Return the handler of the front door that a path belongs to."""
    return next((handler for pattern, handler in FRONT_DOORS.items() if re.fullmatch(pattern, path)), None)


def control_of(path: str) -> Handler | None:
    """Return the handler of a control's path."""
    return CONTROLS.get(path.removeprefix(CONTROL).partition("/")[0])
