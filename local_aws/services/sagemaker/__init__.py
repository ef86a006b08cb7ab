"""SageMaker on this machine: training jobs and endpoints as real processes under their own roles.

This module has the operations on tags, and registers all operations. Each operation is the one of the same name in the
SageMaker API Reference. PARITY.md lists the refusals that nobody could confirm.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import (
    Registered,
    Request,
    Response,
    register_control,
    register_front_door,
    register_service,
)
from local_aws.ministack.metrics import before_readings
from local_aws.services.apis import SAGEMAKER
from local_aws.services.sagemaker import endpoints, hosting, images, jobs, model_packages, openai_route, runtime
from local_aws.services.sagemaker.account import SageMakerAccount
from local_aws.services.sagemaker.store import validation_error

if TYPE_CHECKING:
    from pathlib import Path


OPERATIONS = (jobs, hosting, endpoints, model_packages)
"""The modules with the other operations."""


def _tags(store: SageMakerAccount, arn: str) -> dict[str, str]:
    if arn in store.records["model-package"]:
        raise validation_error(model_packages.NO_TAGS)
    kinds = ("model", "endpoint-config", "model-package-group")
    if arn not in {*store.training_jobs, *store.endpoints, *(arn for kind in kinds for arn in store.records[kind])}:
        raise validation_error(f'Could not find resource "{arn}".')
    return store.tags.setdefault(arn, {})


@SAGEMAKER.operation
def list_tags(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    return {"Tags": [{"Key": key, "Value": value} for key, value in _tags(store, params["ResourceArn"]).items()]}


@SAGEMAKER.operation
def add_tags(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """Add tags, and answer with all tags of the resource."""
    _tags(store, params["ResourceArn"])
    store.tag(params["ResourceArn"], params["Tags"])
    return list_tags(store, params, request)


def control(store: SageMakerAccount, request: Request) -> Response:
    """Answer POST /_tuneway/sagemaker: set `Delays` by name, or replace an image by a command.

    {"stop_grace_seconds": 1, "images": {"repository": ["command", "{port}"]}}

    `elapse_minutes` moves all endpoints with their metrics into the past, as if so much time had passed without a request.
    """
    given = json.loads(request.body or b"{}")
    for repository, command in given.pop("images", {}).items():
        images.COMMANDS[repository] = tuple(command)
    if minutes := given.pop("elapse_minutes", 0):
        store.elapse(minutes)
    unknown = set(given) - {item.name for item in fields(store.settings)}
    if unknown:
        return Response(400, body=f"unknown: {', '.join(sorted(unknown))}\n".encode())
    store.settings = replace(store.settings, **{name: float(value) for name, value in given.items()})
    return Response(200, body=b"ok\n")


def register(state_dir: Path, endpoint_url: str) -> None:
    """Answer SageMaker's and SageMaker Runtime's calls in this server."""
    store = SageMakerAccount(state_dir.resolve(), endpoint_url)
    register_service(
        Registered(
            "sagemaker",
            partial(SAGEMAKER.handle, store),
            SAGEMAKER.target_prefix,
            tags=lambda arn: store.tags.get(arn, {}),
        )
    )
    invoke = partial(runtime.handle, store)
    register_service(
        Registered("sagemaker-runtime", invoke, paths="/endpoints/", signing_name="sagemaker", namespace="sagemaker")
    )
    register_front_door(openai_route.PATTERN, partial(openai_route.handle, store))
    register_control("sagemaker", partial(control, store))
    before_readings(lambda: store.metrics.publish(store.settings.metric_delay_seconds))
