"""What more than one folder of unit tests uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hub_server import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub of our own, which the handler asks; waiting between tries takes no time."""
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
