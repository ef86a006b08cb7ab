"""Who a running task acts for: the attempt of an execution, its role's session, and whether its work is still wanted.

Each attempt runs on a thread of its own with the context variables copied; so the current
run and task are context variables here.
"""

from __future__ import annotations

import contextvars
import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_aws.core import clients
from local_aws.ministack import states as engine
from local_aws.ministack.iam import authorize
from local_aws.ministack.sessions import AccessDeniedError, NotAssumableError, role_session

LOCK = threading.RLock()
"""Held while an execution's status, history or point changes, and never while an event is delivered."""


@dataclass
class Server:
    """Where the tasks of all executions call AWS."""

    endpoint_url: str = ""


SERVER = Server()


def now() -> str:
    """The time as Step Functions' records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Point:
    """Where an execution stands, and what a redrive goes on with.

    Attributes:
        state: the first state without an exited event; None when there is none left.
        data: its raw input, `variables` the variables as it was entered: both are copied before they are used.
        entered: its EnteredTime; empty until it is entered.
    """

    state: str | None
    data: Any
    variables: dict[str, Any] = field(default_factory=dict)
    entered: str = ""


@dataclass
class Run:
    """One attempt of an execution: the original one, or a redrive. What has ended changes nothing any more.

    Attributes:
        execution: MiniStack's record, which all attempts share.
        machine: a copy of the state machine's record as it was when the execution was started.
        definition: its parsed definition.
        map_run: the Map Run (`map_run.MapRun`) of the Distributed Map that it stands in; a redrive goes on with it.
    """

    execution: dict[str, Any]
    machine: dict[str, Any]
    definition: dict[str, Any]
    point: Point
    ended: threading.Event = field(default_factory=threading.Event)
    map_run: Any = None
    _clients: dict[str, Any] = field(default_factory=dict)
    _session: clients.Credentials | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def role_arn(self) -> str:
        """The role that the tasks act under; a session of it is assumed at first use."""
        return str(self.machine["roleArn"])

    @property
    def region(self) -> str:
        """The region of the execution."""
        return str(self.execution["executionArn"].split(":")[3])

    @property
    def account(self) -> str:
        """The account of the execution."""
        return str(self.execution["executionArn"].split(":")[4])

    def client(self, service: str) -> Any:
        """A client under the role. Raises ExecutionError when the role may not be assumed."""
        session = self._assumed()
        with self._lock:
            if service not in self._clients:
                self._clients[service] = clients.client(
                    service, session, endpoint_url=SERVER.endpoint_url, region=self.region
                )
            return self._clients[service]

    def authorize(self, action: str, resource: str) -> None:
        """Ask IAM for what Step Functions does under the role without a task. Raises ExecutionError when it says no."""
        session = self._assumed()
        try:
            authorize(session, action, resource)
        except AccessDeniedError as error:
            raise engine.ExecutionError("States.Runtime", str(error)) from None

    # Unconfirmed: Session names of a state machine's role | Here: 32 random letters, one session an execution | Source:
    #   memory
    def _assumed(self) -> clients.Credentials:
        # A Distributed Map's child is an execution of `stateMachine:NAME/LABEL` (API Reference, DescribeExecution).
        source, name = (
            self.execution["stateMachineArn"],
            "".join(secrets.choice(string.ascii_letters) for _ in range(32)),
        )
        with self._lock:
            try:
                self._session = self._session or role_session(
                    self.role_arn, name, "states", source_arn=source, region=self.region
                )
            except NotAssumableError as error:
                raise engine.ExecutionError("States.Runtime", str(error)) from None
            return self._session


@dataclass
class Task:
    """The task state that is being run, and the details of its TaskScheduled event."""

    name: str
    jsonata: bool
    entered_event: int
    scheduled: dict[str, Any] = field(default_factory=dict)


RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("states_run", default=None)
TASK: contextvars.ContextVar[Task | None] = contextvars.ContextVar("states_task", default=None)


def called_off() -> bool:
    """Whether the attempt that this thread works for has ended."""
    run = RUN.get()
    return run is not None and run.ended.is_set()
