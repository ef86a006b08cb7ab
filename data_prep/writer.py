"""Writes files into a folder in S3, in parts as they grow, and reads them back."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from data_prep.request import S3Location
from data_prep.sources import exists, open_s3

if TYPE_CHECKING:
    from types import TracebackType

    from pipeline.source.stream import ResumingStream

PART_BYTES = 5 * 1024 * 1024
"""Size of an uploaded part. It is the smallest that S3 takes, because each open file keeps one part in memory. A file can have
10,000 parts, which are 52 GB."""

_log = logging.getLogger(__name__)


class S3Folder:
    """A folder of the run. One thread sends the parts one after another, while the next parts are filled."""

    def __init__(self, s3: Any, place: S3Location) -> None:
        """Take a botocore client of S3 and the folder."""
        self._s3, self._place = s3, place
        self._sender = ThreadPoolExecutor(1)
        self._sending: Future[None] | None = None

    def place(self, name: str) -> S3Location:
        """Return the place of the file `name`."""
        return S3Location(self._place.bucket, self._place.key + name)

    def write(self, name: str) -> Upload:
        """Return a file to write, as a context manager. The file exists when the block has ended without an exception."""
        return Upload(self._s3, self.place(name), self)

    def has(self, name: str) -> bool:
        """Return whether the file `name` exists."""
        return exists(self._s3, self.place(name))

    def open(self, name: str) -> ResumingStream:
        """Return the file `name` as a stream, to read it back."""
        return open_s3(self._s3, self.place(name))

    def send(self, upload: Upload, body: bytearray) -> None:
        """Wait until the part before is sent, then hand this part to the thread. So at most one part waits in memory."""
        self.wait()
        self._sending = self._sender.submit(upload.send, body)

    def wait(self) -> None:
        """Wait until the current part is sent. Raise the error that its sending raised."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            sending.result()


class Upload:
    """An object that is being written. A small object is one PutObject. After an exception nothing is left, not even parts."""

    def __init__(self, s3: Any, place: S3Location, folder: S3Folder) -> None:
        """Take client, place and folder. Nothing is sent before the first part is full or the block ends."""
        self._s3, self._to, self._folder = s3, {"Bucket": place.bucket, "Key": place.key}, folder
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self.rows = self.bytes = 0

    @property
    def sha256(self) -> str:
        """Digest of the whole file in hexadecimal digits. It is valid when the block has ended."""
        return self._hash.hexdigest()

    def write(self, line: bytes) -> None:
        """Append a line."""
        self._buffer += line
        self.rows += 1
        if len(self._buffer) >= PART_BYTES:
            self._folder.send(self, self._take())

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the object, or after an exception delete its parts."""
        if kind is not None:
            self._abort()
            return
        try:
            self._complete()
        except BaseException:
            self._abort()
            raise

    def send(self, body: bytearray) -> None:
        """Upload the next part. The folder's thread calls it."""
        self._hash.update(body)
        if self._upload_id is None:
            self._upload_id = self._s3.create_multipart_upload(**self._to)["UploadId"]
        number = len(self._parts) + 1
        answer = self._s3.upload_part(**self._to, UploadId=self._upload_id, PartNumber=number, Body=body)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _take(self) -> bytearray:
        body, self._buffer = self._buffer, bytearray()
        self.bytes += len(body)
        return body

    def _complete(self) -> None:
        self._folder.wait()
        if self._upload_id is None:
            body = self._take()
            self._hash.update(body)
            self._s3.put_object(**self._to, Body=body)
            return
        if self._buffer:
            self.send(self._take())
        self._s3.complete_multipart_upload(**self._to, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts})

    def _abort(self) -> None:
        try:
            self._folder.wait()
        except Exception as error:
            # Only logged, because the failure that led here is reported.
            _log.warning("a part of s3://%s/%s could not be sent: %s", self._to["Bucket"], self._to["Key"], error)
        if self._upload_id is None:
            return
        try:
            self._s3.abort_multipart_upload(**self._to, UploadId=self._upload_id)
        except (BotoCoreError, ClientError) as error:
            # Only logged, too. The bucket's life-cycle rule removes such parts.
            _log.warning("could not abort the upload of s3://%s/%s: %s", self._to["Bucket"], self._to["Key"], error)
