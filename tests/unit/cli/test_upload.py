"""A dataset is uploaded whole or not at all, and not twice."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from cli.dataset import local_dataset
from cli.upload import upload
from pipeline.errors import Refused
from tests.local_aws.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws

PROGRAM = """
import sys
from pathlib import Path
from rich.console import Console
from cli.dataset import local_dataset
from cli.upload import upload
from pipeline import aws
upload(local_dataset(Path(sys.argv[1])).files, aws.client("s3"), sys.argv[2], Console())
"""


def objects(aws: RunningAws, bucket: str) -> dict[str, int]:
    found = aws.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return {entry["Key"]: entry["Size"] for entry in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    for name, size in {"a.csv": 3, "b.jsonl": 20_000_000, "c.parquet": 5}.items():
        (made / name).write_bytes(b"x" * size)
    return made


def test_a_folder_is_uploaded_once(aws: RunningAws, bucket: str, folder: Path) -> None:
    dataset, s3 = local_dataset(folder), aws.client("s3")
    assert upload(dataset.files, s3, bucket, Console(file=io.StringIO())) == 3
    assert objects(aws, bucket) == {key: path.stat().st_size for key, path in dataset.files.items()}
    assert upload(dataset.files, s3, bucket, Console(file=io.StringIO())) == 0
    s3.delete_object(Bucket=bucket, Key=next(iter(dataset.files)))
    assert upload(dataset.files, s3, bucket, Console(file=io.StringIO())) == 1
    (folder / "a.csv").write_bytes(b"y" * 3)
    assert upload(local_dataset(folder).files, s3, bucket, Console(file=io.StringIO())) == 3
    assert len(objects(aws, bucket)) == 6


def test_after_ctrl_c_nothing_is_there(aws: RunningAws, bucket: str, folder: Path) -> None:
    with (folder / "b.jsonl").open("wb") as large:
        large.truncate(600_000_000)
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), bucket],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.time() + 60
    while not s3.list_multipart_uploads(Bucket=bucket).get("Uploads"):
        assert time.time() < deadline, "no upload has begun"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    assert list(objects(aws, bucket).values()) == [3]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert "KeyboardInterrupt" in (process.stderr.read() if process.stderr else "")
    assert objects(aws, bucket) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


def test_a_refused_upload_is_one_line(aws: RunningAws, bucket: str, folder: Path) -> None:
    role = aws.role("NoUploads", {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"})
    s3 = aws.client("s3", aws.session(role))
    with pytest.raises(
        Refused, match=r"a\.csv could not be uploaded \(.*AccessDenied.*check that you may write"
    ) as error:
        upload(local_dataset(folder).files, s3, bucket, Console(file=io.StringIO()))
    assert "\n" not in str(error.value)
