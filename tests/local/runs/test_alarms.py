"""Each end of a run leads to its message, or to an alarm that the message is missing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local.deployed import Deployed

REFUSED = {"training": {"epochs": 0}}


def told(notices: Callable[[], list[str]], words: str, seconds: float = 60) -> list[str]:
    """Return all notices until one has `words`, and those of two seconds more."""
    found: list[str] = []
    deadline = time.time() + seconds
    while not any(words in notice for notice in found):
        assert time.time() < deadline, found
        time.sleep(0.2)
        found += notices()
    time.sleep(2)
    return found + notices()


def test_a_run_that_failed_has_one_message_and_no_alarm(stack: Deployed) -> None:
    with stack.listening() as notices:
        ended = stack.run(REFUSED)
        found = told(notices, "training.epochs")
    assert (ended["status"], len(found)) == ("FAILED", 1)


@pytest.mark.parametrize(
    ("action", "principal", "alarm"),
    [
        ("states:StartExecution", "CleanupRuleRole", "cleanup-not-started"),
        ("sns:Publish", "CleanupRole", "cleanup-failed"),
    ],
)
def test_a_run_whose_cleanup_cannot_tell_has_an_alarm(stack: Deployed, action: str, principal: str, alarm: str) -> None:
    stack.faults({"kind": "deny", "action": action, "principal": principal})
    try:
        with stack.listening() as notices:
            stack.run(REFUSED)
            (notice,) = told(notices, alarm)
    finally:
        stack.faults()
    found: dict[str, Any] = json.loads(notice)
    assert (found["AlarmName"], found["NewStateValue"]) == (f"{stack.prefix}-{alarm}", "ALARM")
    assert f"A run of {stack.prefix} ended" in found["AlarmDescription"]
