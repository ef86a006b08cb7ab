"""Parse, check and serialize requests and answers by botocore's service models.

AWS validates a request against the same models that botocore ships. So the constraints (patterns, lengths, enums) and the
form of a refusal ("1 validation error detected: Value ... at ... failed to satisfy constraint: ...") come from there.
"""

from __future__ import annotations

import functools
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

from local_aws.core.registry import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.model import ServiceModel

_TYPE_ERRORS = "invalid type"


class ServiceError(Exception):
    """The service's error answer.

    Attributes:
        code: the error's name in the service model.
        message: AWS's text.
        status: the HTTP status.
        details: further members of the error's shape.
    """

    def __init__(self, code: str, message: str, status: int = 400, **details: object) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.details = code, message, status, details


def path_labels(operation: OperationModel, path: str) -> dict[str, str] | None:
    """Return the members of a REST operation's input that its path holds, None if the path is another operation's."""
    uri = str(operation.http.get("requestUri", "/")).partition("?")[0]
    found = re.fullmatch(re.sub(r"\\\{(\w+)(?:\\\+)?\\\}", r"(?P<\1>.+?)", re.escape(uri)), path)
    if found is None:
        return None
    shape = operation.input_shape
    members = {m.serialization.get("name", name): name for name, m in shape.members.items()} if shape else {}
    return {members.get(label, label): unquote(value) for label, value in found.groupdict().items()}


def match_operation(model: ServiceModel, method: str, path: str) -> tuple[OperationModel, dict[str, str]] | None:
    """Return the REST operation of a request and the members in its path, None if the model has no such operation."""
    for operation in map(model.operation_model, model.operation_names):
        labels = path_labels(operation, path) if operation.http.get("method") == method else None
        if labels is not None:
            return operation, labels
    return None


def parse(
    operation: OperationModel,
    labels: Mapping[str, str],
    query: Mapping[str, list[str]],
    headers: Mapping[str, str],
    body: bytes,
    protocol: str,
) -> dict[str, Any]:
    """Return the input of a call under the model's member names, without members that are null.

    Raises ServiceError if the body has to be a JSON object and is none.
    """
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    if shape is not None and payload and shape.members[payload].type_name == "blob":
        document = {payload: body}
    else:
        document = _document(body)
    if protocol == "json":
        return {name: value for name, value in document.items() if value is not None}
    params: dict[str, Any] = dict(labels)
    for name, member in shape.members.items() if shape is not None else ():
        wire = member.serialization.get("name", name)
        location = member.serialization.get("location")
        if location == "querystring" and query.get(wire):
            params[name] = _from_text(member, query[wire])
        elif location == "header" and wire.lower() in headers:
            params[name] = _from_text(member, [headers[wire.lower()]])
        elif location is None and document.get(wire) is not None:
            params[name] = document[wire]
    return params


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body) if body else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServiceError("SerializationException", "The request body is not a JSON object")
    return document


def _from_text(shape: Shape, values: list[str]) -> Any:
    if isinstance(shape, ListShape):
        return values
    if shape.type_name in ("integer", "long"):
        return int(values[0]) if re.fullmatch(r"-?\d+", values[0]) else values[0]
    if shape.type_name == "boolean":
        return values[0] == "true"
    return values[0]


def validate(operation: OperationModel, params: dict[str, Any]) -> None:
    """Refuse an input that breaks the model, in AWS's words. Raises ServiceError(ValidationException)."""
    shape = operation.input_shape
    if shape is None:
        return
    report = ParamValidator().validate(params, shape)
    wrong_types = [error for error in report._errors if error[0] == _TYPE_ERRORS]
    if wrong_types:
        _, where, details = wrong_types[0]
        raise ServiceError("SerializationException", f"Invalid type for {where.lstrip('.')}: {details['value']!r}")
    problems = list(violations(shape, params, ""))
    if problems:
        count = len(problems)
        plural = "error" if count == 1 else "errors"
        raise ServiceError("ValidationException", f"{count} validation {plural} detected: " + "; ".join(problems))


def violations(shape: Shape, value: Any, where: str) -> list[str]:
    """Return every constraint of the model that `value` breaks, in the words of AWS's validation framework."""
    if isinstance(shape, StructureShape):
        return _structure_violations(shape, value, where)
    if isinstance(shape, ListShape):
        found = _bounds(shape, len(value), value, where, "have length")
        for index, item in enumerate(value):
            found += violations(shape.member, item, f"{where}.{index + 1}.member")
        return found
    if isinstance(shape, MapShape):
        found = _bounds(shape, len(value), value, where, "have length")
        for key, item in value.items():
            found += violations(shape.value, item, f"{where}.{key}")
        return found
    if isinstance(shape, StringShape):
        return _string_violations(shape, value, where)
    if shape.type_name in ("integer", "long", "float", "double"):
        return _bounds(shape, value, value, where, "have value")
    return []


def _structure_violations(shape: StructureShape, value: dict[str, Any], where: str) -> list[str]:
    found = []
    for name, member in shape.members.items():
        path = f"{where}.{name}" if where else name
        if value.get(name) is not None:
            found += violations(member, value[name], path)
        elif name in shape.required_members and not member.metadata.get("idempotencyToken"):
            found.append(f"Value at '{path}' failed to satisfy constraint: Member must not be null")
    return found


def _string_violations(shape: StringShape, value: str, where: str) -> list[str]:
    found = _bounds(shape, len(value), value, where, "have length")
    enum, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if enum and value not in enum:
        found.append(_failed(value, where, f"Member must satisfy enum value set: [{', '.join(enum)}]"))
    if pattern and len(value) <= int(shape.metadata.get("max", 2048)) and not _matches(pattern, value):
        found.append(_failed(value, where, f"Member must satisfy regular expression pattern: {pattern}"))
    return found


# Java's character classes, which the models have inside brackets -> the same for Python's re. Those of letters, numbers and
# marks are a little too wide, so that they refuse no value that AWS accepts.
_JAVA_CLASSES = {
    "L": r"\w",
    "N": r"\w",
    "M": r"\u0300-\u036f",
    "Z": r"\s",
    "P": r"!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f",
    "S": r"!-/:-@\[-`{-~\u00a1-\u00bf\u20a0-\u2bff",
    "Alnum": "A-Za-z0-9",
    "ASCII": r"\x00-\x7f",
    "Print": r"\x20-\x7e",
}


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a model's pattern for Python. Return None for the few that Python cannot read, which nothing here needs."""
    # "(-*[a-z\-])*" takes exponential time on a near miss. The set itself has the dash, so the inner "-*" adds nothing.
    simple = re.sub(r"\(-\*(\[[^\]]*\\-[^\]]*\])\)\*", r"\1*", pattern)
    simple = re.sub(r"\\p\{(\w+)\}", lambda found: _JAVA_CLASSES[found[1]], simple).replace(r"\z", r"\Z")
    try:
        return re.compile(simple)
    except re.error:
        return None


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.fullmatch(value) is not None


def _bounds(shape: Shape, size: float, value: Any, where: str, verb: str) -> list[str]:
    found = []
    if "min" in shape.metadata and size < shape.metadata["min"]:
        found.append(_failed(value, where, f"Member must {verb} greater than or equal to {shape.metadata['min']}"))
    if "max" in shape.metadata and size > shape.metadata["max"]:
        found.append(_failed(value, where, f"Member must {verb} less than or equal to {shape.metadata['max']}"))
    return found


def _failed(value: Any, where: str, constraint: str) -> str:
    return f"Value '{value}' at '{where}' failed to satisfy constraint: {constraint}"


def serialize(operation: OperationModel, result: Mapping[str, Any]) -> bytes:
    """Return the answer's body by the operation's output shape.

    It leaves out members without a value. It also leaves out members that only other shapes of the service have, because
    operations share records. A member of no shape raises KeyError. Timestamps are by default epoch seconds.
    """
    shape = operation.output_shape
    return json.dumps(_wire(shape, result, _names(operation.service_model)) if shape is not None else {}).encode()


@functools.cache
def _names(model: ServiceModel) -> frozenset[str]:
    """Return the names of the members of all shapes of a service."""
    shapes = map(model.shape_for, model.shape_names)
    return frozenset(name for shape in shapes if isinstance(shape, StructureShape) for name in shape.members)


def _wire(shape: Shape, value: Any, names: frozenset[str]) -> Any:
    if isinstance(shape, StructureShape):
        if unknown := sorted(value.keys() - names):
            raise KeyError(f"no shape of the service has the members {unknown}")
        known = [(shape.members[name], name, item) for name, item in value.items() if name in shape.members]
        return {m.serialization.get("name", name): _wire(m, item, names) for m, name, item in known if item is not None}
    if isinstance(shape, ListShape):
        return [_wire(shape.member, item, names) for item in value]
    if isinstance(shape, MapShape):
        return {key: _wire(shape.value, item, names) for key, item in value.items()}
    if isinstance(value, datetime):
        iso = shape.serialization.get("timestampFormat") == "iso8601"
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if iso else value.timestamp()
    return value


def refusal(error: ServiceError, content_type: str = "application/json") -> Response:
    """Return the answer of a refused call, for both JSON protocols: the code is in the body and in a header."""
    body = json.dumps({"__type": error.code, "message": error.message, **error.details}).encode()
    return Response(error.status, {"Content-Type": content_type, "x-amzn-errortype": error.code}, body)
