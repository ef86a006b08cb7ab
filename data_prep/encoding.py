"""Reads a text file of any encoding as UTF-8, because the readers of rows take UTF-8 alone."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, Any

from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # stands before UTF-16's mark, because it begins with it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHUNK_BYTES = 64 * 1024
HEAD_BYTES = 64

_OTHERS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer and not the file itself; run git lfs pull, and upload the file",
    ),
    (
        b"<!doctype html",
        "an HTML page and no data (a server may send one if you are not signed in); download the file again",
    ),
    (b"<html", "an HTML page and no data (a server may send one if you are not signed in); download the file again"),
    (b"\x1f\x8b", "compressed by gzip; let its name end in .gz, or unpack it once if it was compressed twice"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; let its name end in .zst"),
    (b"bzh", "compressed by bzip2; compress it by gzip or zstd, or not at all"),
    (b"\xfd7zxz\0", "compressed by xz; compress it by gzip or zstd, or not at all"),
    (b"pk\x03\x04", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV UTF-8"),
    (b"par1", "Parquet; let its name end in .parquet"),
    (b"arrow1", "Arrow; let its name end in .arrow"),
    (b"fea1", "Feather of version 1, which only old libraries write; write the file anew with pandas' to_feather"),
    (b"sqlite format 3\0", "an SQLite database; export the table as CSV"),
    (b"{\\rtf", "rich text; save it as plain text in UTF-8"),
    (b"%pdf-", "a PDF; only CSV, JSON, Parquet and Arrow are read"),
)
"""The first bytes, in lower case, of files that hold no rows as text, whatever their names say."""


def refuse_others(head: bytes, name: str) -> None:
    """Refuse a file whose first bytes show that it is not a text file of rows."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n").lower()
    for mark, description in _OTHERS:
        if start.startswith(mark):
            raise Refused(f"dataset: {quoted(name)} is {description}")


def detect(head: bytes, given: str | None = None) -> str:
    """Return the encoding of a text file by its first bytes.

    A byte order mark is certain. It counts more than `given`, the encoding that is set for all files. Without both, NUL bytes
    tell the encoding, because every format that is read begins with ASCII characters (RFC 4627, section 3). Any other file
    counts as UTF-8, and the checks find bytes that are not.
    """
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if marked or given:
        return marked or codecs.lookup(str(given)).name
    match [byte == 0 for byte in head[:4]]:
        case [False, True, False, True]:
            return "utf-16-le"
        case [True, False, True, False]:
            return "utf-16-be"
        case [False, True, True, True]:
            return "utf-32-le"
        case [True, True, True, False]:
            return "utf-32-be"
    return "utf-8"


def as_utf8(stream: io.BufferedReader[Any], name: str, encoding: str | None) -> tuple[io.BufferedReader[Any], str]:
    """Return the file as a stream of UTF-8, which still has its byte order mark, and its encoding (`detect`).

    A byte or code unit that is no character becomes bytes that are not UTF-8, which the checks find.

    Raises:
        Refused: the first bytes show that the file is not a text file of rows.
    """
    head = stream.read(HEAD_BYTES)
    refuse_others(head, name)
    encoding = detect(head, encoding)
    if encoding in ("utf-8", "utf-8-sig"):
        return io.BufferedReader(Prefixed(head, stream), _CHUNK_BYTES), "utf-8"
    return io.BufferedReader(_Transcoded(head, stream, name, encoding), _CHUNK_BYTES), encoding


class Prefixed(io.RawIOBase):
    """A stream whose first bytes have already been read."""

    def __init__(self, head: bytes, stream: io.BufferedReader[Any]) -> None:
        """Take `head`, the bytes that have been read, and the rest of the stream."""
        super().__init__()
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        """Return that the stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into `buffer`. Return their number, which is 0 at the end."""
        if not self._head:
            return self._stream.readinto(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count], self._head = self._head[:count], self._head[count:]
        # The bytes that follow are read, too: a reader that peeks gets the bytes of one call alone.
        return count + (self._stream.readinto(memoryview(buffer)[count:]) if count < len(buffer) else 0)


class _Transcoded(io.RawIOBase):
    """Converts a stream of another encoding to UTF-8."""

    def __init__(self, head: bytes, stream: io.BufferedReader[Any], name: str, encoding: str) -> None:
        super().__init__()
        self._head, self._stream, self._name, self._encoding = head, stream, name, encoding
        self._errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._decode: Callable[[bytes, bool], str] = decoder.decode
        self._ended, self._out = False, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out and not self._ended:
            data, self._head = self._head + self._stream.read(_CHUNK_BYTES), b""
            self._ended = not data
            try:
                text = self._decode(data, self._ended).encode("utf-8", self._errors)
            except UnicodeError as error:
                raise Refused(
                    f"dataset: {quoted(self._name)} is not valid {self._encoding}; write it as UTF-8, or correct "
                    "dataset.csv.encoding"
                ) from error
            self._out = memoryview(text)
        count = min(len(buffer), len(self._out))
        buffer[:count], self._out = self._out[:count], self._out[count:]
        return count
