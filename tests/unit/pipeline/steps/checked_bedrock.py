"""A client of Bedrock for tests: it checks each request against the service model, and answers as a test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate

PREFIX, RUN = "tuneway-0a1b2c3d", "tuneway-0a1b2c3d-0123456789"
TAGS = [{"key": "tuneway:stack", "value": PREFIX}, {"key": "tuneway:run", "value": "0123456789"}]


def refused(code: str, message: str = "no", status: int = 400) -> ClientError:
    """Return an error of AWS."""
    metadata: Any = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "Operation")


class CheckedBedrock:
    """The clients of `bedrock`, `bedrock-runtime` and others at once.

    Attributes:
        answers: by the name of a method, its answer, its error, or a list of these of which each call takes the next. The last
            one stays. A method without an entry answers {}.
        calls: the methods that were called, with their requests.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = {"list_tags_for_resource": {"tags": TAGS}, **answers}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.meta = SimpleNamespace(region_name="us-west-2")
        self.options: dict[str, Any] = {}
        self._operations = {
            xform_name(name): service_model(service).operation_model(name)
            for service in ("s3", "stepfunctions", "bedrock-runtime", "bedrock")
            for name in service_model(service).operation_names
        }

    def __call__(self, _service: str, **options: Any) -> CheckedBedrock:
        """Return itself, in the place of `pipeline.aws.client`."""
        self.options |= options
        return self

    def __getattr__(self, method: str) -> Any:
        return lambda **request: self._answer(method, request)

    def get_paginator(self, method: str) -> Any:
        return SimpleNamespace(paginate=lambda **request: [self._answer(method, request)])

    def called(self, method: str) -> list[dict[str, Any]]:
        """Return the requests of a method."""
        return [request for name, request in self.calls if name == method]

    def _answer(self, method: str, request: dict[str, Any]) -> Any:
        validate(self._operations[method], request)
        self.calls.append((method, request))
        answer = self.answers.get(method, {})
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
