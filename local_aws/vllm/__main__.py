"""The container's process: `python -m local_aws.vllm --port 8080`. The environment configures it, as it does the vLLM image.

GET /ping answers 200, and POST /invocations takes an OpenAI chat completion request (SageMaker's "Custom inference code
with hosting services"). The same routes exist as /health and /v1/chat/completions. The port opens only after the model has
answered a real chat completion, so an endpoint is InService only with weights that answer.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse

from local_aws.vllm import completions
from local_aws.vllm.chat import ChatRequest, Engine, RefusedError
from local_aws.vllm.options import OptionError, read
from local_aws.vllm.stream import events

logger = logging.getLogger("local_aws.vllm")


def application(engine: Engine) -> FastAPI:
    """Return the HTTP routes over one engine."""
    app = FastAPI()

    @app.get("/ping")
    @app.get("/health")
    def ping() -> Response:
        return Response(status_code=200)

    @app.post("/invocations")
    @app.post("/v1/chat/completions")
    def invocations(request: ChatRequest) -> Response:
        if request.stream:
            asked = engine.check(request)
            return StreamingResponse(events(engine, request, asked), media_type="text/event-stream")
        return JSONResponse(engine.complete(request))

    completions.add_route(app, engine)

    @app.exception_handler(RefusedError)
    def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(part for part in first["loc"][1:] if isinstance(part, str))
        refusal = RefusedError(f"{where or 'request body'}: {first['msg']}", param=where or None)
        return JSONResponse(refusal.body, status_code=refusal.status)

    return app


def main() -> int:
    """Load the model, check that it answers, then serve."""
    parser = argparse.ArgumentParser(prog="python -m local_aws.vllm")
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    started = time.monotonic()
    try:
        engine = Engine(read(os.environ, Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))))
        answer = engine.complete(
            ChatRequest(messages=[{"role": "user", "content": "Hello"}], max_tokens=4, temperature=0)
        )
    except (OptionError, OSError, ValueError, RefusedError) as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    tokens = answer["usage"]["completion_tokens"]
    logger.info(
        "model answers (%d tokens) after %.1f s, context %d", tokens, time.monotonic() - started, engine.max_model_len
    )
    uvicorn.run(application(engine), host="127.0.0.1", port=port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
