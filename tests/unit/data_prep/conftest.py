"""Real S3 (MiniStack) for the whole package, started once, and events for the handler."""

from __future__ import annotations

import csv
import io
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import botocore.session
import orjson
import pytest
from botocore.exceptions import ClientError

from data_prep import handler as handler_module
from data_prep.request import resolve
from pipeline.contracts import values as contracts
from pipeline.contracts.data import DataRequest
from tests.hub_server import HubAnswer, HubServer
from tests.unit.data_prep.dirty import as_jsonl, some_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from data_prep.request import PrepRequest

BUCKET = "data-prep-tests"
LLAMA = "meta.llama3-3-70b-instruct-v1:0:128k"
NOVA = "amazon.nova-micro-v1:0:128k"
INSTRUCTION = "Summarize the dialogue."
HUB_PATH = "/datasets/own/set/resolve/abc/"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an S3 of our own, with the environment set so that the handler finds the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("ministack")
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "PERSIST_STATE": "0",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.environ["PATH"],
    }
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=settings, stdout=log, stderr=log, cwd=home
        ) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            for name, value in {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-west-2",
            }.items():
                patch.setenv(name, value)
            _wait_until_up(port, process, home / "log")
            client = botocore.session.get_session().create_client("s3")
            client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
            handler_module._client.cache_clear()
            yield client
        finally:
            process.terminate()
            handler_module._client.cache_clear()


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MiniStack did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)


@pytest.fixture
def output(request: pytest.FixtureRequest) -> str:
    """A folder of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid)
    return f"runs/{name[-80:]}/data/"


@pytest.fixture
def event(output: str) -> dict[str, Any]:
    """An event of the contract, for one uploaded CSV file and without Bedrock."""
    return make_event(output)


def make_event(
    output: str,
    source: str = f"s3://{BUCKET}/uploads/data.csv",
    files: Mapping[str, str | Sequence[str]] | None = None,
    **dataset: Any,
) -> dict[str, Any]:
    """An event of the contract. Its pieces are whole files, not yet looked up in S3: see `listed`."""
    files = files or {"train": source.removeprefix(f"s3://{BUCKET}/")}
    defaults = {
        "source": source,
        "revision": None,
        "splits": sorted(files),
        "fields": {"dialogue": "dialogue", "summary": "summary"},
        "csv": {"separator": None, "encoding": None},
        "max_rows": {"train": None, "validation": None, "test": None},
        "ratios": {"validation": 0.2, "test": 0.2},
        "max_rejected_share": 1.0,
        "instruction": INSTRUCTION,
        "seed": 42,
    }
    named = {split: [names] if isinstance(names, str) else names for split, names in files.items()}
    return {
        "request": {
            "dataset": deepcopy(defaults | dataset),
            "output": f"s3://{BUCKET}/{output}",
            "work": f"s3://{BUCKET}/shards/{output}",
            "max_tokens": 10_000,
            "bedrock": None,
            "hub_token_secret": None,
        },
        "pieces": [
            {"file": name, "split": split}
            for split in ("test", "validation", "train")
            for name in sorted(named.get(split, []))
        ],
    }


def resolved(request: Mapping[str, Any]) -> PrepRequest:
    """An event's request as data prep works with it."""
    return resolve(contracts.parse(DataRequest, request))


def hub_event(output: str, hub: HubServer, files: Mapping[str, bytes], **dataset: Any) -> dict[str, Any]:
    """An event for a Hub dataset, whose Hub has these files: a file is named after its split."""
    for name, body in files.items():
        hub.answers[HUB_PATH + name] = [HubAnswer(body=body)]
    names = {name.partition(".")[0]: name for name in files}
    event = make_event(output, "hub:own/set", names, revision="abc", **dataset)
    for piece in event["pieces"]:
        size = len(files[piece["file"]])
        piece |= {"bytes": size, "etag": None, "start": 0, "end": size}
    return event


def listed(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with its files as S3 has them now, which is Plan's part of the work."""
    bucket = event["request"]["dataset"]["source"].removeprefix("s3://").partition("/")[0]
    pieces = []
    for piece in event["pieces"]:
        if "bytes" not in piece:
            size, etag = 0, None
            with suppress(ClientError):  # a file that is not there is what some tests are about
                found = handler_module._client("s3").head_object(Bucket=bucket, Key=piece["file"])
                size, etag = found["ContentLength"], found["ETag"]
            pieces.append({**piece, "bytes": size, "etag": etag, "start": 0, "end": size})
        else:
            pieces.append(piece)
    return {**event, "pieces": pieces}


def with_bedrock(event: dict[str, Any], base_model: str = LLAMA, max_records: int = 3000) -> dict[str, Any]:
    """The event with Bedrock's files asked for as well."""
    bedrock = {"base_model": base_model, "max_records": max_records}
    return {**event, "request": {**event["request"], "bedrock": bedrock}}


def csv_bytes(rows: Sequence[Sequence[str]], header: Sequence[str] = ("id", "dialogue", "summary")) -> bytes:
    """A CSV file as Python's csv module writes it: CRLF between rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def dialogues(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    """`count` different rows of id, dialogue, summary."""
    return [
        (str(n), f"Ann: Is number {n} free?\r\nBob: Sure 😀", f"Bob tells Ann that {n} is free.")
        for n in range(start, start + count)
    ]


@pytest.fixture
def put(s3: Any) -> Callable[[str, bytes], None]:
    """Put an object into the test bucket."""

    def put_object(key: str, body: bytes) -> None:
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    return put_object


@pytest.fixture
def get(s3: Any) -> Callable[[str], bytes]:
    """Read an object of the test bucket."""

    def get_object(key: str) -> bytes:
        body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    return get_object


def records(data: bytes) -> list[Any]:
    """JSON Lines as values."""
    return [orjson.loads(line) for line in data.splitlines()]


def keys(s3: Any, prefix: str) -> set[str]:
    """Names of the objects under `prefix`."""
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {item["Key"].removeprefix(prefix) for item in listed}


def refused(event: dict[str, Any]) -> str:
    """The line with which the handler refuses the event."""
    answer = handler_module.handler(listed(event), None)
    assert list(answer) == ["refused"], answer
    line: str = answer["refused"]
    assert "\n" not in line
    return line


def prepared(event: dict[str, Any]) -> dict[str, Any]:
    """The answer of the handler, which must not refuse the event."""
    answer = handler_module.handler(listed(event), None)
    assert answer["refused"] is None, answer
    return answer


@pytest.fixture
def small(event: dict[str, Any], put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """An event of one JSON Lines file of 300 rows, some of them unfit."""
    put("uploads/small.jsonl", as_jsonl(some_rows(300)))
    event["request"]["dataset"]["source"] = f"s3://{BUCKET}/uploads/small.jsonl"
    return listed({**event, "pieces": [{"file": "uploads/small.jsonl", "split": "train"}]})
