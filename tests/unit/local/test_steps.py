"""A long step of `make local` is never silent."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from local import steps

if TYPE_CHECKING:
    from pathlib import Path


def test_a_long_step_prints_its_time_and_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "QUIET_SECONDS", 0.2)
    log = tmp_path / "cdk.log"
    log.write_text("first\n\x1b[1m[2/9] making a bucket\x1b[0m\n\n")
    console = Console(file=io.StringIO(), width=100)
    with steps.step(console, "cdk deploy", log):
        time.sleep(0.7)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) in (3, 4)
    assert lines[0].startswith("cdk deploy 0 s  ")
    assert "making a bucket" in lines[0]
    assert "\x1b" not in lines[0]
    assert lines[-1].startswith("cdk deploy done (0.")


def test_a_failed_step_says_so() -> None:
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(ZeroDivisionError), steps.step(console, "cdk synth"):
        raise ZeroDivisionError
    assert console.file.getvalue().startswith("cdk synth failed (0.")  # type: ignore[attr-defined]
