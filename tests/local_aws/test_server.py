"""Local AWS ends its processes and leaves no file outside its folder, however it ends, and can run beside another one."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_aws.core import processes
from tests.local_aws.conftest import eventually, start, stop

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

SLEEPER = """
import os, subprocess
def handler(event, context):
    child = subprocess.Popen(["sleep", "300"])
    return [os.getpid(), child.pid]
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def run_sleeper(aws: RunningAws) -> list[int]:
    """Call a function that starts a child. Return the process ids of both."""
    aws.function("sleeper", SLEEPER, aws.role("sleeper-role"))
    pids, error = aws.invoke("sleeper")
    assert error is None
    assert all(alive(pid) for pid in pids)
    return list(pids)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_local_aws_stops_with_all_processes_and_files(tmp_path: Path, sig: signal.Signals) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    aws = start(tmp_path / "state", {"TMPDIR": str(shared)})
    pids = run_sleeper(aws)
    started = time.monotonic()
    aws.process.send_signal(sig)
    assert aws.process.wait(10) == 0
    assert time.monotonic() - started < 8
    assert not [pid for pid in pids if alive(pid)]
    # MiniStack names such files after its port, so a file may be that of another local AWS on this machine.
    port = aws.endpoint.rpartition(":")[2]
    assert list(shared.iterdir()) == []
    assert not [path for path in Path(tempfile.gettempdir()).glob("*ministack*") if port in path.name]


def test_a_function_dies_when_local_aws_is_killed(tmp_path: Path) -> None:
    aws = start(tmp_path / "state")
    function, child = run_sleeper(aws)
    aws.process.kill()
    aws.process.wait(10)
    assert eventually(lambda: not alive(function), 5)
    os.kill(child, signal.SIGKILL)


def test_two_local_aws_at_once_share_nothing(aws: RunningAws, tmp_path: Path) -> None:
    other = start(tmp_path / "state")
    other.role("only-here")
    assert "only-here" in [role["RoleName"] for role in other.client("iam").list_roles()["Roles"]]
    assert "only-here" not in [role["RoleName"] for role in aws.client("iam").list_roles()["Roles"]]
    assert not aws.decisions(resource="arn:aws:iam::000000000000:role/only-here")
    assert stop(other) == 0


def test_a_child_has_only_the_environment_of_its_start(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with output.open("wb") as out:
        child = processes.start(["env"], env={"PATH": "/usr/bin:/bin", "COLOUR": "blue"}, stdout=out)
    assert child.wait(10) == 0
    names = {line.partition("=")[0] for line in output.read_text().splitlines()}
    assert names - {"LC_CTYPE"} == {"PATH", "COLOUR"}


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    script = "trap '' TERM; echo ready; sleep 60 & wait; sleep 60"
    child = processes.start(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, stdout=-1)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    processes.stop(child, grace_seconds=0.3)
    assert child.returncode == -signal.SIGKILL
    child.stdout.close()
