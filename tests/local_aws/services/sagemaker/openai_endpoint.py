"""An endpoint on local AWS that answers OpenAI's chat requests, and functions that sign tokens for it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from openai import OpenAI

from local import tiny_model
from tests.local_aws.conftest import REGION, control
from tests.local_aws.services.sagemaker import test_sagemaker_endpoints as endpoints

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

MESSAGES: Any = [{"role": "user", "content": "Hey, what time do we leave?"}]
BEARER = {"Effect": "Allow", "Action": "sagemaker:CallWithBearerToken", "Resource": "*"}
HTML = """<img src="x" onerror="document.title='run'"> & <b>bold</b>"""
FOLDERS = {HTML: "html"}
# Speaks OpenAI's events: two pieces, the second a second after the first, then what its model's file says.
SERVER = """
import http.server, json, os, pathlib, sys, time
model = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model", "answer.txt").read_text()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self): self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def write(self, text):
        self.wfile.write(f"{len(text):x}\\r\\n{text}\\r\\n".encode()); self.wfile.flush()
    def event(self, text):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self.write(f"data: {json.dumps(chunk)}\\n\\n")
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.path, sorted(self.headers), asked.decode(), flush=True)
        if model == "empty":
            message = {"role": "assistant", "content": ""}
            return self.whole({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
        self.send_response(200); self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        if model.startswith("<"): self.event(model); self.finish_answer(); return
        self.event("one"); time.sleep(1); self.event(f" {time.time()}")
        if model == "dies": os._exit(1)
        if model == "cut": self.close_connection = True; return
        self.write("data: [DONE]\\n\\n"); self.write("")
    def finish_answer(self):
        self.write('data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
                   '"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\\n\\n')
        self.write("data: [DONE]\\n\\n"); self.write("")
    def whole(self, body):
        text = json.dumps(body).encode()
        self.send_response(200); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def prepare_account(aws: RunningAws, work: Path) -> str:
    """Fill the account with models: a tiny one, and the servers above. Return the role that serves them."""
    s3, server = aws.client("s3"), work / "server.py"
    s3.create_bucket(Bucket=endpoints.BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in tiny_model.ensure(work / "hub").iterdir():
        s3.put_object(Bucket=endpoints.BUCKET, Key=f"tiny/{path.name}", Body=path.read_bytes())
    for answer in ("slow", "cut", "dies", "empty", HTML):
        s3.put_object(Bucket=endpoints.BUCKET, Key=f"{FOLDERS.get(answer, answer)}/answer.txt", Body=answer.encode())
    server.write_text(SERVER)
    control(aws, "quotas", **{f"{endpoints.INSTANCE} for endpoint usage": 50})
    control(aws, "sagemaker", status_seconds=0.2, images={"little-server": ["python3", str(server), "{port}"]})
    return aws.role("serving", *endpoints.statements(), service="sagemaker")


def prepare_tiny(aws: RunningAws, name: str, role: str) -> None:
    """Make a model and a config of this name: local AWS's vLLM with the tiny model, and 10 minutes to start."""
    image = f"{endpoints.REGISTRY}/vllm:0.30.0-gpu-py312"
    endpoints.prepare(aws, name, role, "tiny", image=image, seconds=600, SM_VLLM_MAX_MODEL_LEN="256")


def serve_tiny(aws: RunningAws, name: str, role: str) -> None:
    """Bring up an endpoint of this name with the tiny model."""
    prepare_tiny(aws, name, role)
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert endpoints.wait(aws, name, seconds=600)["EndpointStatus"] == "InService"


def up_with_server(aws: RunningAws, server: str, role: str, name: str | None = None) -> None:
    """Bring up an endpoint of the server above: slow, cut, dies, empty or html. Its name is that of the server by default."""
    endpoints.serve(aws, name or server, role, server)


def invoke(*names: str) -> dict[str, Any]:
    """Return the statement that lets a role call these endpoints."""
    arns = [endpoints.arn("endpoint", name.lower()) for name in names]
    return {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": arns}


def token(
    keys: dict[str, str],
    *,
    host: str = "sagemaker.amazonaws.com",
    service: str = "sagemaker",
    region: str = REGION,
    action: str = "CallWithBearerToken",
    seconds: int = 900,
    version: str = "&Version=1",
    method: str = "POST",
) -> str:
    """Return a token that the Credentials of AssumeRole sign: a valid one, or one with a single change."""
    request = AWSRequest(method=method, url=f"https://{host}/", headers={"host": host}, params={"Action": action})
    signer = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys.get("SessionToken"))
    SigV4QueryAuth(signer, service, region, expires=seconds).add_auth(request)
    return coded(request.url.removeprefix("https://") + version)


def coded(url: str) -> str:
    return "sagemaker-api-key-" + base64.b64encode(url.encode()).decode()


def decoded(given: str) -> str:
    return base64.b64decode(given.removeprefix("sagemaker-api-key-")).decode()


def client(aws: RunningAws, name: str, given: str) -> OpenAI:
    """Return the unmodified OpenAI client with the address of an endpoint and a token."""
    return OpenAI(base_url=f"{aws.endpoint}/endpoints/{name}/openai/v1", api_key=given, max_retries=0)


def error(body: Any) -> tuple[str, str]:
    """Return the code and the message of an error's body, as the OpenAI client gives it."""
    found = body if "code" in body else json.loads(body)["error"]
    return found["code"], found["message"]
