"""Records what AWS answers: shapes, statuses, errors and orders, and none of the account's values.

A recording is a file of JSON lines in a fixed order. The first line names the steps, and says whether
the life came to its end. The others are of two kinds:

- `call`: all answers of one operation in one step with the same outcome. It has the members of these answers with their
  types. A member whose shape in botocore's model is an enumeration has its values.
- `order`: what came in which order, as AWS's own histories tell it: the statuses of a job, the events of an execution.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import botocore.handlers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from botocore.model import OperationModel, Shape

_PATTERNS = (
    # A long name may be cut in its middle (pipeline.errors.quoted).
    (r"STACK-[\w-]+(\.\.\.[\w-]+)?", "STACK-NAME"),
    # Who calls, as AWS names them when it denies a call: a person's name or address of mail.
    (r"arn:[\w-]+:(iam|sts)::\w+:(user|assumed-role|federated-user|role)/(?!STACK-)[^\s\"',;()]+", "PRINCIPAL"),
    (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "TIME"),
    (r"https?://[^\s\"'<>)]+", "URL"),
    (r"\b(ASIA|AKIA|AROA|AIDA)[A-Z0-9]{12,}\b", "KEY"),
    # The id of a request to S3 stands without a UUID's hyphens.
    (r"\b[A-Za-z0-9+/]{40,}={0,2}", "ID"),
    (r"(?i)\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "ID"),
    (r"\d{2,}(\.\d+)?|\d\.\d+", "N"),
)
"""Patterns of values that differ from account to account and from run to run, with the word that stands for them."""


def mask(text: str, names: Mapping[str, str]) -> str:
    """Return a text of AWS in one line, without the account's and the run's values.

    Args:
        text: the text.
        names: the account's own names, with the word that stands for each.
    """
    line = " ".join(text.split())
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(name, names[name])
    for pattern, word in _PATTERNS:
        line = re.sub(pattern, word, line)
    return line


@dataclass
class RecordedCall:
    """The answers of one operation in one step with the same outcome.

    Attributes:
        step: the step of the life.
        service: botocore's name of the service, or `openai`.
        operation: the operation.
        status: the HTTP status.
        error: the error's code; None if the call succeeded.
        message: the error's text with masked values.
        members: the members of the answers by their path, with their types, or with the values of an enumeration.
    """

    step: str
    service: str
    operation: str
    status: int
    error: str | None = None
    message: str | None = None
    members: dict[str, set[str]] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return the line of the recording."""
        members = {path: sorted(kinds) for path, kinds in sorted(self.members.items())}
        return {"kind": "call", **vars(self), "members": members}


class AnswerRecorder:
    """Collects what AWS answers to the calls of this process, and the orders that the driver reads from AWS's histories.

    Attributes:
        names: the account's own names, with the word that stands for each.
        complete: whether the life came to its end.
    """

    def __init__(self) -> None:
        """Begin with nothing, outside every step."""
        self.names: dict[str, str] = {}
        self.complete = False
        self._step = ""
        self._with_members = True
        self._calls: dict[tuple[Any, ...], RecordedCall] = {}
        self._orders: list[dict[str, Any]] = []
        self._steps: list[str] = []
        self._lock = threading.Lock()

    def install(self) -> None:
        """Record the calls of every client that this process makes from now on, also in the product's own commands.

        A session of botocore registers this list of handlers when it is made. The commands make sessions of their own.
        """
        botocore.handlers.BUILTIN_HANDLERS.append(("after-call", self._after_call))

    @contextmanager
    def step(self, name: str, *, members: bool = True) -> Iterator[None]:
        """Record under the name of a step.

        Args:
            name: the step's name.
            members: whether answers are recorded with their members. Lists of the whole account are not: they have what
                other people made there.
        """
        before = self._step, self._with_members
        self._step, self._with_members = name, members
        if name not in self._steps:
            self._steps.append(name)
        try:
            yield
        finally:
            self._step, self._with_members = before

    def _after_call(self, http_response: Any, parsed: dict[str, Any], model: OperationModel, **_: Any) -> None:
        failed = http_response.status_code >= 300
        error = parsed.get("Error", {}) if failed else {}
        found: dict[str, set[str]] = {}
        if not failed and self._with_members and model.output_shape is not None:
            walk(model.output_shape, parsed, "", found)
        self.call(
            model.service_model.service_name,
            model.name,
            http_response.status_code,
            str(error.get("Code", "")) if failed else None,
            str(error.get("Message", "")) if failed else None,
            found,
        )

    def call(
        self,
        service: str,
        operation: str,
        status: int,
        error: str | None = None,
        message: str | None = None,
        members: Mapping[str, set[str]] | None = None,
    ) -> None:
        """Record one answer. The arguments are the attributes of `RecordedCall`."""
        masked = None if message is None else mask(message, self.names)
        with self._lock:
            key = (self._step, service, operation, status, error, masked)
            call = self._calls.setdefault(key, RecordedCall(*key))
            for path, kinds in (members or {}).items():
                call.members.setdefault(path, set()).update(kinds)

    def order(self, of: str, service: str, operation: str, values: Sequence[str]) -> None:
        """Record an order.

        Args:
            of: what is in order.
            service: the service that told it.
            operation: the operation that told it.
            values: the values in their order. A value that comes again right after itself counts once.
        """
        masked = [mask(value, self.names) for value in values]
        once = [value for number, value in enumerate(masked) if number == 0 or value != masked[number - 1]]
        line = {"kind": "order", "step": self._step, "service": service, "operation": operation, "of": of}
        self._orders.append({**line, "values": once})

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the recording: step by step, first the calls by their names, then the orders."""
        head = {"kind": "life", "complete": self.complete, "steps": self._steps}
        calls = sorted(
            (call.line() for call in self._calls.values()), key=lambda line: json.dumps(line, sort_keys=True)
        )
        found = [head]
        for step in ["", *self._steps]:
            found += [line for line in calls if line["step"] == step]
            found += [line for line in self._orders if line["step"] == step]
        return found

    def write(self, path: Path) -> None:
        """Write the recording."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines())
        path.write_text(text, encoding="utf-8")


def walk(shape: Shape, value: Any, path: str, found: dict[str, set[str]]) -> None:
    """Add the members of a value of botocore to `found`: their types, or the values of an enumeration.

    Args:
        shape: the value's shape in botocore's model.
        value: the parsed value.
        path: the value's path. A list adds [] and a map {}.
        found: where to add.
    """
    kind = shape.type_name
    if kind == "structure":
        for name, member in shape.members.items():
            if name in value:
                walk(member, value[name], f"{path}.{name}" if path else name, found)
        return
    enum = getattr(shape, "enum", None)
    found.setdefault(path, set()).add(f"{shape.name}={value}" if enum else kind)
    if kind == "list":
        for item in value or ():
            walk(shape.member, item, f"{path}[]", found)
    elif kind == "map":
        for item in (value or {}).values():
            walk(shape.value, item, f"{path}{{}}", found)


def walk_json(value: Any, path: str, found: dict[str, set[str]]) -> None:
    """Add the members of a JSON value to `found`, with their types."""
    if isinstance(value, dict):
        for name, member in value.items():
            walk_json(member, f"{path}.{name}" if path else name, found)
        return
    found.setdefault(path, set()).add("null" if value is None else type(value).__name__)
    for item in value if isinstance(value, list) else ():
        walk_json(item, f"{path}[]", found)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a recording. Raises OSError, or ValueError if a line is no JSON."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
