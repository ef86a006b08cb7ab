"""Copies of models: a call starts one, an idle one is removed, and a dead one is replaced."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local import tiny_model
from local_aws.core import processes
from local_aws.services.bedrock.controls import BedrockControls
from local_aws.services.bedrock.copies import Copies, NotReadyError
from tests.local_aws.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hey"}], "max_tokens": 3, "temperature": 0}


class ClockByHand:
    """A clock that a test can put forward."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> ClockByHand:
    return ClockByHand()


@pytest.fixture
def copies(tmp_path: Path, clock: ClockByHand) -> Iterator[Copies]:
    made = Copies(tmp_path, BedrockControls(restore_seconds=0), clock)
    yield made
    for key in made.states():
        made.remove(key)


def asked(copies: Copies, model: str, *, wait: bool = False) -> int:
    with copies.use("arn:model/one", model, wait=wait) as copy:
        return len(copy.ask("/v1/chat/completions", CHAT)["choices"])


def test_a_copy_is_restored_removed_and_restored_again(tmp_path: Path, copies: Copies, clock: ClockByHand) -> None:
    model = str(tiny_model.ensure(tmp_path / "hub"))
    assert copies.in_hub() == [tiny_model.REPO]
    with pytest.raises(NotReadyError):
        asked(copies, model)
    assert copies.states() == {"arn:model/one": "starting"}
    assert asked(copies, model, wait=True) == 1
    assert asked(copies, model) == 1, "at once"
    first = copies._copies["arn:model/one"]
    with copies.use("arn:model/one", model) as copy:
        clock.ahead += timedelta(hours=1)
        time.sleep(1)
        assert copy.alive, "a copy in use is not idle"
    clock.ahead += timedelta(seconds=299)
    assert asked(copies, model) == 1
    clock.ahead += timedelta(seconds=301)
    with pytest.raises(NotReadyError):
        asked(copies, model)
    assert not first.alive

    assert asked(copies, tiny_model.REPO, wait=True) == 1, "by its name in the Hub's cache, too"
    killed = copies._copies["arn:model/one"]
    processes.signal_group(killed._process, signal.SIGKILL)
    killed._process.wait()
    with pytest.raises(NotReadyError):
        asked(copies, model)
    assert copies._copies["arn:model/one"] is not killed


def test_a_model_that_cannot_be_loaded_is_never_ready(tmp_path: Path, copies: Copies) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotReadyError):
        asked(copies, str(tmp_path / "empty"), wait=True)
    assert eventually(lambda: copies.states() == {})
    log = (tmp_path / "bedrock" / "copies" / "one" / "server.log").read_text()
    assert log.startswith("ERROR ")
