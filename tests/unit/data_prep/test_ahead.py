"""Reading ahead on a thread: the same bytes, exceptions in their place, and no thread left."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import ahead as ahead_module
from data_prep.ahead import CHUNKS, Ahead


class Script(io.RawIOBase):
    """Delivers its parts one a read, whatever is asked for; an exception among them is raised."""

    def __init__(self, *parts: bytes | BaseException) -> None:
        super().__init__()
        self.parts = list(parts)
        self.reads = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, BaseException):
            raise part
        return part


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def close(stream: Any, seconds: float = 5) -> None:
    """Close on a thread of its own, so that a hang is a failure."""
    closing = threading.Thread(target=stream.close, daemon=True)
    closing.start()
    closing.join(seconds)
    assert not closing.is_alive(), "close hangs"


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=12), st.integers(1, 7))
def test_the_data_are_the_same_however_they_come(parts: list[bytes], size: int) -> None:
    stream = Ahead(Script(*parts))
    got = bytearray()
    while chunk := stream.read(size):
        assert len(chunk) <= size
        got += chunk
    assert bytes(got) == b"".join(parts)
    assert stream.read(size) == b"", "the end stays the end"
    close(stream)


def test_lines_and_the_rest_come_through_a_buffer() -> None:
    with io.BufferedReader(Ahead(Script(b"a\nb", b"c\n", b"d"))) as stream:
        assert list(stream) == [b"a\n", b"bc\n", b"d"]


@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt("k")])
def test_an_exception_comes_where_its_data_would_have_come(error: BaseException) -> None:
    before = threads()
    stream = Ahead(Script(b"one", b"two", error))
    assert stream.read(3) + stream.read(3) == b"onetwo"
    with pytest.raises(type(error)) as caught:
        stream.read(1)
    assert caught.value is error
    close(stream)
    assert threads() <= before


def test_nothing_is_read_before_the_first_read_nor_too_far_ahead() -> None:
    raw = Script(*[b"x"] * 100)
    stream = Ahead(raw)
    time.sleep(0.05)
    assert raw.reads == 0
    assert stream.read(1) == b"x"
    time.sleep(0.2)
    assert 1 < raw.reads <= CHUNKS + 3
    close(stream)
    assert raw.closed


def test_close_ends_a_thread_that_waits_for_room() -> None:
    before = threads()
    stream = Ahead(Script(*[b"x"] * 100))
    stream.read(1)
    time.sleep(0.05)
    assert threads() > before
    close(stream)
    assert threads() <= before
    close(stream)  # twice is once


def test_close_waits_for_a_read_that_is_under_way_and_takes_its_error() -> None:
    before, go_on = threads(), threading.Event()

    class Slow(Script):
        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            if self.reads == 2:
                go_on.wait(5)
                raise OSError("the connection was closed")
            return b"x"

    raw = Slow()
    stream = Ahead(raw)
    assert stream.read(1) == b"x"
    threading.Timer(0.1, go_on.set).start()
    close(stream)
    assert raw.closed
    assert not {thread for thread in threads() - before if not isinstance(thread, threading.Timer)}


def test_close_before_the_first_read_needs_no_thread() -> None:
    before, raw = threads(), Script(b"x")
    close(Ahead(raw))
    assert raw.closed
    assert threads() <= before


def test_it_reads_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "CHUNK_BYTES", 7)
    with Ahead(io.BytesIO(b"0123456789" * 10)) as stream:
        assert stream.readall() == b"0123456789" * 10
