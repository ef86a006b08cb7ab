"""Proves that the comparison of recordings finds differences, and no others: `python -m tests.proofs.planted`.

`make prove-account` runs it. The driver of the account lives once against local AWS, as if that were an account, through a
proxy that answers three calls otherwise. The recording is compared with docs/account/local.jsonl. Exactly the three differences
must be found, each with its row of local_aws/PARITY.md.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from account import compare
from local import as_account
from local.run import HOME

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_aws.session import LocalAws

PLANTED = {
    (
        "openai",
        "a request without a valid token",
        "outcome",
    ): "A request without a valid token, or without a permission",
    ("sagemaker", "DescribeTrainingJob", "TrainingStartTime"): "TrainingStartTime",
    ("sagemaker", "DescribeTrainingJob", "order: statuses of the training job"): "A reclaimed spot job",
}
"""Service, operation and subject of each difference that is planted -> the row of PARITY.md that it must name."""

HOPS = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}
"""Headers that belong to one connection, and not to the request."""


def plant(target: str, path: str, authorization: str, status: int, body: bytes) -> tuple[int, bytes]:
    """Return an answer of local AWS with the planted differences: another status, a missing member, a further status of a job.

    Args:
        target: the operation of a call in JSON.
        path: the path of the request.
        authorization: its credential.
        status: the status of the answer.
        body: the body of the answer.
    """
    if path.endswith("/openai/v1/chat/completions") and "not-a-token" in authorization:
        return 401, body
    if target.endswith(".DescribeTrainingJob") and status == 200:
        answer = json.loads(body)
        answer.pop("TrainingStartTime", None)
        transitions = answer.get("SecondaryStatusTransitions", [])
        names = [one["Status"] for one in transitions]
        if "Training" in names:
            at = names.index("Training")
            transitions.insert(at, {**transitions[at], "Status": "Interrupted"})
        return status, json.dumps(answer).encode()
    return status, body


class _Proxy(BaseHTTPRequestHandler):
    """Passes requests on to local AWS, and plants the differences into its answers."""

    protocol_version = "HTTP/1.1"
    port = 0

    def _pass_on(self) -> None:
        body = self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOPS}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            target, authorization = (self.headers.get(name, "") for name in ("X-Amz-Target", "Authorization"))
            status, content = plant(target, self.path, authorization, answer.status, answer.read())
            self.send_response_only(status)
            for name, value in answer.getheaders():
                if name.lower() not in HOPS:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _pass_on

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: Any) -> None:
        """Write no line for each request."""


def proxy(aws: LocalAws) -> str:
    """Start a proxy before local AWS, and return its address. It ends with this process."""
    handler = type("_ProxyOfOne", (_Proxy,), {"port": aws.port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def prove(record: Path, address: Callable[[LocalAws], str] = proxy) -> list[str]:
    """Live once through the proxy. Return a line for each difference that was not found, or should not be there."""
    began = time.time()
    code = as_account.live([], record, HOME / "planted", address)
    found = compare.show(record, as_account.RECORDING, None)
    print(f"{time.time() - began:.0f} s in all")
    problems = [f"the driver ended with the exit code {code}"] if code else []
    seen = {(one.service, one.operation, one.what): [row.what for row in one.rows] for one in found}
    for key, row in PLANTED.items():
        if row not in seen.get(key, []):
            problems.append(f"{' '.join(key)}: must name the row '{row}', and names {seen.get(key, 'nothing')}")
    problems += [f"{' '.join(key)}: nobody planted this difference" for key in seen.keys() - PLANTED.keys()]
    return problems


def main() -> None:
    """Prove it, and end with 1 if a difference was missed or invented."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        problems = prove(Path(folder) / "planted.jsonl")
    for problem in problems:
        print(f"Wrong: {problem}")
    print("Exactly the three planted differences were found" if not problems else f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
