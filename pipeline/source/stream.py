"""A byte stream over a network that delivers the whole file or raises an error, and never ends early in silence."""

from __future__ import annotations

import hashlib
import io
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 5
"""The tries without a new byte after which a file counts as unavailable."""

FIRST_WAIT_SECONDS = 1.0
"""The wait after the first failed try. It doubles with each further one, up to MAX_WAIT_SECONDS."""

BUFFER_BYTES = 64 * 1024
MAX_WAIT_SECONDS = 60.0


class Body(Protocol):
    """The body of a response. botocore's StreamingBody and http.client's HTTPResponse both have this form."""

    def read(self, amount: int, /) -> bytes:
        """Return at most `amount` bytes, and none at the end."""

    def close(self) -> None:
        """Release the connection."""


class Opened(NamedTuple):
    """One response, which begins at the requested byte.

    Attributes:
        body: the rest of the file.
        total: the length of the whole file in bytes. None if only the transfer coding marks the end (chunked).
        sha256: the file's digest in hexadecimal digits, if the server states it.
    """

    body: Body
    total: int | None
    sha256: str | None = None


class Interrupted(Exception):
    """A failure that may pass. `wait` is the server's Retry-After in seconds, if it sent one."""

    def __init__(self, line: str, wait: float | None = None) -> None:
        """Keep `line`, which says what happened. It is shown if all attempts fail."""
        super().__init__(line)
        self.wait = wait


class ResumingStream(io.RawIOBase):
    """Reads a remote file to its end. After an interruption it goes on at the same byte."""

    def __init__(
        self,
        name: str,
        open_at: Callable[[int], Opened],
        interruptions: tuple[type[Exception], ...],
        sleep: Callable[[float], None] = time.sleep,
        start: int = 0,
    ) -> None:
        """Prepare the stream. It sends no request before the first read.

        Args:
            name: the file's name in messages.
            open_at: requests the file from a byte offset on. It raises Interrupted if another try may help.
            interruptions: the exceptions that reading from a body raises if the connection fails.
            sleep: waits between tries.
            start: the first byte to read.
        """
        super().__init__()
        self._name, self._open_at, self._sleep = name, open_at, sleep
        self._interruptions: tuple[type[Exception], ...] = (*interruptions, Interrupted)
        self._opened: Opened | None = None
        self._total: int | None = None
        self._failures = 0
        self._hash = hashlib.sha256()
        self._start = self.position = start

    @property
    def sha256(self) -> str:
        """The digest of all received bytes, in hexadecimal digits."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        """Return that the stream can be read."""
        return True

    def close(self) -> None:
        """Release the connection."""
        self._drop()
        super().close()

    def buffered(self) -> io.BufferedReader:
        """Return this stream with a buffer, so that it can be read by lines."""
        return io.BufferedReader(self, BUFFER_BYTES)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        """Read the next bytes into the buffer, and return their number, which is 0 only at the file's end.

        Raises:
            SourceUnavailable: the whole file could not be read within the attempts.
        """
        while True:
            try:
                data = self._read(len(buffer))
            except self._interruptions as error:
                self._wait_or_give_up(error)
                continue
            if data:
                self._failures = 0
                self._hash.update(data)
                self.position += len(data)
            buffer[: len(data)] = data
            return len(data)

    def _read(self, amount: int) -> bytes:
        if self._opened is None:
            self._opened = self._open_at(self.position)
            if self._total not in (None, self._opened.total):
                raise SourceUnavailable(
                    f"{self._name}: the file changed while it was being read; start a new execution"
                )
            self._total = self._opened.total
        data = b"" if self.position == self._total else self._opened.body.read(amount)
        if self._total is not None and self.position + len(data) > self._total:
            raise SourceUnavailable(f"{self._name}: the server sent more bytes than the {self._total} that it stated")
        if not data:
            if self._total not in (None, self.position):
                raise Interrupted(f"the connection ended at {self.position} of {self._total} bytes")
            if not self._start and self._opened.sha256 not in (None, self.sha256):
                raise SourceUnavailable(
                    f"{self._name}: the received bytes do not have the SHA-256 that the server states"
                )
        return data

    def _wait_or_give_up(self, error: Exception) -> None:
        self._drop()
        self._failures += 1
        if self._failures >= ATTEMPTS:
            why = str(error) or type(error).__name__
            raise SourceUnavailable(f"{self._name}: {why}; gave up after {ATTEMPTS} tries") from error
        wait = error.wait if isinstance(error, Interrupted) else None
        backoff = FIRST_WAIT_SECONDS * 2 ** (self._failures - 1)
        self._sleep(min(backoff if wait is None else wait, MAX_WAIT_SECONDS))

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.body.close()
            self._opened = None
