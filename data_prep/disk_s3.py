"""botocore's S3 client on a folder, with the operations that data prep uses.

`tuneway plan` prepares a dataset with it, so that nothing is written in the account. The benchmarks measure with it, so that no
network is measured. A bucket is a folder below `root`, and a key is a file. Answers and errors have botocore's shapes, and
tests/unit/bench/test_data.py compares them with S3's. The other work of S3's client and server (TLS, checksums, MD5 as the
ETag) is left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from pathlib import Path

_UPLOADS = ".uploads"
"""The folder below `root` with the parts of unfinished uploads."""


class FileBody:
    """A response's body: the next `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._remaining = file, size

    def read(self, amount: int | None = None) -> bytes:
        """Return at most `amount` bytes, or all the remaining ones without it. At the end, return none."""
        data = self._file.read(self._remaining if amount is None else min(amount, self._remaining))
        self._remaining -= len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DiskS3:
    """The operations under S3's names, with S3's names of parameters and answers."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which must exist."""
        self._root = root

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """Return an object's `ContentLength` and `ETag`."""
        path = self._path(Bucket, Key, "HeadObject", missing="404")
        return {"ContentLength": path.stat().st_size, "ETag": _etag(path)}

    def get_object(
        self, *, Bucket: str, Key: str, Range: str | None = None, IfMatch: str | None = None
    ) -> dict[str, Any]:
        """Return an object, or its range `bytes=FIRST-` or `bytes=FIRST-LAST`.

        Raises:
            ClientError: as S3's.
            ValueError: the range has another form, for which data prep does not ask.
        """
        path = self._path(Bucket, Key, "GetObject")
        size, etag = path.stat().st_size, _etag(path)
        if IfMatch not in (None, etag):
            raise _error("GetObject", "PreconditionFailed", 412)
        bounds = re.fullmatch(r"bytes=(\d+)-(\d*)", Range or "bytes=0-")
        if bounds is None:
            raise ValueError(f"data prep does not ask for a range such as {Range!r}")
        first = int(bounds[1])
        if Range and first >= size:
            raise _error("GetObject", "InvalidRange", 416)
        length = min(int(bounds[2] or size) + 1, size) - first
        file = path.open("rb")
        file.seek(first)
        return {"Body": FileBody(file, length), "ContentLength": length, "ETag": etag}

    def list_objects_v2(self, *, Bucket: str, Prefix: str = "") -> dict[str, Any]:
        """Return all of a bucket's objects with the prefix, sorted. Without any, the answer has no `Contents`.

        S3 lists 1,000 at most.
        """
        bucket = self._root / Bucket
        paths = {path.relative_to(bucket).as_posix(): path for path in bucket.rglob("*") if path.is_file()}
        contents = [
            {
                "Key": key,
                "Size": path.stat().st_size,
                "ETag": _etag(path),
                "LastModified": datetime.fromtimestamp(path.stat().st_mtime, UTC),
            }
            for key, path in sorted(paths.items())
            if key.startswith(Prefix)
        ]
        return {"KeyCount": len(contents), "IsTruncated": False} | ({"Contents": contents} if contents else {})

    def put_object(self, *, Bucket: str, Key: str, Body: bytes | bytearray) -> dict[str, Any]:
        """Write an object."""
        path = self._root / Bucket / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Body)
        return {"ETag": _etag(path)}

    def create_multipart_upload(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """Begin an object of several parts."""
        parts = self._root / _UPLOADS
        parts.mkdir(exist_ok=True)
        upload = f"{Bucket}/{Key}".replace("/", "-")
        (parts / upload).write_bytes(b"")
        return {"UploadId": upload}

    def upload_part(
        self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes | bytearray
    ) -> dict[str, Any]:
        """Append a part. The parts must come in order, as data prep sends them."""
        with self._upload(UploadId, "UploadPart").open("ab") as file:
            file.write(Body)
        return {"ETag": f'"{PartNumber}"'}

    def complete_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Make the object from its parts."""
        parts = self._upload(UploadId, "CompleteMultipartUpload")
        listed = [(part["PartNumber"], part["ETag"]) for part in MultipartUpload["Parts"]]
        if not listed or listed != [(number, f'"{number}"') for number in range(1, len(listed) + 1)]:
            raise _error("CompleteMultipartUpload", "InvalidPart", 400)
        path = self._root / Bucket / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        return {"ETag": _etag(parts.replace(path))}

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        """Delete an upload and its parts."""
        self._upload(UploadId, "AbortMultipartUpload").unlink()
        return {}

    def _path(self, bucket: str, key: str, operation: str, missing: str = "NoSuchKey") -> Path:
        path = self._root / bucket / key
        if not path.is_file():
            raise _error(operation, missing, 404)
        return path

    def _upload(self, upload: str, operation: str) -> Path:
        path = self._root / _UPLOADS / upload
        if not path.is_file():
            raise _error(operation, "NoSuchUpload", 404)
        return path


def _etag(path: Path) -> str:
    """Return an ETag that changes with the file. A digest as S3's would cost time that S3 spends and data prep does not."""
    stat = path.stat()
    return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'


def _error(operation: str, code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
