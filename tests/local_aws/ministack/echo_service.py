"""A gateway whose services answer with their request: `python echo_service.py PORT STATE_DIR`."""

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
    content = {
        "service": "sagemaker",
        "caller": request.caller_arn,
        "account": request.account,
        "region": request.region,
        "body": json.loads(request.body),
    }
    return Response(200, {}, json.dumps({"FailureReason": json.dumps(content)}).encode())


def runtime(request: Request) -> Response:
    return Response(200, {}, f"{request.path}: {request.body.decode()}".encode())


def session(request: Request) -> Response:
    body = json.loads(request.body)
    try:
        assumed = role_session(body["role"], "job", body["service"], source_arn=body["source"])
    except NotAssumableError as error:
        return Response(200, {}, json.dumps({"error": str(error)}).encode())
    return Response(200, {}, json.dumps({"key": assumed.access_key_id}).encode())


def check(request: Request) -> Response:
    body = json.loads(request.body)
    try:
        role = role_session(body["role"], "job", "sagemaker")
        authorize(role, body["action"], body["resource"], body["context"])
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
    for name, handler in {"session": session, "authorize": check}.items():
        register_control(name, handler)
    install(state_dir)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await serve("127.0.0.1", port, stopped)


asyncio.run(main())
