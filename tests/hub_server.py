"""A Hub on a thread, which serves the models of a Hub cache, and the answers that a test sets for a path.

A path has a list of answers, one per request. The last one repeats. Tests use such lists for datasets, and for failures.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from local_aws.services.hub_server import answer

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


@dataclass
class HubAnswer:
    """The answer to one request.

    Attributes:
        status: the HTTP status.
        body: the whole body, of which a Range takes a part.
        headers: headers that replace those made from the body. An empty text removes a header.
        cut: the number of body bytes after which the connection is closed.
        ranges: whether the server respects Range.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True


def from_cache(cache: Path, path: str, byte_range: str | None) -> HubAnswer:
    """Return the answer of local AWS's Hub. `byte_range` is the header Range."""
    found = answer(cache, path, byte_range)
    assert isinstance(found.body, bytes)
    return HubAnswer(found.status, found.body, found.headers)


@dataclass
class HubRequest:
    """A request that the server got."""

    path: str
    authorization: str | None
    range: str | None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closes the connection, which is part of these tests. Show any other error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class HubServer:
    """`with HubServer() as hub: hub.answers["/path"] = [HubAnswer(...)]`. Other paths are served from the cache."""

    def __init__(self, cache: Path | None = None) -> None:
        self.answers: dict[str, list[HubAnswer]] = {}
        self.seen: list[HubRequest] = []
        hub = self

        class HubHandler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.seen.append(HubRequest(self.path, self.headers["Authorization"], self.headers["Range"]))
                default = from_cache(cache, self.path, self.headers["Range"]) if cache else HubAnswer(404)
                answers = hub.answers.get(self.path, [default])
                self._send(answers.pop(0) if len(answers) > 1 else answers[0])

            def _send(self, answer: HubAnswer) -> None:
                status, body, headers = answer.status, answer.body, {}
                byte_range = self.headers["Range"]
                if status == 200 and byte_range and answer.ranges:
                    start, _, last = byte_range.removeprefix("bytes=").partition("-")
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

        self._server = _Server(("127.0.0.1", 0), HubHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The value for HF_ENDPOINT."""
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
