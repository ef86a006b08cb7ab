"""Child processes of local AWS: started in groups of their own, and never left behind.

A child gets a session of its own, so that one signal reaches all it started, and dies with this process even when that
is killed. The kernel ties that promise (PR_SET_PDEATHSIG) to the *thread* that forked, see prctl(2): one thread that
lives as long as the process therefore starts every child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-aws-spawner")
_children: dict[int, subprocess.Popen[Any]] = {}
_lock = threading.Lock()
_stopping = threading.Event()

# Runs between fork and the real program: asks to die with the parent, then becomes the program. A preexec_fn would run
# Python in the forked copy of a process with many threads, which the subprocess module's documentation calls unsafe.
_SHIM = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ShuttingDownError(Exception):
    """Local AWS is stopping and starts nothing any more."""


def free_port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel (Linux only) to send `sig` to this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> subprocess.Popen[Any]:
    """Start `command` (an absolute path or a name on this process's PATH) with exactly the environment `env`.

    The pipes are binary. Raises ShuttingDownError once `stop_all` has begun, OSError when nothing could be started.
    """

    def spawn() -> subprocess.Popen[Any]:
        if _stopping.is_set():
            raise ShuttingDownError(f"local AWS is stopping: {command[0]} was not started")
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command],
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        with _lock:
            for pid in [pid for pid, other in _children.items() if other.poll() is not None]:
                del _children[pid]
            _children[child.pid] = child
        return child

    return _spawner.submit(spawn).result()


def signal_group(child: subprocess.Popen[Any], sig: signal.Signals) -> None:
    """Send `sig` to the child and to everything it started in its group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, sig)


def stop(*children: subprocess.Popen[Any], grace_seconds: float = 2.0) -> None:
    """End children and their groups: SIGTERM, then SIGKILL after `grace_seconds`, which is paid once."""
    for child in children:
        signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
        signal_group(child, signal.SIGKILL)
        child.wait()


def stop_all() -> None:
    """End every child and its group; nothing can be started afterwards."""
    _stopping.set()
    with _lock:
        children = list(_children.values())
    stop(*children)
