"""The SageMaker API: the operations on tags, and the registration of all.

Every operation here is the one of the same name in the SageMaker API Reference; what nobody could confirm about
its refusals stands in PARITY.md.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Request, Response, register_control, register_service
from local_aws.services.apis import SAGEMAKER
from local_aws.services.sagemaker import endpoints, hosting, images, jobs, runtime
from local_aws.services.sagemaker.account import SageMakerAccount
from local_aws.services.sagemaker.store import validation_error

if TYPE_CHECKING:
    from pathlib import Path


OPERATIONS = (jobs, hosting, endpoints)
"""The modules with the operations beside those on tags."""


def _tagged(store: SageMakerAccount, arn: str) -> dict[str, str]:
    known = (store.training_jobs, store.models, store.configs, store.endpoints)
    if not any(arn in records for records in known):
        raise validation_error(f'Could not find resource "{arn}".')
    return store.tags.setdefault(arn, {})


@SAGEMAKER.operation
def add_tags(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """AddTags answers with all tags of the resource."""
    tags = _tagged(store, params["ResourceArn"])
    store.tag(params["ResourceArn"], params["Tags"])
    return {"Tags": _listed(tags)}


@SAGEMAKER.operation
def list_tags(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """ListTags."""
    return {"Tags": _listed(_tagged(store, params["ResourceArn"]))}


@SAGEMAKER.operation
def delete_tags(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """DeleteTags lets keys pass that are not there."""
    tags = _tagged(store, params["ResourceArn"])
    for key in params["TagKeys"]:
        tags.pop(key, None)
    return {}


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def control(store: SageMakerAccount, request: Request) -> Response:
    """POST /_tuneway/sagemaker: set `Delays` by name, or put a command in the place of an image.

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
    store = SageMakerAccount(state_dir.resolve(), endpoint_url)
    register_service(
        "sagemaker",
        handler=lambda request: SAGEMAKER.handle(store, request),
        target_prefix=SAGEMAKER.target_prefix,
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
