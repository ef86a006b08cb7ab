"""A fixture for several folders of unit tests: a Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hub_server import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub at HF_ENDPOINT. Waits between tries take no time."""
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
