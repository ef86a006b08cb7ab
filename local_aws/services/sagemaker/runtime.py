"""SageMaker Runtime: InvokeEndpoint and InvokeEndpointWithResponseStream.

Sources: the API Reference of both (ModelError carries OriginalStatusCode, OriginalMessage and LogStreamArn; a
model container must answer within 60 seconds; the body is at most 6 MB, ModelStreamError in the stream). The
event stream's form is botocore's (`botocore/eventstream.py`) and "Event stream encoding" of Amazon Transcribe's
Developer Guide, which describes the same format.
"""

from __future__ import annotations

import asyncio
import binascii
import http.client
import json
import re
import struct
from typing import TYPE_CHECKING
from urllib.parse import unquote

from local_aws.core.registry import Request, Response
from local_aws.services.sagemaker.endpoint import INVOCATION_SECONDS, Endpoint
from local_aws.services.sagemaker.store import arn_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local_aws.services.sagemaker.account import SageMakerAccount
    from local_aws.services.sagemaker.fleet import Fleet

MAX_BODY_BYTES = 6_291_456
_PATH = re.compile(r"/endpoints/(?P<name>[^/]+)/(?P<kind>invocations|invocations-response-stream)")
_CHUNK_BYTES = 16_384
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_HEADER_STRING = 7


def handle(store: SageMakerAccount, request: Request) -> Response:
    """Pass one request on to an endpoint's container."""
    found = _PATH.fullmatch(request.path)
    if found is None or request.method != "POST":
        return _error(404, "UnknownOperationException", f"local AWS does not have {request.method} {request.path}")
    if len(request.body) > MAX_BODY_BYTES:
        return _error(413, "413", f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.")
    name = unquote(found["name"])
    arn = arn_of(request, "endpoint", name)
    with store.lock:
        endpoint = store.endpoints.get(arn)
        fleet = endpoint.fleet if endpoint is not None and endpoint.status != "Deleting" else None
        if fleet is not None:
            fleet.enter()
    if endpoint is None or fleet is None:
        return _error(400, "ValidationError", f"Endpoint {name} of account {request.account} not found.")
    streaming = False
    try:
        target = request.headers.get("x-amzn-sagemaker-target-variant")
        if target and target != fleet.variant["VariantName"]:
            return _error(
                400, "ValidationError", f"Variant {target} not found in endpoint {name} of account {request.account}."
            )
        response = _invoke(endpoint, fleet, request, found["kind"] == "invocations-response-stream")
        streaming = not isinstance(response.body, bytes)
        return response
    finally:
        if not streaming:  # A stream leaves when it has been read.
            fleet.leave()


def _invoke(endpoint: Endpoint, fleet: Fleet, request: Request, streamed: bool) -> Response:
    accept = request.headers.get("x-amzn-sagemaker-accept" if streamed else "accept", "*/*")
    headers = {"Content-Type": request.headers.get("content-type", "application/json"), "Accept": accept}
    if _ATTRIBUTES in request.headers:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = request.headers[_ATTRIBUTES]
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=INVOCATION_SECONDS)
    try:
        connection.request("POST", "/invocations", request.body, headers)
        answer = connection.getresponse()
        ok = answer.status < http.HTTPStatus.BAD_REQUEST
        body = b"" if streamed and ok else answer.read()
    except TimeoutError:
        connection.close()
        reason = (
            "Your invocation timed out while waiting for a response from container primary. Review the "
            "latency metrics for each "
            "container in Amazon CloudWatch, resolve the issue, and try again."
        )
        return _model_error(endpoint, fleet, request, 0, reason)
    except (OSError, http.client.HTTPException):
        connection.close()
        return _error(503, "ServiceUnavailable", "The primary container is not reachable.")
    if not ok:
        connection.close()
        return _model_error(endpoint, fleet, request, answer.status, body.decode("utf-8", "replace"))
    content_type = answer.getheader("Content-Type") or "application/octet-stream"
    out = {"x-Amzn-Invoked-Production-Variant": str(fleet.variant["VariantName"])}
    if answer.getheader(_ATTRIBUTES):
        out["X-Amzn-SageMaker-Custom-Attributes"] = str(answer.getheader(_ATTRIBUTES))
    if not streamed:
        connection.close()
        return Response(200, out | {"Content-Type": content_type}, body)
    out |= {"Content-Type": "application/vnd.amazon.eventstream", "X-Amzn-SageMaker-Content-Type": content_type}
    return Response(200, out, _events(fleet, connection, answer))


async def _events(
    fleet: Fleet, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(answer.read1, _CHUNK_BYTES):
            yield encode_event({":event-type": "PayloadPart", ":content-type": "application/octet-stream"}, chunk)
    except (OSError, http.client.HTTPException) as error:
        message = {
            "Message": f"The model container closed the stream: {error!r}",
            "ErrorCode": "ModelInvocationTimeExceeded",
        }
        yield encode_event(
            {":exception-type": "ModelStreamError", ":content-type": "application/json", ":message-type": "exception"},
            json.dumps(message).encode(),
        )
    finally:
        connection.close()
        fleet.leave()


def encode_event(headers: dict[str, str], payload: bytes) -> bytes:
    """One message in AWS's event stream encoding: lengths, their CRC, headers, payload, CRC of all of it."""
    encoded = b""
    for name, value in ({":message-type": "event"} | headers).items():
        encoded += struct.pack("!B", len(name)) + name.encode()
        encoded += struct.pack("!BH", _HEADER_STRING, len(value.encode())) + value.encode()
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", binascii.crc32(message))


def _model_error(endpoint: Endpoint, fleet: Fleet, request: Request, status: int, original: str) -> Response:
    kind = "client" if 400 <= status < 500 else "server"
    region, account = request.region, request.account
    message = (
        f'Received {kind} error ({status}) from primary with message "{original}". See '
        f"https://{region}.console.aws.amazon.com/"
        f"cloudwatch/home?region={region}#logEventViewer:group={fleet.log_group} in account {account} for "
        "more information."
    )
    document = {
        "Message": message,
        "OriginalStatusCode": status,
        "OriginalMessage": original,
        "LogStreamArn": f"arn:aws:logs:{region}:{account}:log-group:{fleet.log_group}",
    }
    headers = {"Content-Type": "application/json", "x-amzn-errortype": "ModelError"}
    return Response(424, headers, json.dumps(document).encode())


def _error(status: int, code: str, message: str) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
    return Response(status, headers, json.dumps({"Message": message, "message": message}).encode())
