"""A service of AWS: one place that parses, checks, answers, serializes and refuses its calls, by botocore's model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import xform_name

from local_aws.core import shapes
from local_aws.core.authorization import service_model
from local_aws.core.registry import Request, Response
from local_aws.core.shapes import ServiceError

if TYPE_CHECKING:
    from botocore.model import OperationModel, ServiceModel

OperationFunction = TypeVar("OperationFunction", bound=Callable[..., "dict[str, Any] | Response | None"])


class Service:
    """The operations of one service.

    An operation is a function of the service's state, the parsed and validated input, and the request. It returns the
    output in the model's shape, or the whole answer if that is no JSON object, or None to leave the call to MiniStack. It
    raises ServiceError to refuse the call.
    """

    def __init__(self, model: str) -> None:
        """Take botocore's name of the service."""
        self.name = model
        self.operations: dict[str, Callable[..., dict[str, Any] | Response | None]] = {}

    def operation(self, function: OperationFunction) -> OperationFunction:
        """Let a function or method answer the operation of its name: `create_model` answers CreateModel."""
        self.operations[function.__name__] = function
        return function

    @cached_property
    def model(self) -> ServiceModel:
        """Botocore's model of the service."""
        return service_model(self.name)

    @property
    def target_prefix(self) -> str:
        """The prefix of X-Amz-Target."""
        return f"{self.model.metadata['targetPrefix']}."

    def handle(self, state: Any, request: Request) -> Response | None:
        """Answer one call. Return None for an operation that this service does not have."""
        found = self._operation(request)
        function = self.operations.get(xform_name(found[0].name)) if found else None
        if found is None or function is None:
            return None
        operation, labels = found
        protocol, version = (self.model.metadata.get(name) for name in ("protocol", "jsonVersion"))
        content_type = f"application/x-amz-json-{version}" if protocol == "json" else "application/json"
        try:
            params = shapes.parse(operation, labels, request.query, request.headers, request.body, protocol)
            shapes.validate(operation, params)
            result = function(state, params, request)
        except ServiceError as error:
            return shapes.refusal(error, content_type)
        if result is None or isinstance(result, Response):
            return result
        status = int(operation.http.get("responseCode", 200))
        return Response(status, {"Content-Type": content_type}, shapes.serialize(operation, result))

    def _operation(self, request: Request) -> tuple[OperationModel, dict[str, str]] | None:
        if self.model.metadata["protocol"] == "rest-json":
            return shapes.match_operation(self.model, request.method, request.path)
        name = request.headers.get("x-amz-target", "").removeprefix(self.target_prefix)
        return (self.model.operation_model(name), {}) if name in self.model.operation_names else None
