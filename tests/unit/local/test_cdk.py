"""Commands of the CDK CLI that run beside the driver of `make local`: their end, their failure and their death."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from local import cdk
from tests.local_aws.conftest import REGION, eventually

if TYPE_CHECKING:
    from pathlib import Path


def synth(app: str, folder: Path) -> cdk.Command:
    """Start `cdk synth` of an app that is a line of the shell."""
    env = cdk.environment(None, REGION, folder / "home")
    options = ("--app", app, "--output", str(folder / "out"))
    return cdk.Command("synth", *options, env=env, log=folder / "cdk.log")


def test_a_command_runs_beside_and_its_failure_has_its_last_words(tmp_path: Path) -> None:
    started = time.monotonic()
    with synth("sleep 1; echo 'error: no such setting' >&2; exit 3", tmp_path) as command:
        assert command.runs
        assert time.monotonic() - started < 1
        with pytest.raises(cdk.CdkError, match=r"^cdk synth failed \(the whole output is in .*cdk\.log\)") as failure:
            command.wait()
        assert not command.runs
    assert "error: no such setting" in str(failure.value)


def group_is_gone(group: int) -> bool:
    """Return whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_command_that_nobody_waits_for_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), synth(f"touch {tmp_path}/app; sleep 60", tmp_path) as command:
        process = command._process.pid
        assert eventually((tmp_path / "app").exists)
        raise KeyboardInterrupt
    assert not command.runs
    assert eventually(lambda: group_is_gone(process))
