"""The server: it hands calls and controls to their registered handlers, and all other calls to MiniStack."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from ministack import app
from ministack.core import concurrency, hypercorn_compat, iam_actions, iam_evaluator, responses

from local_aws.core import registry
from local_aws.core.registry import Handler, Registered, Request, Response
from local_aws.core.shapes import ServiceError, refusal
from local_aws.ministack import (
    alarms,
    calls,
    cloudformation,
    dashboards,
    decisions,
    embedded_metrics,
    iam,
    patches,
    stack_roles,
)
from local_aws.ministack.patches import patch, put

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

PATCHING = (alarms, calls, cloudformation, dashboards, embedded_metrics, iam, stack_roles)
"""The modules whose patches `install` applies, beside the patches that the services declare."""


async def _answer(handler: Handler, request: Request) -> Response | None:
    # Each call has a thread of its own, because a handler may call this server.
    answer: Response | None = await concurrency.run_reentrant(handler, request, thread_name="local-aws-handler")
    return answer


def _raw(response: Response) -> tuple[int, dict[str, str], Any]:
    if response.chunks is not None:
        body: Any = responses.StreamingResponse(functools.partial(_send_chunks, response.chunks))
        return response.status, dict(response.headers), body
    return response.status, dict(response.headers), response.body


@patch(app, "detect_service")
def _detect_service(
    original: Callable[..., str], method: str, path: str, headers: dict[str, str], query: dict[str, Any]
) -> str:
    return registry.service_of(path, headers) or original(method, path, headers, query)


def _unknown(service: str, operation: str) -> Response:
    return refusal(ServiceError("UnknownOperationException", f"local AWS does not have {operation} of {service}"))


def _let_answer(service: Registered) -> None:
    """Let IAM check a registered service's calls under its namespace, and let its handler answer them."""
    name = service.name
    namespace = service.namespace or iam_actions.SERVICE_TO_IAM_NAMESPACE.get(name, name)
    put(iam_actions.SERVICE_TO_IAM_NAMESPACE, name, namespace)
    if service.model or name not in iam_actions._BOTOCORE_SERVICE_MAP:
        put(iam_actions._BOTOCORE_SERVICE_MAP, name, [service.model or name])

    @patch(app.SERVICE_HANDLERS, name)
    async def handle(
        original: Any, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Any:
        caller = iam_evaluator.request_caller_arn(headers, query)
        account, region = responses.get_account_id(), responses.get_region()
        response = await _answer(service.handler, Request(method, path, query, headers, body, account, region, caller))
        if response is None and original is not None:
            return await original(method, path, headers, body, query)
        return _raw(response or _unknown(name, headers.get("x-amz-target") or path))


def install(state_dir: Path) -> None:
    """Apply every patch, after all services are registered. Decisions go to `state_dir`/decisions.jsonl."""
    decisions.start(state_dir / "decisions.jsonl")
    for service in reversed(registry.SERVICES):
        _let_answer(service)
    patches.apply()


async def _gateway(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope.get("path", "")
    controls = path.startswith(registry.CONTROL)
    handler = registry.control_of(path) if controls else registry.front_door_of(path)
    if scope["type"] != "http" or not (handler or controls):
        await app.app(scope, receive, send)
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True)
    responses.set_request_account_id("")
    responses.set_request_region(None)
    request = Request(
        scope["method"], path, query, headers, body, responses.get_account_id(), responses.get_region(), ""
    )
    response = await _answer(handler, request) if handler else None
    await app._send_if_handled(send, _raw(response or Response(404, body=b"no such control path\n")), receive)


async def _send_chunks(chunks: Generator[bytes, None, None], send: Any, receive: Any) -> None:
    """Send the chunks as they come. They have a thread of their own, which ends when the client has gone."""
    loop, gone = asyncio.get_running_loop(), threading.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    def send_all() -> bool:
        """Return whether the answer is whole."""
        try:
            for chunk in chunks:
                if gone.is_set():
                    return False
                message = {"type": "http.response.body", "body": chunk, "more_body": True}
                asyncio.run_coroutine_threadsafe(send(message), loop).result()
        except ConnectionError:
            return False
        finally:
            chunks.close()
        return True

    watching = asyncio.create_task(watch())
    whole = await concurrency.run_reentrant(send_all, thread_name="local-aws-stream")
    watching.cancel()
    # An application that returns without the last message makes the server close the connection in the middle of the answer.
    if whole:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def serve(host: str, port: int, stopped: asyncio.Event) -> None:
    """Serve every service on one port until `stopped` is set."""
    hypercorn_compat.install()
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.shutdown_timeout = 2
    config.loglevel = "WARNING"
    await hypercorn_serve(_gateway, config, shutdown_trigger=stopped.wait)  # type: ignore[arg-type]
