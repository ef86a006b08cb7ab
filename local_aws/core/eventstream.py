"""The binary form of a stream of events: application/vnd.amazon.eventstream.

Source: "Amazon event stream encoding" (the specification of Smithy): total length, length of the headers and their CRC-32,
the headers, the payload, the CRC-32 of all of it. Each header here is a text (type 7).
"""

from __future__ import annotations

import json
import zlib
from typing import Any

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7
_FIXED_BYTES = 16  # Two lengths, and two checksums.


def event(kind: str, document: dict[str, Any]) -> bytes:
    """Return the event of one member of the stream's shape."""
    return _message({":message-type": "event", ":event-type": kind}, document)


def exception(code: str, message: str) -> bytes:
    """Return the error that ends a stream. `code` is the member's name in the stream's shape (throttlingException)."""
    return _message({":message-type": "exception", ":exception-type": code}, {"message": message})


def _message(headers: dict[str, str], document: dict[str, Any]) -> bytes:
    head = b""
    for name, value in {**headers, ":content-type": "application/json"}.items():
        text = value.encode()
        head += bytes([len(name)]) + name.encode() + bytes([_TEXT]) + len(text).to_bytes(2, "big") + text
    payload = json.dumps(document).encode()
    prelude = (_FIXED_BYTES + len(head) + len(payload)).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head + payload
    return message + zlib.crc32(message).to_bytes(4, "big")
