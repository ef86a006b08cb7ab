"""SageMaker Runtime's OpenAI route: POST /endpoints/NAME/openai/v1/chat/completions.

Source: "Invoke endpoints with OpenAI-compatible APIs" in the developer guide: a bearer token of the caller, both
sagemaker:CallWithBearerToken and sagemaker:InvokeEndpoint for the identity behind it, and the container's answer "directly from
the container, including streaming", from its path /v1/chat/completions. The form of errors was seen on a live endpoint by
stdapi-ai/stdapi.ai (tests/test_aws_sagemaker.py).
"""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from local_aws.core import faults
from local_aws.core.authorization import Check
from local_aws.core.registry import Request, Response
from local_aws.ministack.iam import authorize, principal_of
from local_aws.ministack.sessions import AccessDeniedError
from local_aws.services.sagemaker import runtime
from local_aws.services.sagemaker.bearer import Caller, TokenRefusedError, check
from local_aws.services.sagemaker.endpoint import STREAM_SECONDS

if TYPE_CHECKING:
    from collections.abc import Generator

    from local_aws.services.sagemaker.account import SageMakerAccount
    from local_aws.services.sagemaker.fleet import Fleet

PATTERN = r"/endpoints/([^/]+)/openai/.*"
_PATH = re.compile(r"/endpoints/([^/]+)/openai/v1/chat/completions")
_CHUNK_BYTES = 1 << 16


# Differs: Inference components | AWS: `/inference-components/NAME` before `/openai` names one | Here: missing | Why:
#   Tuneway makes none
# Unconfirmed: Limits of the OpenAI route | Here: 6,291,456 bytes, 60 s for each part of an answer, 8 minutes for a stream |
#   Source: those of InvokeEndpoint and of InvokeEndpointWithResponseStream ("60 s regular / 8 min streaming", hosting FAQ)
# Unconfirmed: A request without a valid token, or without a permission | Here: 403, as for a request with SigV4 in its header |
#   Source: 403 is what stdapi-ai/stdapi.ai saw for the latter; no page says whether it is 401 or 403
def handle(store: SageMakerAccount, request: Request) -> Response:
    """Pass one chat completion on to an endpoint's container, and its answer back as it comes."""
    found = _PATH.fullmatch(request.path)
    if found is None or request.method != "POST":
        message = f"{request.method} {request.path} is not routed: only POST chat/completions is"
        return _error(404, "UnknownOperationException", message)
    try:
        caller = check(request.headers.get("authorization", ""))
    except TokenRefusedError as error:
        return _error(403, error.code, str(error))
    name, account = unquote(found[1]), caller.account
    arn = f"arn:aws:sagemaker:{caller.region}:{account}:endpoint/{name.lower()}"
    refusal = _refusal(caller, arn, request)
    if refusal is not None:
        return refusal
    if len(request.body) > runtime.MAX_BODY_BYTES:
        return _error(413, "ValidationError", runtime.TOO_LARGE)
    fleet = runtime.enter(store, arn)
    if fleet is None:
        return _error(400, "ValidationError", runtime.unknown_endpoint(name, account))
    return _forward(fleet, request)


def _refusal(caller: Caller, endpoint: str, request: Request) -> Response | None:
    """Return the answer for a caller that may not call the endpoint, or that meets a fault; None if it may."""
    for each in (Check("sagemaker:CallWithBearerToken", "*"), Check("sagemaker:InvokeEndpoint", endpoint)):
        try:
            authorize(caller.credentials, each.action, each.resource)
        except AccessDeniedError as error:
            return _error(403, "AccessDeniedException", str(error))
        principal = principal_of(caller.credentials.access_key_id)
        searched = f"{each.resource} {request.path} {request.body[: faults.SEARCHED_BYTES].decode('utf-8', 'replace')}"
        fault = faults.take("error", action=each.action, principal=principal, resource=searched)
        if fault:
            return _error(fault.status, fault.code, fault.message or fault.code)
    return None


def _forward(fleet: Fleet, request: Request) -> Response:
    connection = runtime.open_container(fleet)
    passing = False
    try:
        connection.request("POST", "/v1/chat/completions", request.body, runtime.forwarded_headers(request))
        answer = connection.getresponse()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            return _model_error(fleet, answer.status, answer.read().decode("utf-8", "replace"))
        headers = runtime.answer_headers(fleet, answer)
        if headers["Content-Type"].partition(";")[0] != "text/event-stream":
            return Response(answer.status, headers, answer.read())
        passing = True
        return Response(answer.status, headers, chunks=_chunks(fleet, connection, answer))
    except TimeoutError:
        return _model_error(fleet, 0, runtime.TIMED_OUT)
    except (OSError, http.client.HTTPException):
        return _error(503, "ServiceUnavailable", runtime.UNREACHABLE)
    finally:
        if not passing:
            connection.close()
            fleet.leave()


# Unconfirmed: A stream whose container dies or is too slow | Here: the connection ends without the end of the answer | Source:
#   none; the status has been sent by then
def _chunks(
    fleet: Fleet, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
) -> Generator[bytes, None, None]:
    """Yield the container's answer as it comes. Raises ConnectionError if it does not come to its end."""
    deadline = time.monotonic() + STREAM_SECONDS
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            yield chunk
            if time.monotonic() > deadline:
                raise ConnectionError("the stream takes too long")
        if answer.length:
            raise ConnectionError("the container has not ended its answer")
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
        fleet.leave()


# Unconfirmed: Status of an error of the container on the OpenAI route | Here: the container's own; 424 if it did not answer
#   in time | Source: 400 for a 400 in stdapi-ai/stdapi.ai's test of a live endpoint; 424 is ModelError's (InvokeEndpoint)
def _model_error(fleet: Fleet, status: int, original: str) -> Response:
    return _error(status or 424, "ModelError", runtime.container_error(fleet, status, original))


# Unconfirmed: `type` and `code` of an error on the OpenAI route | Here: `server_error` and `model_error` for the container's,
#   `invalid_request_error` and `validation_error` for an unknown endpoint; others after the same pattern | Source: bodies in
#   stdapi-ai/stdapi.ai, tests/test_aws_sagemaker.py
def _error(status: int, code: str, message: str) -> Response:
    kind = "server_error" if code == "ModelError" or status >= 500 else "invalid_request_error"
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", code).lower()
    body = {"error": {"message": message, "type": kind, "code": snake}}
    return Response(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
