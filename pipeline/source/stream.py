"""A byte stream over a network that is whole or an error, never silently short."""

from __future__ import annotations

import hashlib
import io
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 5
"""Tries without a single new byte before a file counts as unavailable."""
FIRST_WAIT_SECONDS = 1.0
"""Doubles from one failed try to the next, up to MAX_WAIT_SECONDS."""
BUFFER_BYTES = 64 * 1024
MAX_WAIT_SECONDS = 60.0


class Body(Protocol):
    """What a response offers: botocore's StreamingBody and http.client's HTTPResponse both do."""

    def read(self, amount: int, /) -> bytes:
        """At most `amount` bytes; none at the end."""

    def close(self) -> None:
        """Give the connection back."""


class Opened(NamedTuple):
    """One response, positioned where it was asked for.

    `total` is the whole file's length in bytes, None where only the transfer coding marks the end (chunked);
    `sha256` is the file's digest in hex if the server states it.
    """

    body: Body
    total: int | None
    sha256: str | None = None


class Interrupted(Exception):
    """A failure that may pass. `wait` is the server's own Retry-After in seconds, if it sent one."""

    def __init__(self, line: str, wait: float | None = None) -> None:
        """`line` says what happened, to be shown when all attempts have failed."""
        super().__init__(line)
        self.wait = wait


class ResumingStream(io.RawIOBase):
    """Reads a remote file from its beginning to its end, going on after an interruption where it was."""

    def __init__(
        self,
        name: str,
        open_at: Callable[[int], Opened],
        interruptions: tuple[type[Exception], ...],
        sleep: Callable[[float], None] = time.sleep,
        start: int = 0,
    ) -> None:
        """Nothing is requested before the first read.

        Args:
            name: the file in messages.
            open_at: requests the file from a byte offset on; raises Interrupted if another try may help.
            interruptions: what reading from a body raises when the connection fails.
            sleep: waits between tries.
            start: the byte to begin with.
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
        """Digest in hex of all bytes received so far."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        """A stream to read."""
        return True

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        super().close()

    def buffered(self) -> io.BufferedReader:
        """This stream with lines."""
        return io.BufferedReader(self, BUFFER_BYTES)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        """The next bytes; 0 at the true end.

        Raises:
            SourceUnavailable: the file did not come whole within the attempts.
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
            raise SourceUnavailable(f"{self._name}: the server sent more than the {self._total} bytes it stated")
        if not data:
            if self._total not in (None, self.position):
                raise Interrupted(f"the connection ended at {self.position} of {self._total} bytes")
            if not self._start and self._opened.sha256 not in (None, self.sha256):
                raise SourceUnavailable(f"{self._name}: the bytes received do not have the SHA-256 the server states")
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
