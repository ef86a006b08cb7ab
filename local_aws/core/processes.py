"""Child processes of local AWS: each starts in a group of its own, and none outlives local AWS.

A child gets a session of its own, so that one signal reaches all processes that it started. It dies with this process,
even if something kills this process. The kernel (PR_SET_PDEATHSIG) binds that to the *thread* that forked, see prctl(2).
Therefore one thread starts every child, and lives as long as the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
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

# This code runs between the fork and the real program. It asks to die with the parent, then becomes the program. A
# preexec_fn would run Python in a fork of a process with many threads, which subprocess's documentation calls unsafe.
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
    """Local AWS is stopping and starts no more processes."""


def free_port() -> int:
    """Return a port of the loopback address that is free now."""
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

    The pipes are binary. Raises ShuttingDownError after `stop_all` has begun, OSError if the program cannot start.
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
    """Send `sig` to the child and to all processes of its group. A group that has ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, sig)


def stop(*children: subprocess.Popen[Any], grace_seconds: float = 2.0) -> None:
    """End children and their groups: SIGTERM, then SIGKILL after `grace_seconds`, which run for all at once."""
    for child in children:
        signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
        signal_group(child, signal.SIGKILL)
        child.wait()


def answers_ping(port: int) -> bool:
    """Return whether the server on this port of this machine answers GET /ping with 200 within two seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop_all() -> None:
    """End every child and its group. Afterwards no child can start."""
    _stopping.set()
    with _lock:
        children = list(_children.values())
    stop(*children)
