"""A gateway whose services tell what they were asked: `python echo_service.py PORT STATE_DIR`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from local_aws.core.registry import Registered, Request, Response, register_control, register_service
from local_aws.ministack.iam import authorize
from local_aws.ministack.server import install, serve
from local_aws.ministack.sessions import AccessDeniedError, NotAssumableError, role_session


def sagemaker(request: Request) -> Response:
    seen = {
        "service": "sagemaker",
        "caller": request.caller_arn,
        "account": request.account,
        "region": request.region,
        "body": json.loads(request.body),
    }
    return Response(200, {}, json.dumps({"FailureReason": json.dumps(seen)}).encode())


def runtime(request: Request) -> Response:
    return Response(200, {}, f"{request.path}: {request.body.decode()}".encode())


def session(request: Request) -> Response:
    asked = json.loads(request.body)
    try:
        found = role_session(asked["role"], "job", asked["service"], source_arn=asked["source"])
    except NotAssumableError as error:
        return Response(200, {}, json.dumps({"error": str(error)}).encode())
    return Response(200, {}, json.dumps({"key": found.access_key_id}).encode())


def ask(request: Request) -> Response:
    asked = json.loads(request.body)
    try:
        role = role_session(asked["role"], "job", "sagemaker")
        authorize(role, asked["action"], asked["resource"], asked["context"])
    except AccessDeniedError as error:
        return Response(200, {}, json.dumps({"error": str(error)}).encode())
    return Response(200, {}, b'{"allowed": true}')


async def main() -> None:
    port, state_dir = int(sys.argv[1]), Path(sys.argv[2])
    tags = {"tags": lambda arn: {"tuneway:stack": arn.rpartition("/")[2]}}
    register_service(Registered("sagemaker", sagemaker, target_prefix="SageMaker.", **tags))
    signed = {"signing_name": "sagemaker", "namespace": "sagemaker"}
    register_service(Registered("sagemaker-runtime", runtime, paths="/endpoints/", **signed))
    register_service(Registered("bedrock", lambda _: None, paths="/foundation", signing_name="bedrock"))
    for name, handler in {"session": session, "authorize": ask}.items():
        register_control(name, handler)
    install(state_dir)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await serve("127.0.0.1", port, stopped)


asyncio.run(main())
