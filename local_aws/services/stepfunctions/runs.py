"""The attempt of an execution for which a task runs: its role's session, and whether the attempt has ended.

Each attempt runs on a thread of its own with a copy of the context variables, so the current run and task are context
variables.
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
"""A thread holds it to change an execution's status, history or point, and never to deliver an event."""


@dataclass
class Server:
    """The endpoint that the tasks of all executions call."""

    endpoint_url: str = ""


SERVER = Server()


def now() -> str:
    """Return the time in the form of Step Functions' records."""
    return timestamp(datetime.now(UTC))


def timestamp(time: datetime) -> str:
    """Return `time` (UTC) in the form of Step Functions' records."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Point:
    """The position of an execution, from which a redrive continues.

    Attributes:
        state: the first state without an exited event, None after the last state.
        data: its raw input. It and `variables` (their values at the state's entry) are copied before use.
        entered: its EnteredTime, empty before its entry.
    """

    state: str | None
    data: Any
    variables: dict[str, Any] = field(default_factory=dict)
    entered: str = ""


@dataclass
class Run:
    """One attempt of an execution: the first one or a redrive. An attempt that has ended changes nothing.

    Attributes:
        execution: MiniStack's record, which all attempts share.
        machine: a copy of the state machine's record from the start of the execution.
        definition: its parsed definition.
        map_run: the Map Run (`map_run.MapRun`) of the current Distributed Map. A redrive continues it.
    """

    execution: dict[str, Any]
    machine: dict[str, Any]
    definition: dict[str, Any]
    point: Point
    ended: threading.Event = field(default_factory=threading.Event)
    map_run: Any = None
    _session: clients.Credentials | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def role_arn(self) -> str:
        """The role of the tasks. The first use assumes a session of it."""
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
        """Return a client under the role. Raises ExecutionError if the role cannot be assumed."""
        return clients.client(service, self._assumed(), endpoint_url=SERVER.endpoint_url, region=self.region)

    def authorize(self, action: str, resource: str) -> None:
        """Check an action of Step Functions itself under the role. Raises ExecutionError if IAM denies it."""
        session = self._assumed()
        try:
            authorize(session, action, resource)
        except AccessDeniedError as error:
            raise engine.ExecutionError("States.Runtime", str(error)) from None

    # Unconfirmed: Session names of a state machine's role | Here: 32 random letters, one session per execution | Source:
    #   memory
    def _assumed(self) -> clients.Credentials:
        # A Distributed Map's child is an execution of `stateMachine:NAME/LABEL` (API Reference, DescribeExecution).
        source = self.execution["stateMachineArn"]
        name = "".join(secrets.choice(string.ascii_letters) for _ in range(32))
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
    """The current task state, and the details of its TaskScheduled event."""

    name: str
    jsonata: bool
    entered_event: int
    scheduled: dict[str, Any] = field(default_factory=dict)


RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("states_run", default=None)
TASK: contextvars.ContextVar[Task | None] = contextvars.ContextVar("states_task", default=None)


def called_off() -> bool:
    """Return whether this thread's attempt has ended."""
    run = RUN.get()
    return run is not None and run.ended.is_set()
