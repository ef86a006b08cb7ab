"""A small Hub: the models of a Hub cache over the Hub's own HTTP routes, on local AWS's port.

The routes are those of huggingface_hub's `model_info` (with `files_metadata`) and `hf_hub_url`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from local_aws.core.registry import CONTROL, Request, Response, register_control

if TYPE_CHECKING:
    from pathlib import Path


PREFIX = f"{CONTROL}hub"
"""The prefix of the routes on local AWS's own port."""
_ABOUT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>[^/?]+)(\?.*)?")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>[^/?]+)")


def answer(cache: Path, path: str, byte_range: str | None) -> Response:
    """Return the Hub's answer to a GET of a path with its query. `cache` is the cache's folder, `byte_range` the header."""
    found = _ABOUT.fullmatch(path) or _FILE.fullmatch(path)
    if not found:
        return Response(404)
    home = cache / f"models--{found['repo'].replace('/', '--')}"
    revision = unquote(found["revision"])
    reference = home / "refs" / revision
    commit = reference.read_text() if reference.is_file() else revision
    folder = home / "snapshots" / commit
    if not folder.is_dir():
        return Response(404, headers={"X-Error-Code": "RevisionNotFound" if home.is_dir() else "RepoNotFound"})
    if found.re is _ABOUT:
        siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in sorted(folder.iterdir())]
        info = json.dumps({"id": found["repo"], "sha": commit, "gated": False, "cardData": {}, "siblings": siblings})
        return Response(200, body=info.encode())
    file = folder / unquote(found["name"])
    if not file.is_file():
        return Response(404, headers={"X-Error-Code": "EntryNotFound"})
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", byte_range or "")
    start, last = (int(span[1]), span[2]) if span else (0, "")
    with file.open("rb") as handle:
        handle.seek(start)
        part = handle.read(int(last) + 1 - start if last else -1)
    where = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{file.stat().st_size}"}
    return Response(206 if span else 200, where if span else {}, part)


def register(state_dir: Path, _endpoint_url: str) -> None:
    """Serve the models of the Hub cache on local AWS's own port, to which access.hub_endpoint then points."""
    cache = state_dir / "hub"

    def handle(request: Request) -> Response:
        return answer(cache, request.path.removeprefix(PREFIX), request.headers.get("range"))

    register_control("hub", handle)
