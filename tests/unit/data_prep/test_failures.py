"""A failure in the middle of a run leaves no object and no open upload, and an output with other content is detected."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from data_prep import outputs as outputs_module
from data_prep.errors import ReadBackError
from data_prep.handler import _client, handler, shard
from data_prep.sources import DatasetFiles
from pipeline.aws import AwsBusy
from pipeline.errors import SourceUnavailable
from tests.unit.data_prep.conftest import BUCKET, csv_bytes, dialogues, keys, listed
from tests.unit.data_prep.test_refusals import failing
from training.messages import BadRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_prep.row_formats import Row
    from pipeline.contracts.data import Piece

ROWS = [(str(n), f"A: {n} " + "x" * 20_000, "s") for n in range(900)]
"""18 MB of rows. The train split is uploaded in three parts and a rest: S3 accepts a part below 5 MiB only as the last."""


@pytest.fixture
def large(event: dict[str, Any], put: Callable[[str, bytes], None]) -> dict[str, Any]:
    """Return an event whose train split is uploaded in parts."""
    put("uploads/data.csv", csv_bytes(ROWS))
    event["request"]["dataset"]["ratios"] = {"validation": 0.05, "test": 0.05}
    return listed(event)


@contextmanager
def before(operation: str, act: Callable[[dict[str, Any]], None]) -> Iterator[list[dict[str, Any]]]:
    """Call `act` with the parameters of each call of an S3 operation. Yield the list of the parameters."""
    called: list[dict[str, Any]] = []

    def run(params: dict[str, Any], **rest: object) -> None:
        called.append(params)
        act(params)

    events, name = _client("s3").meta.events, f"provide-client-params.s3.{operation}"
    events.register(name, run)
    try:
        yield called
    finally:
        events.unregister(name, run)


def assert_empty(s3: Any, folder: str) -> None:
    assert keys(s3, folder) == set()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyboardInterrupt("stop")])
def test_a_part_that_cannot_be_sent_leaves_nothing(
    s3: Any, large: dict[str, Any], output: str, number: int, error: BaseException
) -> None:
    def fail(params: dict[str, Any]) -> None:
        if params["PartNumber"] == number:
            raise error

    with before("UploadPart", fail) as called, pytest.raises(type(error)):
        handler(large, None)
    assert [params["PartNumber"] for params in called][-1] == number
    assert_empty(s3, output)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
def test_an_upload_that_aws_refuses_leaves_no_object_and_no_parts(
    s3: Any, large: dict[str, Any], output: str, operation: str
) -> None:
    # The smaller splits may be complete by then, but nobody reads them without a manifest.
    with failing(operation, "SlowDown"), pytest.raises(AwsBusy, match="SlowDown"):
        handler(large, None)
    assert not keys(s3, output) & {"train/train.jsonl", "manifest.json"}
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


@pytest.mark.parametrize("error", [SourceUnavailable("gone"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("entry", ["all", "shard"])
def test_a_source_that_fails_in_the_middle_leaves_nothing(
    s3: Any,
    large: dict[str, Any],
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    entry: str,
) -> None:
    whole = DatasetFiles.rows

    def half(source: DatasetFiles, piece: Piece) -> Iterator[Row]:
        for number, row in enumerate(whole(source, piece)):
            if number == 700:
                raise error
            yield row

    monkeypatch.setattr(DatasetFiles, "rows", half)
    with before("UploadPart", lambda params: None) as called, pytest.raises(type(error)):
        if entry == "all":
            handler(large, None)
        else:
            shard({"request": large["request"], "shard": {"number": 0, "name": "a", "pieces": large["pieces"]}}, None)
    assert called, "at least one part was sent before"
    assert_empty(s3, output)
    assert_empty(s3, f"shards/{output}")


def test_a_failed_abort_does_not_hide_its_cause(
    s3: Any, large: dict[str, Any], output: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(params: dict[str, Any]) -> None:
        if params["PartNumber"] == 2:
            raise ConnectionError("gone")

    with (
        before("UploadPart", fail),
        failing("AbortMultipartUpload", "InternalError"),
        pytest.raises(ConnectionError, match="gone"),
    ):
        handler(large, None)
    assert "could not abort the upload" in caplog.text
    for upload in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]:
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def test_a_failure_at_the_manifest_leaves_no_manifest(
    s3: Any, event: dict[str, Any], output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    with failing("PutObject", "InternalError", "manifest.json"), pytest.raises(AwsBusy):
        handler(listed(event), None)
    assert "manifest.json" not in keys(s3, output)
    assert handler(listed(event), None)["refused"] is None, "a later try succeeds"


@pytest.mark.parametrize("body", [b"", b"x" * 30, None])
def test_an_output_with_other_content_than_was_written_is_an_error(
    s3: Any,
    event: dict[str, Any],
    output: str,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
    monkeypatch: pytest.MonkeyPatch,
    body: bytes | None,
) -> None:
    put("uploads/data.csv", csv_bytes(dialogues(100)))
    read_back = outputs_module.Outputs._read_back_chat

    def tampered(outputs: Any) -> None:
        # None stands for valid lines, but of another file.
        put(output + "test/test.jsonl", get(output + "train/train.jsonl") if body is None else body)
        read_back(outputs)

    monkeypatch.setattr(outputs_module.Outputs, "_read_back_chat", tampered)
    with pytest.raises((ReadBackError, BadRecord)):
        handler(listed(event), None)
    assert "manifest.json" not in keys(s3, output)
