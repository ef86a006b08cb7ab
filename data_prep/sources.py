"""Opens, decompresses and reads the dataset's files, whole or in part: files of a Hub dataset, or objects in S3."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from data_prep import rows
from data_prep.delimited import CsvFile
from data_prep.encoding import as_utf8
from data_prep.request import S3Location, parse_s3
from data_prep.row_formats import formats_of
from pipeline.errors import Refused, quoted
from pipeline.source import hub
from pipeline.source.formats import format_of
from pipeline.source.stream import BUFFER_BYTES, Opened, ResumingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from data_prep.row_formats import Row, RowFormat, RowFormats
    from pipeline.contracts.data import CsvForm, DatasetRequest, Piece


class OpenAt(Protocol):
    """Requests the bytes of a file from `offset` on, to its end or to before `stop`."""

    def __call__(self, offset: int, stop: int | None = None, /) -> Opened:
        """Return the response."""


class ReadAs(NamedTuple):
    """How a file was read.

    Attributes:
        format: the format of its rows. None if no row tells it.
        encoding: the encoding's name in Python, of a CSV or JSON file.
        separator: the separator of a CSV file. None for an empty file.
    """

    format: str | None
    encoding: str | None = None
    separator: str | None = None


class Files:
    """Reads files of rows."""

    def __init__(
        self,
        formats: RowFormats,
        csv: CsvForm,
        open_at: Callable[[Piece], OpenAt],
        interruptions: tuple[type[Exception], ...],
    ) -> None:
        """Take the settings. Nothing is requested yet.

        Args:
            formats: the formats that the rows may have.
            csv: the form of CSV files.
            open_at: returns what requests the bytes of a piece's file.
            interruptions: the exceptions that reading raises if the connection fails.
        """
        self._formats, self._csv = formats, csv
        self._open_at, self._interruptions = open_at, interruptions
        self.read_as: dict[str, ReadAs] = {}
        """How each file was read, by its name, as soon as its rows are read."""

    def rows(self, piece: Piece) -> Iterator[Row]:
        """Yield the rows that begin in the piece.

        Raises:
            Refused: the user must mend something.
            SourceUnavailable: the file cannot be read to its end.
        """
        read = format_of(piece.file)
        kind = read.suffix if read else ".jsonl"

        def note(row_format: RowFormat | None, encoding: str | None = None, separator: str | None = None) -> None:
            self.read_as[piece.file] = ReadAs(row_format.name if row_format else None, encoding, separator)

        unpack = _UNPACKERS[read.compression] if read and read.compression else None
        if read and read.columnar:
            # Imported only here, because the import of pyarrow takes longer than all the rest.
            try:
                from data_prep.parquet import read_columnar
            except ImportError as error:
                # Only Lambda's Python 3.11 runs on Amazon Linux 2, whose glibc is too old for pyarrow's wheels.
                raise Refused(
                    f"dataset: {quoted(piece.file)} needs pyarrow, which does not load here ({error}); set functions.python "
                    "to 3.12 or 3.13 and deploy, or write the file as JSONL"
                ) from error

            with self.stream(piece, 0).buffered() as whole:
                yield from read_columnar(kind, Seekable(self, piece), whole, piece, self._formats, note)
            return
        # A part begins with the first line that begins in it. The byte before tells whether a line begins at its first byte.
        raw: io.RawIOBase = self.stream(piece, max(piece.start - 1, 0))
        with io.BufferedReader(unpack(raw, piece.file) if unpack else raw, BUFFER_BYTES) as text:
            if kind in (".csv", ".tsv"):
                utf8, encoding = as_utf8(text, piece.file, self._csv.encoding)
                table = CsvFile(utf8, piece.file, self._formats, self._csv.separator)
                note(table.row_format, encoding, table.separator)
                yield from table
            elif kind == ".json":
                utf8, encoding = as_utf8(text, piece.file, None)
                yield from rows.read_json(utf8, piece.file, self._formats, partial(note, encoding=encoding))
            else:
                row_format, lines = self._jsonl_format(piece, text)
                note(row_format)
                skipped = len(lines.readline(rows.LONGEST_BYTES)) if piece.start else 1
                size = None if piece.end == piece.bytes else piece.end - piece.start + 1 - skipped
                yield from rows.read_jsonl(
                    lines, piece.file, row_format or self._formats.fallback, size, first=not piece.start
                )

    def _jsonl_format(
        self, piece: Piece, text: io.BufferedReader[Any]
    ) -> tuple[RowFormat | None, io.BufferedReader[Any]]:
        """Return the format of a JSON Lines file, and the stream to read its piece from.

        The beginning of the file decides for all pieces of it. So they agree, and shards read what one function reads.
        """
        if not piece.start or self._formats.is_set:
            return rows.sample_jsonl(text, piece.file, self._formats)
        with self.stream(piece, 0, min(piece.bytes, rows.SAMPLE_END)).buffered() as beginning:
            return rows.sample_jsonl(beginning, piece.file, self._formats)[0], text

    def stream(self, piece: Piece, start: int, stop: int | None = None) -> ResumingStream:
        """Return the piece's file from byte `start` on, to its end or to before `stop`."""
        open_at = self._open_at(piece)
        return ResumingStream(piece.file, lambda offset: open_at(offset, stop), self._interruptions, start=start)


class DatasetFiles(Files):
    """Reads the dataset's files."""

    def __init__(self, dataset: DatasetRequest, hub_token: str | None, s3: Any) -> None:
        """Take the settings. Nothing is requested yet."""
        interruptions = S3_INTERRUPTIONS
        if dataset.source.startswith("hub:"):
            repo, endpoint = dataset.source.removeprefix("hub:"), os.environ["HF_ENDPOINT"]
            interruptions = hub.INTERRUPTIONS

            def open_at(piece: Piece) -> OpenAt:
                return hub.HubFile(endpoint, repo, dataset.revision or "", piece.file, hub_token).open_at
        else:
            bucket = parse_s3(dataset.source).bucket

            def open_at(piece: Piece) -> OpenAt:
                return partial(_open_s3, s3, S3Location(bucket, piece.file), piece.etag)

        super().__init__(formats_of(dataset), dataset.csv, open_at, interruptions)


class LocalFiles(Files):
    """Reads files of this machine. A piece's file is a path, or a name for which `paths` has the path."""

    def __init__(self, formats: RowFormats, csv: CsvForm, paths: Mapping[str, Path] | None = None) -> None:
        """Take the formats of rows and the form of CSV files. Nothing is read yet."""
        super().__init__(
            formats, csv, lambda piece: partial(_open_local, (paths or {}).get(piece.file, piece.file)), ()
        )


class Seekable(io.RawIOBase):
    """A remote file that can seek. Each read is one request."""

    def __init__(self, source: Files, piece: Piece) -> None:
        """Take source and file. Nothing is requested yet."""
        super().__init__()
        self._source, self._piece, self._at = source, piece, 0

    def seekable(self) -> bool:
        """Return that the file can seek."""
        return True

    def readable(self) -> bool:
        """Return that the file can be read."""
        return True

    def tell(self) -> int:
        """Return the byte at which the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the byte at which the next read begins, and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._piece.bytes}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; fewer only at the end."""
        stop = self._piece.bytes if size < 0 else min(self._at + size, self._piece.bytes)
        if stop <= self._at:
            return b""
        with self._source.stream(self._piece, self._at, stop) as stream:
            data = stream.readall()
        self._at = stop
        return data


class _Gzip(gzip.GzipFile):
    """A gzip file that is refused if it is damaged."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        super().__init__(fileobj=io.BufferedReader(raw, BUFFER_BYTES))
        self._raw, self._called = raw, name

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = str(error).partition(" (")[0]  # The rest of the message quotes two bytes of the file.
            raise Refused(
                f"dataset: {quoted(self._called)} is not a whole gzip file ({why}); compress it anew"
            ) from error

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Zstd(io.RawIOBase):
    """A zstd file of one frame or more. It notices a cut file, which zstandard's own stream_reader does not."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        # Imported only here, because few datasets are compressed by zstd.
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
                        f"dataset: {quoted(self._name)} is not a whole zstd file (it ends early); compress it anew"
                    )
                return 0
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            try:
                self._out = memoryview(self._frame.decompress(self._packed))
            except self._zstandard.ZstdError as error:
                raise Refused(
                    f"dataset: {quoted(self._name)} is not a whole zstd file ({error}); compress it anew"
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
    """Return an object that the run has written as a stream. After an interruption it goes on with the same ETag."""
    etag: str | None = None

    def open_at(offset: int) -> Opened:
        nonlocal etag
        response = s3.get_object(Bucket=place.bucket, Key=place.key, **_range(offset, None, etag))
        etag = response["ETag"]
        return Opened(response["Body"], offset + response["ContentLength"])

    return ResumingStream(str(place), open_at, S3_INTERRUPTIONS)


def _open_s3(s3: Any, place: S3Location, etag: str | None, offset: int, stop: int | None = None) -> Opened:
    """Request an object of the user. It must still have the ETag that Plan has listed."""
    try:
        response = s3.get_object(Bucket=place.bucket, Key=place.key, **_range(offset, stop, etag))
    except ClientError as error:
        _refuse(error, s3, place)
        raise
    return Opened(response["Body"], offset + response["ContentLength"])


def _open_local(path: str | Path, offset: int, stop: int | None = None) -> Opened:
    """Open a file of this machine."""
    file = Path(path).open("rb")  # noqa: SIM115 - the stream closes it
    file.seek(offset)
    if stop is None:
        return Opened(file, Path(path).stat().st_size)
    with file:
        return Opened(io.BytesIO(file.read(stop - offset)), stop)


def _range(offset: int, stop: int | None, etag: str | None) -> dict[str, str]:
    parameters = {"IfMatch": etag} if etag else {}
    if offset or stop is not None:
        parameters["Range"] = f"bytes={offset}-{'' if stop is None else stop - 1}"
    return parameters


def exists(s3: Any, place: S3Location) -> bool:
    """Return whether the object exists.

    The answer comes from a listing. If a role may list by prefix only, the request for a missing object may fail like the
    request for an object that it may not read (S3 API Reference, GetObject: "If you don't have the s3:ListBucket
    permission").
    """
    # The object is the first of the keys with this prefix, because ListObjectsV2 sorts keys by their bytes.
    found = s3.list_objects_v2(Bucket=place.bucket, Prefix=place.key).get("Contents", [])
    return bool(found) and found[0]["Key"] == place.key


def _is_missing(s3: Any, place: S3Location) -> bool:
    try:
        return not exists(s3, place)
    except ClientError:  # the listing is denied, too
        return False


def _refuse(error: ClientError, s3: Any, place: S3Location) -> None:
    """Raise `Refused` if the user can mend the error. Return if AWS itself failed."""
    code = error.response["Error"]["Code"]
    if code == "AccessDenied" and _is_missing(s3, place):
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
