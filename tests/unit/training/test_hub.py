"""The download of a base model from a small server that answers as the Hub does, and the secret's token."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from huggingface_hub import constants

from tests.unit.training.conftest import COMMIT as TINY_COMMIT
from tests.unit.training.conftest import NAME
from training import hub
from training.errors import TrainingError
from training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.training.conftest import TinyModel

RECIPE = Recipe(base_model="org/base")
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tuneway/hub-token-AbCdEf"
COMMIT = "f" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "original/consolidated.safetensors": b"again",
    "README.md": b"read",
}


@dataclass
class FakeHub:
    """How the server answers, and the tokens and downloads of the requests."""

    refusal: tuple[int, dict[str, str]] | None = None
    cut: bool = False
    tokens: set[str | None] = field(default_factory=set)
    downloaded: list[str] = field(default_factory=list)


@contextmanager
def serve(fake: FakeHub) -> Iterator[str]:
    class FakeHubHandler(BaseHTTPRequestHandler):
        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            fake.tokens.add(self.headers["Authorization"])
            path = self.path.split("?")[0]
            if fake.refusal:
                status, headers = fake.refusal
                return self._send(status, headers, b"{}")
            if "/resolve/" in path:
                name = path.split(f"/resolve/{COMMIT}/")[1]
                headers = {"ETag": f'"{len(FILES[name])}-{name}"', "X-Repo-Commit": COMMIT}
                if self.command == "HEAD":
                    return self._send(200, headers | {"Content-Length": str(len(FILES[name]))}, b"")
                fake.downloaded.append(name)
                if fake.cut:
                    return self._send(200, headers | {"Content-Length": str(10**6)}, FILES[name])
                return self._send(200, headers, FILES[name])
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": name, "size": len(body), "oid": f"{index:040x}"}
                    for index, (name, body) in enumerate(FILES.items())
                ]
                return self._send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())
            info = {"id": "org/base", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHubHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    fake = FakeHub()
    with serve(fake) as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield fake


def refusal(recipe: Recipe = RECIPE) -> str:
    with pytest.raises(TrainingError) as caught:
        hub.fetch_base_model(recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_configuration_and_weights_are_downloaded(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    folder = hub.fetch_base_model(RECIPE)
    assert sorted(fake_hub.downloaded) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert fake_hub.tokens == {None}  # only the token of the secret is ever sent


@pytest.mark.parametrize("revision", [None, "main", TINY_COMMIT])
def test_branch_and_commit_are_found_in_the_cache_offline(tiny: TinyModel, revision: str | None) -> None:
    assert hub.fetch_base_model(Recipe(base_model=NAME, base_revision=revision)) == tiny.folder
    with pytest.raises(TrainingError, match=r"org/base is not in the cache .* and HF_HUB_OFFLINE forbids a download"):
        hub.fetch_base_model(Recipe(base_model="org/base", base_revision=revision))


def test_a_model_channel_is_used_instead_of_the_hub(fake_hub: FakeHub, tmp_path: Path) -> None:
    channel = tmp_path / "model"
    assert hub.base_model(RECIPE, channel).name == COMMIT
    fake_hub.downloaded.clear()
    channel.mkdir()
    assert hub.base_model(RECIPE, channel) == channel
    assert fake_hub.downloaded == []


def test_the_secrets_token_is_sent(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "fetch_token", lambda secret: "hf_secret" if secret == SECRET else "")
    hub.fetch_base_model(replace(RECIPE, hub_token_secret=SECRET))
    assert fake_hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in "".join(capfd.readouterr())


GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model org/base is restricted."}
MISSING = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
EXPIRED = {"X-Error-Message": "Invalid credentials in Authorization header"}


@pytest.mark.parametrize(
    ("status", "headers", "token", "message"),
    [
        (401, GATED, None, "org/base is gated and no Hub token was given: accept its licence"),
        (403, GATED, "hf_x", "the Hub refused the token for org/base (403): accept the licence"),
        (401, EXPIRED, "hf_x", "the Hub refused the token for org/base (401)"),
        (401, MISSING, None, "org/base does not exist at http://127.0.0.1"),
        (404, MISSING, "hf_x", "org/base does not exist at http://127.0.0.1"),
        (404, {"X-Error-Code": "RevisionNotFound"}, None, "org/base has no revision v9"),
        (500, {}, None, "could not be reached for org/base"),
    ],
)
@pytest.mark.parametrize("revision", ["v9", COMMIT])
def test_every_refusal_is_one_line_with_its_remedy(
    fake_hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    headers: dict[str, str],
    token: str | None,
    message: str,
    revision: str,
) -> None:
    fake_hub.refusal = (status, headers)
    monkeypatch.setattr(hub, "fetch_token", lambda _: token)
    secret = SECRET if token else None
    line = refusal(replace(RECIPE, base_revision=revision, hub_token_secret=secret))
    assert message.replace("v9", revision) in line
    assert token is None or token not in line


def test_a_download_that_breaks_off_is_refused(fake_hub: FakeHub) -> None:
    fake_hub.cut = True
    assert "broke off" in refusal() or "could not be reached" in refusal()


def test_the_refusal_names_the_network_if_the_hub_does_not_answer(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens at the discard port
    assert "(no answer): check the job's network access" in refusal()


class FakeSecrets:
    """A stand-in for boto3's client of Secrets Manager."""

    def __init__(self, answer: dict[str, str] | Exception) -> None:
        self.answer = answer

    def get_secret_value(self, *, SecretId: str) -> dict[str, str]:
        assert SecretId == SECRET
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_token_is_the_secrets_text() -> None:
    assert hub.fetch_token(SECRET, FakeSecrets({"SecretString": " hf_abc\n"})) == "hf_abc"
    with pytest.raises(TrainingError, match="is empty"):
        hub.fetch_token(SECRET, FakeSecrets({"SecretString": ""}))
    for wrong in ('{"token": "hf_abc"}', "hf_abc\nhf_def", "hf_\u201cabc\u201d"):
        with pytest.raises(TrainingError, match="holds more than a token") as caught:
            hub.fetch_token(SECRET, FakeSecrets({"SecretString": wrong}))
        assert "abc" not in str(caught.value)
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetSecretValue")
    with pytest.raises(TrainingError, match="AccessDeniedException; check that the secret exists"):
        hub.fetch_token(SECRET, FakeSecrets(denied))
