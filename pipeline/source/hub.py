"""Reads a Hugging Face dataset or model over HTTPS at a revision: the list of its files, and each file."""

from __future__ import annotations

import re
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from botocore.exceptions import ClientError

from pipeline.errors import Refused
from pipeline.source.stream import BUFFER_BYTES, Body, Interrupted, Opened

if TYPE_CHECKING:
    from email.message import Message
    from http.client import HTTPMessage
    from typing import IO

TIMEOUT_SECONDS = 30
INTERRUPTIONS: tuple[type[Exception], ...] = (OSError, HTTPException)
_PARTIAL_CONTENT, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 206, 401, 403, 404
_REQUEST_TIMEOUT, _RANGE_NOT_SATISFIABLE, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 416, 429, 500


class Kind(NamedTuple):
    """A kind of repository: its part of the Hub's addresses, and its settings for the lines to the user.

    Attributes:
        name: `dataset` or `model`.
        api: the kind in the API's addresses.
        folder: the text before OWNER/NAME in the addresses of its pages and files.
        field: the setting that names the repository.
        prefix: the text before OWNER/NAME in that setting.
        section: the section of that setting.
        revision: the setting of the revision.
        files: the remedy if the repository does not have the file.
    """

    name: str
    api: str
    folder: str
    field: str
    prefix: str
    section: str
    revision: str
    files: str


DATASET = Kind(
    name="dataset",
    api="datasets",
    folder="datasets/",
    field="dataset.source",
    prefix="hub:",
    section="dataset",
    revision="dataset.revision",
    files="set dataset.files to names that {page} lists",
)
MODEL = Kind(
    name="model",
    api="models",
    folder="",
    field="training.base_model",
    prefix="",
    section="training",
    revision="training.base_revision",
    files="it was removed while Plan read the model; start a new execution",
)


class HubFile(NamedTuple):
    """One file of a repository.

    Attributes:
        endpoint: HF_ENDPOINT: `https://huggingface.co` or a mirror.
        repo: `OWNER/NAME`.
        revision: the commit, or a branch or tag.
        path: the file's path in the repository. Empty for the repository itself.
        token: the Hub token, or None.
        kind: the kind of the repository.
    """

    endpoint: str
    repo: str
    revision: str
    path: str
    token: str | None
    kind: Kind = DATASET

    @property
    def url(self) -> str:
        """The address of the file (huggingface_hub's `hf_hub_url`), or of the repository's description (`repo_info`)."""
        endpoint, revision = self.endpoint.rstrip("/"), quote(self.revision, safe="")
        if not self.path:
            return f"{endpoint}/api/{self.kind.api}/{self.repo}/revision/{revision}?blobs=true"
        return f"{endpoint}/{self.kind.folder}{self.repo}/resolve/{revision}/{quote(self.path)}"

    @property
    def page(self) -> str:
        """The address of the page on which a person reads about the repository, and accepts its terms."""
        return f"{self.endpoint.rstrip('/')}/{self.kind.folder}{self.repo}"

    def open_at(self, offset: int, stop: int | None = None) -> Opened:
        """Request the file (or the repository's description) from byte `offset` to before `stop`, or to its end.

        Raises:
            Refused: the token, the repository, the revision or the file is wrong (401, 403, 404, other 4xx).
            Interrupted: a failure that may pass (408, 429, 5xx, no connection, an answer of the wrong length).
        """
        request = Request(self.url, headers={"User-Agent": "tuneway"})
        if offset or stop is not None:
            request.add_header("Range", f"bytes={offset}-{'' if stop is None else stop - 1}")
        if self.token:
            # An "unredirected" header, because urllib copies ordinary headers to any host that it is redirected to.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        redirects = _Redirects()
        try:
            response: HTTPResponse = build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            error.close()
            self._fail(error.code, error.headers)
        except INTERRUPTIONS as error:
            host = urlsplit(self.endpoint).netloc
            raise Interrupted(f"{host} cannot be reached ({getattr(error, 'reason', None) or error!r})") from error
        try:
            opened = self._opened(response, offset, redirects.linked)
            return opened if stop is None else Opened(_Part(opened.body, stop - offset), stop)
        except BaseException:
            response.close()
            raise

    def _opened(self, response: HTTPResponse, offset: int, linked: Linked) -> Opened:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Interrupted("the server compressed the file, although the request did not allow it")
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdecimal() else None
        if response.status == _PARTIAL_CONTENT:
            span = re.fullmatch(rf"bytes {offset}-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not span:
                raise Interrupted(f"the request was for bytes from {offset} on, and the server sent other bytes")
            total = int(span[1])
        elif total is None and not response.chunked:
            raise Interrupted("the server states no length, so a lost connection would look like the end of the file")
        else:
            _skip(response, offset)
        if linked.size is not None and total not in (None, linked.size):
            raise Interrupted(f"the server offers {total} bytes, but the file has {linked.size}")
        return Opened(response, linked.size if total is None else total, linked.sha256)

    def _fail(self, status: int, headers: Message) -> NoReturn:
        """Raise the line for an HTTP error. X-Error-Code is the Hub's own word for the error (huggingface_hub)."""
        if status in (_REQUEST_TIMEOUT, _RANGE_NOT_SATISFIABLE, _TOO_MANY_REQUESTS) or status >= _SERVER_ERROR:
            wait = headers.get("Retry-After", "")
            raise Interrupted(f"the Hub answered {status}", float(wait) if wait.isdecimal() else None)
        kind, page = self.kind, self.page
        where = f"{kind.field}: {kind.prefix}{self.repo}"
        if status == _UNAUTHORIZED and self.token:
            raise Refused(
                f"{where}: the Hub refused the token (401); put a valid one into the secret, and check that {page} exists"
            )
        if status == _UNAUTHORIZED:
            raise Refused(
                f"{where}: the Hub requires a token (401): the {kind.name} is gated or private, or does not exist; "
                f"check {page}, accept its terms there and set {kind.section}.gated to true (docs/deploy.md: The Hub token)"
            )
        if status == _FORBIDDEN:
            raise Refused(
                f"{where}: this token may not read it (403); accept the terms at {page} with the token's "
                "account, and let a fine-grained token read gated repositories"
            )
        if status == _NOT_FOUND:
            no_repo = f"there is no such {kind.name} (404); check the name at {page}"
            no_file = (
                f"it has no file '{self.path}' at revision '{self.revision}' (404); {kind.files.format(page=page)}"
            )
            line = {
                "RepoNotFound": no_repo,
                "RevisionNotFound": f"it has no revision '{self.revision}' (404); "
                f"set {kind.revision} to a commit of {page}",
            }.get(headers.get("X-Error-Code", ""), no_file if self.path else no_repo)
            raise Refused(f"{where}: {line}")
        raise Refused(f"{where}: the Hub answered {status}; open {self.url} in a browser to see why")


def licence(description: dict[str, Any]) -> str | None:
    """Return the licence in a repository's description: its id, or its name if the Hub has no id for it."""
    card = description.get("cardData") or {}
    name = card.get("license_name") if card.get("license") == "other" else None
    found = name or card.get("license")
    return ", ".join(map(str, found)) if isinstance(found, list) else found and str(found)


def hub_token(secrets: Any, arn: str) -> str:
    """Return the Hub token from Secrets Manager.

    Raises:
        Refused: the secret does not exist, or does not hold a token.
    """
    try:
        token: str = secrets.get_secret_value(SecretId=arn).get("SecretString", "").strip()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise Refused(f"access.hub_token_secret: there is no secret {arn}; create it with the Hub token") from error
        raise
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise Refused(
            f"access.hub_token_secret: the secret {arn} holds no Hub token; store the token alone, as plain text"
        )
    return token


class Linked(NamedTuple):
    """The size and the SHA-256 that the Hub states when it redirects to a large file on another host."""

    size: int | None = None
    sha256: str | None = None


class _Part:
    """The first bytes of a body. The body may be longer, if the server ignores Range."""

    def __init__(self, body: Body, length: int) -> None:
        self._body, self._remaining = body, length

    def read(self, amount: int, /) -> bytes:
        data = self._body.read(min(amount, self._remaining))
        self._remaining -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


class _Redirects(HTTPRedirectHandler):
    """Follows redirects. It sends the token only within one origin, and never leaves https."""

    def __init__(self) -> None:
        self.linked = Linked()

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ({"https"} if old.scheme == "https" else {"http", "https"}):
            raise Refused(
                f"{req.full_url}: the server redirects from {old.scheme} to {new.scheme}; check access.hub_endpoint"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if request is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        # huggingface_hub's get_hf_file_metadata reads the same two headers. The ETag of a large file is its SHA-256.
        size, etag = headers.get("X-Linked-Size", ""), headers.get("X-Linked-Etag", "").strip('"')
        if size.isdecimal():
            self.linked = Linked(int(size), etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None)
        return request


def _skip(response: HTTPResponse, count: int) -> None:
    """Skip the bytes that an earlier response has delivered, if the server ignores Range."""
    while count:
        data = response.read(min(count, BUFFER_BYTES))
        if not data:
            raise Interrupted("the connection ended before the point reached earlier")
        count -= len(data)
