"""SageMaker Runtime: InvokeEndpoint.

Source: its API Reference (ModelError carries OriginalStatusCode, OriginalMessage and LogStreamArn; a model container must
answer within 60 seconds; the body is at most 6 MB).
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from local_aws.core.authorization import sagemaker_arn, service_model
from local_aws.core.registry import Request, Response
from local_aws.core.shapes import ServiceError, match_operation, refusal
from local_aws.services.sagemaker.endpoint import INVOCATION_SECONDS

if TYPE_CHECKING:
    from local_aws.services.sagemaker.account import SageMakerAccount
    from local_aws.services.sagemaker.fleet import Fleet

MAX_BODY_BYTES = 6_291_456


# Differs: InvokeEndpointWithResponseStream | AWS: the answer in parts, as the container makes them | Here: missing | Why:
#   Tuneway does not call it
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
        raise ServiceError("413", f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.", 413)
    with store.lock:
        endpoint = store.endpoints.get(sagemaker_arn(request, "endpoint", name))
        fleet = endpoint.fleet if endpoint is not None and endpoint.status != "Deleting" else None
        if fleet is None:
            raise ServiceError("ValidationError", f"Endpoint {name} of account {request.account} not found.")
        fleet.enter()
    try:
        return _invoke(fleet, request)
    finally:
        fleet.leave()


def _invoke(fleet: Fleet, request: Request) -> Response:
    given = request.headers
    headers = {"Content-Type": given.get("content-type", "application/json"), "Accept": given.get("accept", "*/*")}
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=INVOCATION_SECONDS)
    try:
        connection.request("POST", "/invocations", request.body, headers)
        answer = connection.getresponse()
        body = answer.read()
    except TimeoutError:
        reason = (
            "Your invocation timed out while waiting for a response from container primary. Review the latency metrics "
            "for each container in Amazon CloudWatch, resolve the issue, and try again."
        )
        raise _model_error(fleet, request, 0, reason) from None
    except (OSError, http.client.HTTPException):
        raise ServiceError("ServiceUnavailable", "The primary container is not reachable.", 503) from None
    finally:
        connection.close()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise _model_error(fleet, request, answer.status, body.decode("utf-8", "replace"))
    content_type = answer.getheader("Content-Type") or "application/octet-stream"
    variant = str(fleet.variant["VariantName"])
    return Response(200, {"Content-Type": content_type, "x-Amzn-Invoked-Production-Variant": variant}, body)


def _model_error(fleet: Fleet, request: Request, status: int, original: str) -> ServiceError:
    kind = "client" if 400 <= status < 500 else "server"
    region, account, group = request.region, request.account, fleet.log_group
    message = (
        f'Received {kind} error ({status}) from primary with message "{original}". See '
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group} "
        f"in account {account} for more information."
    )
    arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
    details = {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": arn}
    return ServiceError("ModelError", message, 424, Message=message, **details)
