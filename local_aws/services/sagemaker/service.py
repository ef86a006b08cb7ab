"""The SageMaker API: each call checked against botocore's model, answered by one function, refused as AWS refuses.

Every operation here is the one of the same name in the SageMaker API Reference; what nobody could confirm about
its refusals stands in docs/local-aws.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from local_aws.core import shapes
from local_aws.core.authorization import service_model
from local_aws.core.registry import Request, Response, register_control, register_service
from local_aws.core.shapes import ServiceError
from local_aws.services.sagemaker import endpoints, hosting, images, jobs, runtime
from local_aws.services.sagemaker.store import Call, Store, validation_error

if TYPE_CHECKING:
    from pathlib import Path

_TARGET = "SageMaker."
Operation = Callable[[Store, Call, dict[str, Any]], "dict[str, Any]"]


def _tagged(store: Store, arn: str) -> dict[str, str]:
    known = (store.training_jobs, store.models, store.configs, store.endpoints)
    if not any(arn in records for records in known):
        raise validation_error(f'Could not find resource "{arn}".')
    return store.tags.setdefault(arn, {})


def add_tags(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """AddTags answers with all tags of the resource."""
    tags = _tagged(store, params["ResourceArn"])
    store.tag(params["ResourceArn"], params["Tags"])
    return {"Tags": _listed(tags)}


def list_tags(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """ListTags."""
    return {"Tags": _listed(_tagged(store, params["ResourceArn"]))}


def delete_tags(store: Store, call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """DeleteTags lets keys pass that are not there."""
    tags = _tagged(store, params["ResourceArn"])
    for key in params["TagKeys"]:
        tags.pop(key, None)
    return {}


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


OPERATIONS: dict[str, Operation] = {
    **jobs.OPERATIONS,
    **hosting.OPERATIONS,
    **endpoints.OPERATIONS,
    "AddTags": add_tags,
    "ListTags": list_tags,
    "DeleteTags": delete_tags,
}


def handle(store: Store, request: Request) -> Response:
    """Answer one call of the SageMaker API."""
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    name = request.headers.get("x-amz-target", "").removeprefix(_TARGET)
    try:
        if name not in OPERATIONS:
            raise ServiceError(
                "UnknownOperationException", f"local AWS does not have SageMaker's {name or request.path}"
            )
        operation = service_model("sagemaker").operation_model(name)
        params = shapes.parse_json(request.body)
        shapes.validate(operation, params)
        result = OPERATIONS[name](store, Call(request.account, request.region), params)
        return Response(200, headers, shapes.serialize(operation, result, "json"))
    except ServiceError as error:
        return Response(error.status, headers | {"x-amzn-errortype": error.code}, shapes.error_body(error))


def control(store: Store, request: Request) -> Response:
    """POST /_tuneway/sagemaker: set `Settings` by name, or put a command in the place of an image.

    {"stop_grace_seconds": 1, "images": {"repository": ["command", "{port}"]}}
    """
    given = json.loads(request.body or b"{}")
    for repository, command in given.pop("images", {}).items():
        images.add(repository, tuple(command))
    unknown = set(given) - {item.name for item in fields(store.settings)}
    if unknown:
        return Response(400, body=f"unknown: {', '.join(sorted(unknown))}\n".encode())
    store.settings = replace(store.settings, **{name: float(value) for name, value in given.items()})
    return Response(200, body=b"ok\n")


def register(state_dir: Path, endpoint_url: str) -> None:
    """Answer SageMaker's and SageMaker Runtime's calls in this server."""
    store = Store(state_dir.resolve(), endpoint_url)
    register_service(
        "sagemaker",
        handler=lambda request: handle(store, request),
        target_prefix=_TARGET,
        tags=lambda arn: store.tags.get(arn, {}),
    )
    register_service(
        "sagemaker-runtime",
        handler=lambda request: runtime.handle(store, request),
        paths=("/endpoints/",),
        signing_names=("sagemaker",),
        namespace="sagemaker",
    )
    register_control("sagemaker", lambda request: control(store, request))
