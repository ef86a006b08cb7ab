"""The operations on endpoints. Their sources are in `endpoint.py`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from local_aws.core.authorization import sagemaker_arn
from local_aws.services.apis import SAGEMAKER
from local_aws.services.quotas import APPLIED
from local_aws.services.sagemaker.endpoint import Endpoint
from local_aws.services.sagemaker.instances import pools
from local_aws.services.sagemaker.store import existing, listed, now, validation_error

if TYPE_CHECKING:
    from local_aws.core.registry import Request
    from local_aws.services.sagemaker.account import SageMakerAccount

_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")


# Unconfirmed: Quotas of InstancePools | Here: every pool needs one: `ResourceLimitExceeded` if the quota of one pool is too
#   small, used or not | Source: "Quota does not fall back" in a vendor's guide (Deepgram, "Deploy Deepgram on Amazon
#   SageMaker"). The product names no type without a quota, so both readings work
def _check_quota(store: SageMakerAccount, config: dict[str, Any]) -> None:
    """Refuse a config if the quota of one of its instance types is too small."""
    for variant in config["ProductionVariants"]:
        for kind in pools(variant):
            in_use = sum(endpoint.instances[kind] for endpoint in store.endpoints.values())
            APPLIED.check(f"{kind} for endpoint usage", in_use, variant["InitialInstanceCount"])


def _run(target: Any, *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, name="endpoint", daemon=True).start()


@SAGEMAKER.operation
def create_endpoint(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    arn = sagemaker_arn(request, "endpoint", params["EndpointName"])
    with store.lock:
        if arn in store.endpoints:
            raise existing("endpoint", arn)
        config = store.find(request, "endpoint-config", params["EndpointConfigName"])
        _check_quota(store, config)
        endpoint = store.endpoints[arn] = Endpoint(store, arn, params["EndpointName"], config)
        store.tag(arn, params.get("Tags"))
    _run(endpoint.create, request)
    return {"EndpointArn": arn}


# Unconfirmed: UpdateEndpoint or DeleteEndpoint of one in progress | Here: `Cannot update in-progress endpoint "ARN".` |
#   Source: sagemaker-examples pull 3188 for the failing delete; text from memory
# Unconfirmed: UpdateEndpoint of a Failed endpoint | Here: `ValidationException` | Source: "only delete is allowed";
#   wording our own
# Unconfirmed: UpdateEndpoint when the config in use was deleted | Here: `Could not find endpoint configuration "OLD
#   ARN".` | Source: terraform-provider-aws issue 40048
# Unconfirmed: UpdateEndpoint to the endpoint's current config | Here: accepted, and a new fleet starts | Source: nothing
#   found
@SAGEMAKER.operation
def update_endpoint(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """Update an endpoint that is InService."""
    with store.lock:
        endpoint = store.endpoint(request, params["EndpointName"])
        if endpoint.status in (*_IN_PROGRESS, "Deleting"):
            raise validation_error(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if endpoint.status != "InService":
            raise validation_error(f'Cannot update endpoint "{endpoint.arn}" in status {endpoint.status}.')
        store.find(request, "endpoint-config", endpoint.config["EndpointConfigName"])
        config = store.find(request, "endpoint-config", params["EndpointConfigName"])
        _check_quota(store, config)
        endpoint.deploying = config, now()
        endpoint.set_status("Updating")
    _run(endpoint.update, request, config)
    return {"EndpointArn": endpoint.arn}


@SAGEMAKER.operation
def delete_endpoint(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    """Delete an endpoint that is not changing."""
    with store.lock:
        endpoint = store.endpoint(request, params["EndpointName"])
        if endpoint.status in _IN_PROGRESS:
            raise validation_error(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if endpoint.status == "Deleting":
            return {}
        endpoint.set_status("Deleting")
    _run(_delete, store, endpoint)
    return {}


def _delete(store: SageMakerAccount, endpoint: Endpoint) -> None:
    if endpoint.delete():
        with store.lock:
            store.endpoints.pop(endpoint.arn, None)
            store.tags.pop(endpoint.arn, None)


@SAGEMAKER.operation
def describe_endpoint(store: SageMakerAccount, params: dict[str, Any], request: Request) -> dict[str, Any]:
    with store.lock:
        return store.endpoint(request, params["EndpointName"]).describe()


@SAGEMAKER.operation
def list_endpoints(store: SageMakerAccount, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    with store.lock:
        described = [endpoint.describe() for endpoint in store.endpoints.values()]
    return listed(described, params, "Endpoints", "EndpointName", "EndpointStatus")
