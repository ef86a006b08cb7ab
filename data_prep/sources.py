"""Where rows come from: a file of a Hub dataset or an object in S3, whole or in part, opened and decompressed."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from data_prep import rows
from data_prep.delimited import CsvFile
from data_prep.encoding import as_utf8
from data_prep.request import S3Location, parse_s3
from pipeline.errors import Refused, quoted
from pipeline.source import hub
from pipeline.source.formats import format_of
from pipeline.source.stream import BUFFER_BYTES, Opened, ResumingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_prep.request import PrepDataset
    from pipeline.contracts.data import Piece


class OpenAt(Protocol):
    """Requests a file from a byte on, or to before another."""

    def __call__(self, offset: int, stop: int | None = None, /) -> Opened:
        """The response."""


class ReadAs(NamedTuple):
    """How a text file was read.

    Attributes:
        encoding: by its name in Python.
        separator: what stands between the fields of a CSV file; None of JSON and of an empty file.
    """

    encoding: str
    separator: str | None = None


class DatasetFiles:
    """The dataset's files."""

    def __init__(self, dataset: PrepDataset, hub_token: str | None, s3: Any) -> None:
        """Nothing is requested yet."""
        self._fields = (dataset.dialogue, dataset.summary)
        self._csv = dataset.csv
        self.read_as: dict[str, ReadAs] = {}
        """How the CSV and JSON files were read, by name, as soon as their rows are."""
        self._open_at: Callable[[Piece], OpenAt]
        if dataset.source.startswith("hub:"):
            repo, endpoint = dataset.source.removeprefix("hub:"), os.environ["HF_ENDPOINT"]
            self._open_at = lambda piece: (
                hub.HubFile(endpoint, repo, dataset.revision or "", piece.file, hub_token).open_at
            )
            self._interruptions = hub.INTERRUPTIONS
        else:
            bucket = parse_s3(dataset.source).bucket
            self._open_at = lambda piece: partial(_open_s3, s3, S3Location(bucket, piece.file), piece.etag)
            self._interruptions = S3_INTERRUPTIONS

    def rows(self, piece: Piece) -> Iterator[rows.Row]:
        """The rows that begin in the piece.

        Raises:
            Refused: what the user can mend.
            SourceUnavailable: the file does not come whole.
        """
        read = format_of(piece.file)
        kind = read.suffix if read else ".jsonl"
        unpack = _UNPACKERS[read.compression] if read and read.compression else None
        if read and read.columnar:
            # Only now: pyarrow takes longer to import than all the rest.
            try:
                from data_prep.parquet import read_columnar
            except ImportError as error:
                # Of Lambda's Pythons 3.11 alone runs on Amazon Linux 2, whose glibc is older than pyarrow's wheels take.
                raise Refused(
                    f"dataset: {quoted(piece.file)} needs pyarrow, which does not load here ({error}); set functions.python "
                    "to 3.12 or 3.13 and deploy, or write it as JSONL"
                ) from error

            with self.stream(piece, 0).buffered() as whole:
                yield from read_columnar(kind, Seekable(self, piece), whole, piece, self._fields)
            return
        # A part begins with the first line that begins in it: the byte before says whether that is the very first.
        raw: io.RawIOBase = self.stream(piece, max(piece.start - 1, 0))
        with io.BufferedReader(unpack(raw, piece.file) if unpack else raw, BUFFER_BYTES) as text:
            if kind in (".csv", ".tsv"):
                utf8, encoding = as_utf8(text, piece.file, self._csv.encoding)
                table = CsvFile(utf8, piece.file, self._fields, self._csv.separator)
                self.read_as[piece.file] = ReadAs(encoding, table.separator)
                yield from table
            elif kind == ".json":
                utf8, encoding = as_utf8(text, piece.file, None)
                self.read_as[piece.file] = ReadAs(encoding)
                yield from rows.read_json(utf8, piece.file, self._fields)
            else:
                skipped = len(text.readline(rows.LONGEST_BYTES)) if piece.start else 1
                size = None if piece.end == piece.bytes else piece.end - piece.start + 1 - skipped
                yield from rows.read_jsonl(text, piece.file, self._fields, size, first=not piece.start)

    def stream(self, piece: Piece, start: int, stop: int | None = None) -> ResumingStream:
        """The piece's file from byte `start` on, or to before `stop`."""
        open_at = self._open_at(piece)
        return ResumingStream(piece.file, lambda offset: open_at(offset, stop), self._interruptions, start=start)


class Seekable(io.RawIOBase):
    """A remote file to seek in: each read is one request."""

    def __init__(self, source: DatasetFiles, piece: Piece) -> None:
        """Nothing is requested yet."""
        super().__init__()
        self._source, self._piece, self._at = source, piece, 0

    def seekable(self) -> bool:
        """It is what this is for."""
        return True

    def readable(self) -> bool:
        """A file to read."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set where the next read begins."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._piece.bytes}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end only."""
        stop = self._piece.bytes if size < 0 else min(self._at + size, self._piece.bytes)
        if stop <= self._at:
            return b""
        with self._source.stream(self._piece, self._at, stop) as stream:
            data = stream.readall()
        self._at = stop
        return data


class _Gzip(gzip.GzipFile):
    """A gzip file whose damage is the user's to mend."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        super().__init__(fileobj=io.BufferedReader(raw, BUFFER_BYTES))
        self._raw, self._called = raw, name

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = str(error).partition(" (")[0]  # What follows is two of the file's own bytes.
            raise Refused(f"dataset: {quoted(self._called)} is no whole gzip file ({why}); compress it anew") from error

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Zstd(io.RawIOBase):
    """A zstd file, of one frame or more; a cut one is noticed, which zstandard's own stream_reader does not do."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        # Only now: most datasets are not compressed so.
        import zstandard

        super().__init__()
        self._raw, self._name, self._zstandard = raw, name, zstandard
        self._frame: Any = None
        self._packed = b""
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            self._packed = self._packed or self._raw.read(BUFFER_BYTES // 4) or b""
            if not self._packed:
                if self._frame is not None:
                    raise Refused(
                        f"dataset: {quoted(self._name)} is no whole zstd file (it ends early); compress it anew"
                    )
                return 0
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            try:
                self._out = memoryview(self._frame.decompress(self._packed))
            except self._zstandard.ZstdError as error:
                raise Refused(
                    f"dataset: {quoted(self._name)} is no whole zstd file ({error}); compress it anew"
                ) from error
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._out))
        buffer[:count], self._out = self._out[:count], self._out[count:]
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


_UNPACKERS: dict[str, Callable[[io.RawIOBase, str], Any]] = {".gz": _Gzip, ".zst": _Zstd}

S3_INTERRUPTIONS: tuple[type[Exception], ...] = (HTTPClientError, IncompleteReadError)


def open_s3(s3: Any, place: S3Location) -> ResumingStream:
    """An object of the run's own as a stream that resumes on the same version of it, by its ETag."""
    etag: str | None = None

    def open_at(offset: int) -> Opened:
        nonlocal etag
        response = s3.get_object(Bucket=place.bucket, Key=place.key, **_range(offset, None, etag))
        etag = response["ETag"]
        return Opened(response["Body"], offset + response["ContentLength"])

    return ResumingStream(str(place), open_at, S3_INTERRUPTIONS)


def _open_s3(s3: Any, place: S3Location, etag: str | None, offset: int, stop: int | None = None) -> Opened:
    """An object of the user's, which must be what Plan has listed."""
    try:
        response = s3.get_object(Bucket=place.bucket, Key=place.key, **_range(offset, stop, etag))
    except ClientError as error:
        _refuse(error, s3, place)
        raise
    return Opened(response["Body"], offset + response["ContentLength"])


def _range(offset: int, stop: int | None, etag: str | None) -> dict[str, str]:
    asked = {"IfMatch": etag} if etag else {}
    if offset or stop is not None:
        asked["Range"] = f"bytes={offset}-{'' if stop is None else stop - 1}"
    return asked


def exists(s3: Any, place: S3Location) -> bool:
    """Whether the object is there.

    Asked by a listing: where a role may list by prefix only, a request of a missing object may fail as one of an object that
    it may not read (S3 API Reference, GetObject: "If you don't have the s3:ListBucket permission").
    """
    # Of the keys that begin so it is the first: ListObjectsV2 sorts them by their bytes.
    found = s3.list_objects_v2(Bucket=place.bucket, Prefix=place.key).get("Contents", [])
    return bool(found) and found[0]["Key"] == place.key


def _has_gone(s3: Any, place: S3Location) -> bool:
    try:
        return not exists(s3, place)
    except ClientError:  # The listing is denied as well.
        return False


def _refuse(error: ClientError, s3: Any, place: S3Location) -> None:
    """Raise the one line for what the user can mend; return for AWS's own failures."""
    code = error.response["Error"]["Code"]
    if code == "AccessDenied" and _has_gone(s3, place):
        code = "NoSuchKey"
    match code:
        case "PreconditionFailed":
            raise Refused(
                f"dataset.source: {place} has changed since this run was planned; start a new execution"
            ) from error
        case "NoSuchKey" | "NoSuchBucket":
            raise Refused(f"dataset.source: {place} has gone since this run was planned; upload it again") from error
        case "AccessDenied":
            raise Refused(
                f"dataset.source: access to {place} is denied; check its bucket policy and its KMS key, and that "
                f"access.dataset_buckets lists '{place.bucket}' (then deploy)"
            ) from error
        case "InvalidObjectState":
            raise Refused(f"dataset.source: {place} is archived; restore it first") from error
