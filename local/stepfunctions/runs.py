"""Who a running task acts for: the execution, its role's session, and whether its work is still wanted.

MiniStack runs each execution on a thread of its own and each branch on another, with the context variables
copied; so the current run, branch and task are context variables here.
"""

from __future__ import annotations

import contextvars
import secrets
import string
import threading
from dataclasses import dataclass, field
from typing import Any

from local import clients, private


@dataclass
class Scope:
    """Something that can be called off: an execution, a branch of it, one attempt of a task."""

    parent: Scope | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def cancelled(self) -> bool:
        """Whether this scope or one around it has ended."""
        return self.ended.is_set() or (self.parent is not None and self.parent.cancelled)


@dataclass
class Run:
    """One execution. Its clients sign with a session of the state machine's role, assumed at first use."""

    execution: dict[str, Any]
    role_arn: str
    region: str
    endpoint_url: str
    scope: Scope = field(default_factory=Scope)
    _clients: dict[str, Any] = field(default_factory=dict)
    _session: private.Credentials | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def account(self) -> str:
        """The account of the execution."""
        return str(self.execution["executionArn"].split(":")[4])

    def client(self, service: str) -> Any:
        """A client under the role. Raises ExecutionError when the role may not be assumed."""
        with self._lock:
            if service not in self._clients:
                if self._session is None:
                    self._session = self._assume()
                self._clients[service] = clients.client(
                    service, self._session, endpoint_url=self.endpoint_url, region=self.region
                )
            return self._clients[service]

    def _assume(self) -> private.Credentials:
        name = "".join(secrets.choice(string.ascii_letters) for _ in range(32))  # As AWS names these sessions.
        try:
            return private.role_session(
                self.role_arn, name, "states", source_arn=self.execution["stateMachineArn"], region=self.region
            )
        except private.NotAssumableError as error:
            raise private.ExecutionError("States.Runtime", str(error)) from None


@dataclass
class Task:
    """The task state that is being run, and its current attempt."""

    name: str
    resource: str
    jsonata: bool
    entered_event: int
    attempt: Scope = field(default_factory=Scope)
    scheduled: dict[str, Any] = field(default_factory=dict)


RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("states_run", default=None)
SCOPE: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("states_scope", default=None)
TASK: contextvars.ContextVar[Task | None] = contextvars.ContextVar("states_task", default=None)
