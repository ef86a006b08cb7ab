"""Keeps a destruction going when nobody reads its output any more."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TextIO, cast


def lasting(stream: TextIO) -> TextIO:
    """Return a stream that goes on when nobody reads it any more, so that no line ends a destruction."""
    return cast("TextIO", LastingOutput(stream))


class LastingOutput:
    """A stream whose lines are lost when nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        """Keep the stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if somebody reads it. Return its length."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if somebody reads it."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Return everything else of the stream."""
        return getattr(self._stream, name)
