"""Reading ahead on a thread: network, digest and decompression beside the parsing of what came before."""

from __future__ import annotations

import io
import queue
import threading
from typing import Any

CHUNK_BYTES = 256 * 1024
CHUNKS = 4
"""Chunks that wait to be taken at most."""


class Ahead(io.RawIOBase):
    """What `raw` delivers, in its order; an exception of the thread is raised where its data would have come."""

    def __init__(self, raw: Any) -> None:
        """Nothing is read before the first read. `raw` is an `io.RawIOBase` or alike; closing this closes it."""
        super().__init__()
        self._raw = raw
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(CHUNKS)
        self._rest = memoryview(b"")
        self._ended = self._given_up = False
        self._thread: threading.Thread | None = None

    def readable(self) -> bool:
        """A stream to read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        if not self._rest and not self._ended:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                self._ended = True
                raise chunk
            self._rest, self._ended = memoryview(chunk), not chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        """Let the thread end, and close what it reads from."""
        if not self.closed:
            self._given_up = True
            while self._thread and self._thread.is_alive():
                try:  # it may wait for room
                    self._chunks.get(timeout=0.01)
                except queue.Empty:
                    continue
            self._raw.close()
        super().close()

    def _read(self) -> None:
        try:
            while not self._given_up:
                chunk = self._raw.read(CHUNK_BYTES)
                self._chunks.put(chunk)
                if not chunk:
                    return
        except BaseException as error:
            self._chunks.put(error)
