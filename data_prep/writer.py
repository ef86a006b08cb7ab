"""The output folder in S3: files written in parts as they grow, and read back."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from data_prep.request import S3Location
from data_prep.sources import open_s3

if TYPE_CHECKING:
    from types import TracebackType

    from pipeline.stream import ResumingStream

PART_BYTES = 8 * 1024 * 1024
"""Size of an uploaded part: S3 asks for 5 MiB at least and takes 10,000 of them."""
_log = logging.getLogger(__name__)


class Folder:
    """The run's data folder."""

    def __init__(self, s3: Any, place: S3Location) -> None:
        """`s3` is a boto3 client."""
        self._s3, self._place = s3, place

    def place(self, name: str) -> S3Location:
        """Where the file `name` lies."""
        return S3Location(self._place.bucket, self._place.key + name)

    def write(self, name: str) -> Upload:
        """A file to write, as a context manager: it exists once the block ends without an exception."""
        return Upload(self._s3, self.place(name))

    def open(self, name: str) -> ResumingStream:
        """A file of this folder to read back."""
        return open_s3(self._s3, self.place(name))


class Upload:
    """An object being written. A small one is one PutObject; an exception leaves nothing, not even parts."""

    def __init__(self, s3: Any, place: S3Location) -> None:
        """Nothing is sent before the first part is full or the block ends."""
        self._s3, self._to = s3, {"Bucket": place.bucket, "Key": place.key}
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self.rows = self.bytes = 0

    @property
    def sha256(self) -> str:
        """Digest in hex of the whole file, valid once the block has ended."""
        return self._hash.hexdigest()

    def write(self, line: bytes) -> None:
        """Append a line."""
        self._buffer += line
        self.rows += 1
        if len(self._buffer) >= PART_BYTES:
            self._send_part()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the object, or leave nothing of it."""
        if kind is not None:
            self._abort()
            return
        try:
            self._complete()
        except BaseException:
            self._abort()
            raise

    def _send_part(self) -> None:
        if self._upload_id is None:
            self._upload_id = self._s3.create_multipart_upload(**self._to)["UploadId"]
        number = len(self._parts) + 1
        body = self._take()
        answer = self._s3.upload_part(**self._to, UploadId=self._upload_id, PartNumber=number, Body=body)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _take(self) -> bytearray:
        body, self._buffer = self._buffer, bytearray()
        self._hash.update(body)
        self.bytes += len(body)
        return body

    def _complete(self) -> None:
        if self._upload_id is None:
            self._s3.put_object(**self._to, Body=self._take())
            return
        if self._buffer:
            self._send_part()
        self._s3.complete_multipart_upload(**self._to, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts})

    def _abort(self) -> None:
        if self._upload_id is None:
            return
        try:
            self._s3.abort_multipart_upload(**self._to, UploadId=self._upload_id)
        except (BotoCoreError, ClientError) as error:
            # The failure that led here is the one to report; the bucket's life-cycle rule removes such parts.
            _log.warning("could not abort the upload of s3://%s/%s: %s", self._to["Bucket"], self._to["Key"], error)
