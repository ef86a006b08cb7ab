"""The event stream's bytes, read by botocore's own parser."""

from __future__ import annotations

import json

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer

from local_aws.core import eventstream


def read(data: bytes) -> list[tuple[dict[str, str], object]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, json.loads(message.payload)) for message in buffer]


def test_events_and_an_error_are_read_in_their_order() -> None:
    text = {"delta": {"text": "Привет, 世界"}}
    data = eventstream.event("contentBlockDelta", text) + eventstream.exception("throttlingException", "slow down")
    kind = {":content-type": "application/json"}
    assert read(data) == [
        ({":message-type": "event", ":event-type": "contentBlockDelta", **kind}, text),
        ({":message-type": "exception", ":exception-type": "throttlingException", **kind}, {"message": "slow down"}),
    ]
    assert read(data[:-1])[1:] == [], "the last message is not whole yet"


@pytest.mark.parametrize("place", [2, 20, -6])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(eventstream.event("chunk", {"bytes": "eA=="}))
    data[place] ^= 1
    with pytest.raises(ChecksumMismatch):
        read(bytes(data))
