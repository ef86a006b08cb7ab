"""The benchmark of data prep: its rows, the folder that stands in for S3, its runs and its last line."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from bench import data, data_rows
from data_prep.disk_s3 import DiskS3
from tests.unit.data_prep.conftest import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 1400  # each kind of bad row, twice
TENTH = 500
INSTRUCTION = "Summarize the dialogue."


def test_rows_are_the_same_every_time_and_differ_from_each_other() -> None:
    made = list(data_rows.rows(ROWS))
    assert list(data_rows.rows(ROWS // 2)) == made[: ROWS // 2]
    clean = [row for row in made if row.dirt is None]
    assert len(clean) == ROWS * 99 // 100
    assert len({row.dialogue for row in clean}) == len({row.summary for row in clean}) == len(clean)
    assert all("\r\n" in (row.dialogue or "") for row in clean)
    assert 450 < sum(len(row.dialogue or "") for row in clean) / len(clean) < 550
    assert 100 < sum(len(row.summary) for row in clean) / len(clean) < 120
    assert [row.dirt for row in made if row.dirt] == [*data_rows.DIRT] * 2


def test_the_three_files_have_the_same_rows_and_are_written_once(tmp_path: Path) -> None:
    folder, plan = data_rows.ensure(tmp_path, ROWS)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert data_rows.ensure(tmp_path, ROWS) == (folder, plan)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert b"\xff" in (folder / "rows.csv").read_bytes()
    assert b"\xff" in (folder / "rows.jsonl").read_bytes()

    with (folder / "rows.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = list(csv.DictReader(stream))
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    parquet = pq.ParquetFile(folder / "rows.parquet").read().to_pylist()
    rows = [{"id": row.id, "dialogue": row.dialogue, "summary": row.summary} for row in data_rows.rows(ROWS)]
    assert [json.loads(line) for line in lines] == rows
    assert table == [{**row, "dialogue": row["dialogue"] or ""} for row in rows]
    assert parquet == [
        {**row, "dialogue": row["dialogue"] and row["dialogue"].replace("\udcff", "\x07")} for row in rows
    ]
    assert plan["rejected"]["csv"] == {
        "dialogue is empty": 2,
        "summary is empty": 2,
        "dialogue is blank": 2,
        "control character U+0007": 2,
        "broken UTF-8 or a lone surrogate": 2,
        "duplicate of an accepted row": 2,
        "longer than 512 tokens (estimated)": 2,
    }
    assert plan["rejected"]["parquet"]["control character U+0007"] == 4


def _outcome(call: Callable[..., Any], **arguments: Any) -> Any:
    """Return the parts of an answer that data prep reads, or the error's code and status."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if "Body" in answer:
        body = answer["Body"]
        answer["Body"] = [body.read(3), body.read(), body.read(3)]
        body.close()
    contents = [{name: item[name] for name in ("Key", "Size")} for item in answer.get("Contents", [])]
    parts = {name: answer[name] for name in ("Body", "ContentLength", "KeyCount", "IsTruncated") if name in answer}
    return parts | {"Contents": contents}


def _outcomes(s3: Any) -> list[Any]:
    """Make a series of calls to an S3, and return the outcome of each."""
    small = {"Bucket": BUCKET, "Key": "calls/a.txt"}
    outcomes: list[Any] = []

    def record(call: Callable[..., Any], **arguments: Any) -> None:
        outcomes.append(_outcome(call, **arguments))

    for call in (s3.head_object, s3.get_object):
        record(call, **small)
    s3.put_object(**small, Body=bytearray(b"0123456789"))
    old = s3.head_object(**small)["ETag"]
    assert s3.get_object(**small)["ETag"] == old
    record(s3.head_object, **small)
    for options in ({}, {"Range": "bytes=4-"}, {"Range": "bytes=4-6"}, {"Range": "bytes=4-99"}, {"Range": "bytes=10-"}):
        record(s3.get_object, **small, **options)
        record(s3.get_object, **small, **options, IfMatch=old)
    s3.put_object(**small, Body=b"another")
    record(s3.get_object, **small, IfMatch=old)
    record(s3.get_object, **small, Range="bytes=1-2", IfMatch=old)

    big = {"Bucket": BUCKET, "Key": "calls/folder/b.txt"}
    part = b"p" * (5 * 1024 * 1024)
    upload = s3.create_multipart_upload(**big)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**big, UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in ((1, part), (2, b"the end"))
    ]
    record(s3.head_object, **big)
    record(
        s3.complete_multipart_upload,
        **big,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"no"'}]},
    )
    record(s3.complete_multipart_upload, **big, UploadId=upload, MultipartUpload={"Parts": parts})
    record(s3.get_object, **big, Range=f"bytes={len(part) - 1}-")

    aborted = s3.create_multipart_upload(Bucket=BUCKET, Key="calls/c.txt")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="calls/c.txt", UploadId=aborted, PartNumber=1, Body=b"half")
    record(s3.abort_multipart_upload, Bucket=BUCKET, Key="calls/c.txt", UploadId=aborted)
    record(s3.upload_part, Bucket=BUCKET, Key="calls/c.txt", UploadId=aborted, PartNumber=2, Body=b"more")
    for prefix in ("calls/", "calls/folder/", "none/"):
        record(s3.list_objects_v2, Bucket=BUCKET, Prefix=prefix)
    return outcomes


def test_the_folder_answers_as_s3_does(s3: Any, tmp_path: Path) -> None:
    (tmp_path / BUCKET).mkdir()
    outcomes = _outcomes(DiskS3(tmp_path))
    assert outcomes == _outcomes(s3)
    assert ("PreconditionFailed", 412) in outcomes
    assert {"Body": [b"456", b"", b""], "ContentLength": 3, "Contents": []} in outcomes


@pytest.mark.parametrize("kind", data_rows.FORMATS)
def test_every_run_writes_the_right_output_and_is_measured(tmp_path: Path, kind: str) -> None:
    figures = {}
    for name in data.RUNS:
        work = tmp_path / name
        work.mkdir()
        figures[name] = data.run(name, tmp_path, kind, 10 * TENTH, INSTRUCTION, work)
    assert set(figures["alone"]["steps"]) == {"parsing", "orjson.dumps", "orjson.loads", "writing"}
    for name in list(data.RUNS)[:-1]:
        assert figures[name]["rows"] == (TENTH if "tenth" in name else 10 * TENTH)
        assert figures[name]["seconds"] > 0
        assert figures[name]["cpu_seconds"] > 0
        assert 20 < figures[name]["megabytes"] < 1000

    # The output is accepted as it is, and refused after each change.
    answer, out = figures["tuneway, a tenth"]["answer"], tmp_path / "tuneway, a tenth" / "data"
    plan = data_rows.ensure(tmp_path, TENTH)[1]
    data.verify(answer, out, plan, kind, data.LLAMA)
    with pytest.raises(data.WrongOutputError, match="had to be rejected"):
        data.verify({**answer, "rejected": {"dialogue is blank": 2}}, out, plan, kind, data.LLAMA)
    lines = (out / "train" / "train.jsonl").read_bytes().splitlines(keepends=True)
    for changed, wrong in (
        (lines[1:], f"{plan['accepted'] - 1} rows"),
        ([lines[0].replace(b'"user","content":"', b'"user","content":"x'), *lines[1:]], "characters"),
    ):
        (out / "train" / "train.jsonl").write_bytes(b"".join(changed))
        with pytest.raises(data.WrongOutputError, match=wrong):
            data.verify(answer, out, plan, kind, data.LLAMA)


def test_the_last_line_has_the_ratios() -> None:
    def figures(seconds: float, megabytes: float, tenth: float) -> dict[str, data.Figures]:
        return {
            "tutorial": {"seconds": 100, "megabytes": 900},
            "tuneway": {"seconds": seconds, "megabytes": megabytes},
            "tuneway, a tenth": {"megabytes": tenth, "rows": 100_000},
        }

    results = {"csv": figures(16.4, 90, 100), "jsonl": figures(14.3, 100, 98), "parquet": figures(12.2, 121, 120)}
    assert data.last_line(results) == (
        "data: csv 6.1x, jsonl 7.0x, parquet 8.2x the tutorial's rows/s; peak 121 MB, 0.90 of that at 100,000 rows"
    )
