"""A small Hub: the models of a Hub cache over the Hub's own HTTP routes, on local AWS's own port or on a thread.

The routes are those of huggingface_hub's `model_info` (with `files_metadata`) and `hf_hub_url`. On the thread each path may
also have a script of answers, one a request, the last one repeating: what tests say of datasets, and of a Hub in trouble.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from local_aws.core.registry import CONTROL, Request, Response, register_control

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


PREFIX = f"{CONTROL}hub"
"""What the routes begin with on local AWS's own port."""
_ABOUT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>[^/?]+)(\?.*)?")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>[^/?]+)")


@dataclass
class Answer:
    """What one request gets.

    `cut` closes the connection after that many body bytes; `headers` replace those made from the body.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True


def answer(cache: Path, path: str, asked: str | None) -> Answer:
    """What the Hub would answer to a GET, for the models in a Hub cache.

    Args:
        cache: the folder that HF_HUB_CACHE would name.
        path: with the query.
        asked: the Range header.
    """
    found = _ABOUT.fullmatch(path) or _FILE.fullmatch(path)
    if not found:
        return Answer(404)
    home = cache / f"models--{found['repo'].replace('/', '--')}"
    revision = unquote(found["revision"])
    reference = home / "refs" / revision
    commit = reference.read_text() if reference.is_file() else revision
    folder = home / "snapshots" / commit
    if not folder.is_dir():
        return Answer(404, headers={"X-Error-Code": "RevisionNotFound" if home.is_dir() else "RepoNotFound"})
    if found.re is _ABOUT:
        siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in sorted(folder.iterdir())]
        told: dict[str, object] = {
            "id": found["repo"],
            "sha": commit,
            "gated": False,
            "cardData": {},
            "siblings": siblings,
        }
        return Answer(body=json.dumps(told).encode())
    file = folder / unquote(found["name"])
    if not file.is_file():
        return Answer(404, headers={"X-Error-Code": "EntryNotFound"})
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
    start, last = (int(span[1]), span[2]) if span else (0, "")
    with file.open("rb") as handle:
        handle.seek(start)
        part = handle.read(int(last) + 1 - start if last else -1)
    where = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{file.stat().st_size}"}
    return Answer(206 if span else 200, part, where if span else {})


def register(state_dir: Path, _endpoint_url: str) -> None:
    """Let local AWS's own port answer for the models of its Hub cache, which access.hub_endpoint then names."""
    cache = state_dir / "hub"

    def handle(request: Request) -> Response:
        found = answer(cache, request.path.removeprefix(PREFIX), request.headers.get("range"))
        return Response(found.status, found.headers, found.body)

    register_control("hub", handle)


@dataclass
class Seen:
    """A request as the server got it."""

    path: str
    authorization: str | None
    range: str | None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of these tests; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class HubServer:
    """`with HubServer() as hub: hub.answers["/path"] = [Answer(...)]`; what has no such answer is of the cache."""

    def __init__(self, cache: Path | None = None) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.seen.append(Seen(self.path, self.headers["Authorization"], self.headers["Range"]))
                nothing = answer(cache, self.path, self.headers["Range"]) if cache else Answer(404)
                script = hub.answers.get(self.path, [nothing])
                self._send(script.pop(0) if len(script) > 1 else script[0])

            def _send(self, answer: Answer) -> None:
                status, body, headers = answer.status, answer.body, {}
                asked = self.headers["Range"]
                if status == 200 and asked and answer.ranges:
                    start, _, last = asked.removeprefix("bytes=").partition("-")
                    part = body[int(start) : int(last) + 1 if last else None]
                    headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(body)}"
                    status, body = 206, part
                headers["Content-Length"] = str(len(body))
                headers |= answer.headers
                self.send_response(status)
                for name, value in headers.items():
                    if value:
                        self.send_header(name, value)
                if not headers["Content-Length"] and "Transfer-Encoding" not in headers:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body[: answer.cut])
                if answer.cut is not None or not headers["Content-Length"]:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test output clean."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
