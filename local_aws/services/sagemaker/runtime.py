"""SageMaker Runtime: InvokeEndpoint.

Source: its API Reference (ModelError carries OriginalStatusCode, OriginalMessage and LogStreamArn; a model container must
answer within 60 seconds; the body is at most 6 MB).
"""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from typing import TYPE_CHECKING

from local_aws.core.authorization import sagemaker_arn, service_model
from local_aws.core.registry import Request, Response
from local_aws.core.shapes import ServiceError, match_operation, refusal
from local_aws.services.sagemaker.endpoint import INVOCATION_SECONDS

if TYPE_CHECKING:
    from local_aws.services.sagemaker.account import SageMakerAccount
    from local_aws.services.sagemaker.fleet import Fleet

MAX_BODY_BYTES = 6_291_456
TOO_LARGE = f"HTTP content length exceeded {MAX_BODY_BYTES} bytes."
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for each "
    "container in Amazon CloudWatch, resolve the issue, and try again."
)
UNREACHABLE = "The primary container is not reachable."


# Differs: InvokeEndpointWithResponseStream | AWS: the answer in parts, as the container makes them | Here: missing | Why:
#   Tuneway does not call it, and the OpenAI route streams
def handle(store: SageMakerAccount, request: Request) -> Response | None:
    """Pass one request on to an endpoint's container. Return None for another operation."""
    found = match_operation(service_model("sagemaker-runtime"), request.method, request.path)
    if found is None or found[0].name != "InvokeEndpoint":
        return None
    try:
        return _invoke_endpoint(store, request, found[1]["EndpointName"])
    except ServiceError as error:
        return refusal(error)


def _invoke_endpoint(store: SageMakerAccount, request: Request, name: str) -> Response:
    if len(request.body) > MAX_BODY_BYTES:
        raise ServiceError("413", TOO_LARGE, 413)
    fleet = enter(store, sagemaker_arn(request, "endpoint", name))
    if fleet is None:
        raise ServiceError("ValidationError", unknown_endpoint(name, request.account))
    if fleet.use is not None:
        fleet.use.invocations.append(time.time())
    try:
        return _invoke(fleet, request)
    finally:
        fleet.leave()


def _invoke(fleet: Fleet, request: Request) -> Response:
    began = time.time()
    try:
        with closing(open_container(fleet)) as connection:
            connection.request("POST", "/invocations", request.body, forwarded_headers(request))
            answer = connection.getresponse()
            body = answer.read()
        if fleet.use is not None:
            fleet.use.answers.append((began, time.time() - began, answer.status))
    except TimeoutError:
        raise _model_error(fleet, request, 0, TIMED_OUT) from None
    except (OSError, http.client.HTTPException):
        raise ServiceError("ServiceUnavailable", UNREACHABLE, 503) from None
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise _model_error(fleet, request, answer.status, body.decode("utf-8", "replace"))
    return Response(200, answer_headers(fleet, answer), body)


def enter(store: SageMakerAccount, arn: str) -> Fleet | None:
    """Return the fleet that serves an endpoint now, None if none does. Call its `leave` after the answer.

    An update puts another fleet in its place under the same lock, and stops the old one when its requests are answered. So an
    update loses no request.
    """
    with store.lock:
        endpoint = store.endpoints.get(arn)
        fleet = endpoint.fleet if endpoint is not None and endpoint.status != "Deleting" else None
        if fleet is not None:
            fleet.enter()
        return fleet


def open_container(fleet: Fleet) -> http.client.HTTPConnection:
    """Return a connection to the fleet's container, which has a minute for each part of its answer."""
    return http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=INVOCATION_SECONDS)


def forwarded_headers(request: Request) -> dict[str, str]:
    """Return the headers that the container gets. It never gets the caller's signature or token."""
    given = request.headers
    return {"Content-Type": given.get("content-type", "application/json"), "Accept": given.get("accept", "*/*")}


def answer_headers(fleet: Fleet, answer: http.client.HTTPResponse) -> dict[str, str]:
    """Return the headers that the caller gets with the container's answer."""
    content_type = answer.getheader("Content-Type") or "application/octet-stream"
    return {"Content-Type": content_type, "x-Amzn-Invoked-Production-Variant": str(fleet.variant["VariantName"])}


def unknown_endpoint(name: str, account: str) -> str:
    """Return AWS's message for an endpoint that does not exist or does not serve."""
    return f"Endpoint {name} of account {account} not found."


def container_error(fleet: Fleet, status: int, original: str) -> str:
    """Return AWS's message for an error of the container, which quotes the container's whole body."""
    kind = "client" if 400 <= status < 500 else "server"
    region, account = fleet.arn.split(":")[3:5]
    return (
        f'Received {kind} error ({status}) from primary with message "{original}". See '
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={fleet.log_group} "
        f"in account {account} for more information."
    )


def _model_error(fleet: Fleet, request: Request, status: int, original: str) -> ServiceError:
    arn = f"arn:aws:logs:{request.region}:{request.account}:log-group:{fleet.log_group}"
    details = {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": arn}
    message = container_error(fleet, status, original)
    return ServiceError("ModelError", message, 424, Message=message, **details)
