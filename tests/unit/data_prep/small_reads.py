"""A file that delivers its bytes in small pieces."""

from __future__ import annotations

import io
from typing import Any


class SmallReads(io.RawIOBase):
    """Delivers at most `size` bytes per read, so that a read can end inside a line end, a quote or a letter."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__()
        self._data, self._size = data, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(self._size, len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count
