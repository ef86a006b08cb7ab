"""SageMaker Runtime: InvokeEndpoint.

Source: its API Reference (ModelError carries OriginalStatusCode, OriginalMessage and LogStreamArn; a model container must
answer within 60 seconds; the body is at most 6 MB).
"""

from __future__ import annotations

import http.client
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from local_aws.core.authorization import sagemaker_arn
from local_aws.core.registry import Request, Response
from local_aws.services.sagemaker.endpoint import INVOCATION_SECONDS

if TYPE_CHECKING:
    from local_aws.services.sagemaker.account import SageMakerAccount
    from local_aws.services.sagemaker.fleet import Fleet

MAX_BODY_BYTES = 6_291_456
_PATH = re.compile(r"/endpoints/([^/]+)/invocations")


# Differs: InvokeEndpointWithResponseStream | AWS: the answer in parts, as the container makes them | Here: missing | Why:
#   Tuneway does not call it
def handle(store: SageMakerAccount, request: Request) -> Response:
    """Pass one request on to an endpoint's container."""
    found = _PATH.fullmatch(request.path)
    if found is None or request.method != "POST":
        return _error(404, "UnknownOperationException", f"local AWS does not have {request.method} {request.path}")
    if len(request.body) > MAX_BODY_BYTES:
        return _error(413, "413", f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.")
    name = unquote(found[1])
    with store.lock:
        endpoint = store.endpoints.get(sagemaker_arn(request, "endpoint", name))
        fleet = endpoint.fleet if endpoint is not None and endpoint.status != "Deleting" else None
        if fleet is None:
            return _error(400, "ValidationError", f"Endpoint {name} of account {request.account} not found.")
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
        return _model_error(fleet, request, 0, reason)
    except (OSError, http.client.HTTPException):
        return _error(503, "ServiceUnavailable", "The primary container is not reachable.")
    finally:
        connection.close()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        return _model_error(fleet, request, answer.status, body.decode("utf-8", "replace"))
    content_type = answer.getheader("Content-Type") or "application/octet-stream"
    variant = str(fleet.variant["VariantName"])
    return Response(200, {"Content-Type": content_type, "x-Amzn-Invoked-Production-Variant": variant}, body)


def _model_error(fleet: Fleet, request: Request, status: int, original: str) -> Response:
    kind = "client" if 400 <= status < 500 else "server"
    region, account, group = request.region, request.account, fleet.log_group
    message = (
        f'Received {kind} error ({status}) from primary with message "{original}". See '
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group} "
        f"in account {account} for more information."
    )
    arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
    details = {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": arn}
    return _error(424, "ModelError", message, **details)


def _error(status: int, code: str, message: str, **details: object) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
    return Response(status, headers, json.dumps({"Message": message, "message": message, **details}).encode())
