"""A real S3 (MiniStack), which is started once for all tests of this folder, and events for the handler."""

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
from data_prep.row_formats import RowFormats
from pipeline.contracts import values as contracts
from pipeline.contracts.data import DataRequest, Fields
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
COLUMNS = RowFormats(Fields("dialogue", "summary"), "columns")
"""The format of two columns, whatever the first rows of a file are."""

AUTO = RowFormats(Fields("dialogue", "summary"))
"""All formats."""


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a client of our own S3. The environment is set so that the handler uses the same S3."""
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
    """Return an output folder that only this test uses."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid)
    return f"runs/{name[-80:]}/data/"


@pytest.fixture
def event(output: str) -> dict[str, Any]:
    """Return an event that fits the contract, for one uploaded CSV file and without Bedrock."""
    return make_event(output)


def make_event(
    output: str,
    source: str = f"s3://{BUCKET}/uploads/data.csv",
    files: Mapping[str, str | Sequence[str]] | None = None,
    **dataset: Any,
) -> dict[str, Any]:
    """Return an event that fits the contract. Its pieces are whole files without size and ETag, which `listed` adds."""
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


def prep_request(request: Mapping[str, Any]) -> PrepRequest:
    """Return an event's request in the form in which data prep uses it."""
    return resolve(contracts.parse(DataRequest, request))


def hub_event(output: str, hub: HubServer, files: Mapping[str, bytes], **dataset: Any) -> dict[str, Any]:
    """Return an event for a Hub dataset, and put its files on the Hub. The part of a name before its first dot is the split."""
    for name, body in files.items():
        hub.answers[HUB_PATH + name] = [HubAnswer(body=body)]
    names = {name.partition(".")[0]: name for name in files}
    event = make_event(output, "hub:own/set", names, revision="abc", **dataset)
    for piece in event["pieces"]:
        size = len(files[piece["file"]])
        piece |= {"bytes": size, "etag": None, "start": 0, "end": size}
    return event


def listed(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with sizes and ETags of its files as S3 has them now. In a run, Plan does this."""
    bucket = event["request"]["dataset"]["source"].removeprefix("s3://").partition("/")[0]
    pieces = []
    for piece in event["pieces"]:
        if "bytes" not in piece:
            size, etag = 0, None
            with suppress(ClientError):  # some tests need a file that does not exist
                found = handler_module._client("s3").head_object(Bucket=bucket, Key=piece["file"])
                size, etag = found["ContentLength"], found["ETag"]
            pieces.append({**piece, "bytes": size, "etag": etag, "start": 0, "end": size})
        else:
            pieces.append(piece)
    return {**event, "pieces": pieces}


def with_bedrock(event: dict[str, Any], base_model: str = LLAMA, max_records: int = 3000) -> dict[str, Any]:
    """Return the event with a request for Bedrock's files, too."""
    bedrock = {"base_model": base_model, "max_records": max_records}
    return {**event, "request": {**event["request"], "bedrock": bedrock}}


def csv_bytes(rows: Sequence[Sequence[str]], header: Sequence[str] = ("id", "dialogue", "summary")) -> bytes:
    """Return a CSV file as Python's csv module writes it, with CRLF between rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def dialogues(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    """Return `count` different rows of id, dialogue and summary."""
    return [
        (str(n), f"Ann: Is number {n} free?\r\nBob: Sure 😀", f"Bob tells Ann that {n} is free.")
        for n in range(start, start + count)
    ]


@pytest.fixture
def put(s3: Any) -> Callable[[str, bytes], None]:
    """Return a function that puts an object into the test bucket."""

    def put_object(key: str, body: bytes) -> None:
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    return put_object


@pytest.fixture
def get(s3: Any) -> Callable[[str], bytes]:
    """Return a function that reads an object of the test bucket."""

    def get_object(key: str) -> bytes:
        body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    return get_object


def records(data: bytes) -> list[Any]:
    """Return the values of JSON Lines."""
    return [orjson.loads(line) for line in data.splitlines()]


def keys(s3: Any, prefix: str) -> set[str]:
    """Return the names of the objects under `prefix`, without the prefix."""
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {item["Key"].removeprefix(prefix) for item in listed}


def refusal(event: dict[str, Any]) -> str:
    """Return the line with which the handler refuses the event."""
    answer = handler_module.handler(listed(event), None)
    assert list(answer) == ["refused"], answer
    line: str = answer["refused"]
    assert "\n" not in line
    return line


def prepared(event: dict[str, Any]) -> dict[str, Any]:
    """Return the handler's answer. The test fails if the handler refuses the event."""
    answer = handler_module.handler(listed(event), None)
    assert answer["refused"] is None, answer
    return answer


@pytest.fixture
def small(event: dict[str, Any], put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """Return an event of one JSON Lines file of 300 rows, some of them unfit."""
    put("uploads/small.jsonl", as_jsonl(some_rows(300)))
    event["request"]["dataset"]["source"] = f"s3://{BUCKET}/uploads/small.jsonl"
    return listed({**event, "pieces": [{"file": "uploads/small.jsonl", "split": "train"}]})
