"""One execution environment of a function: a process that sees its zip and its variables, within its memory.

Lambda reports these error types and messages for a runtime that ends ("Troubleshoot execution issues"
and "Lambda runtime errors" in the Lambda Developer Guide; https://repost.aws/knowledge-center/lambda-runtime-error).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_aws.core import processes

_MEMORY_POLL_SECONDS = 0.03
_INIT_SECONDS = 10.0  # "The Init phase is limited to 10 seconds" (Lambda runtime environment).
_MAX_RESPONSE = 6_291_556


@dataclass
class Outcome:
    """The result of one invocation: the payload's JSON text or the error document, the log, the peak memory in MB."""

    payload: str | None = None
    error: dict[str, Any] | None = None
    log: str = ""
    memory_mb: int = 0
    reusable: bool = True


@dataclass(frozen=True)
class Launch:
    """The start of a function's process. `init` is its first input line, if its runtime needs one."""

    command: list[str]
    environment: dict[str, str]
    task_root: Path
    work_dir: Path
    memory_mb: int
    timeout_seconds: float
    init: dict[str, Any] | None = None


@dataclass
class Sandbox:
    """A started execution environment. `invoke` serves one event at a time."""

    launch: Launch
    log_stream: str
    idle_since: float = field(default_factory=time.monotonic)
    _child: subprocess.Popen[Any] | None = None
    _log: bytes = b""
    _pending: bytes = b""

    def invoke(self, event: Any, request_id: str, arn: str, trace_id: str | None, fault: str = "") -> Outcome:
        """Run one event, after a start of the process if it does not run. `fault` makes it fail in this way."""
        timeout = self.launch.timeout_seconds
        if self._child is None:
            failed = self._start(request_id)
            if failed is not None:
                return failed
        deadline = time.time() + timeout
        message = {
            "event": event,
            "request_id": request_id,
            "arn": arn,
            "deadline": deadline,
            "trace_id": trace_id,
            # MiniStack's own Node bootstrap reads this form.
            "ctx": {
                "request_id": request_id,
                "invoked_function_arn": arn,
                "timeout_ms": int(timeout * 1000),
                "trace_id": trace_id,
            },
        }
        if fault == "crash" and self._child is not None:
            processes.signal_group(self._child, signal.SIGKILL)
        elif fault == "memory":
            self.launch = replace(self.launch, memory_mb=0)  # Any use of memory is too much.
        self._send(message)
        limit = 0.0 if fault == "timeout" else timeout
        outcome = self._await(request_id, limit, f"Task timed out after {timeout:.2f} seconds")
        if outcome.payload is not None and len(outcome.payload.encode()) > _MAX_RESPONSE:
            text = f"Response payload size exceeded maximum allowed payload size ({_MAX_RESPONSE} bytes)."
            outcome.payload = None
            outcome.error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text}
        self.idle_since = time.monotonic()
        return outcome

    def stop(self) -> None:
        """Kill the process and all processes that it started, and remove its files."""
        if self._child is not None:
            processes.signal_group(self._child, signal.SIGKILL)
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
                if pipe is not None:
                    pipe.close()
            self._child = None
        shutil.rmtree(self.launch.work_dir, ignore_errors=True)

    # Differs: A function's processor | AWS: in proportion to its memory | Here: a whole one | Why: two cores are few
    def _start(self, request_id: str) -> Outcome | None:
        (self.launch.work_dir / "tmp").mkdir(parents=True, exist_ok=True)
        pipe, launch = subprocess.PIPE, self.launch
        self._child = processes.start(
            launch.command, env=launch.environment, cwd=launch.task_root, stdin=pipe, stdout=pipe, stderr=pipe
        )
        if self.launch.init is not None:
            self._send(self.launch.init)
        # AWS runs a slow init again within the function's own time-out. The longer of both limits is close enough.
        limit = max(_INIT_SECONDS, self.launch.timeout_seconds)
        outcome = self._await(request_id, limit, f"Task timed out after {limit:.2f} seconds")
        if outcome.error is None:
            self._log = outcome.log.encode()  # The output of the import belongs to the first invocation's log.
            return None
        outcome.reusable = False
        return outcome

    def _send(self, message: dict[str, Any]) -> None:
        assert self._child is not None and self._child.stdin is not None
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._child.stdin.fileno(), data) :]
        except BrokenPipeError:
            return  # The process is gone: `_await` finds that out and says how it ended.

    def _await(self, request_id: str, seconds: float, timed_out: str) -> Outcome:
        """Wait for one answer line, and watch time, memory and the log."""
        child = self._child
        assert child is not None and child.stdout is not None and child.stderr is not None
        deadline = time.monotonic() + seconds
        out, err = child.stdout.fileno(), child.stderr.fileno()
        peak = 0
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                for key, _ in selector.select(_MEMORY_POLL_SECONDS):
                    data = os.read(key.fd, 1 << 16)
                    if key.fd == out:
                        self._pending += data
                    else:
                        self._log += data
                    if not data:
                        selector.unregister(key.fd)
                        if key.fd == out:
                            return self._ended(request_id, peak)
                used = memory_mb(child.pid)
                peak = max(peak, used)
                if used > self.launch.memory_mb:
                    processes.signal_group(child, signal.SIGKILL)
                    error = "Error: Runtime exited with error: signal: killed"
                    return self._failed("Runtime.OutOfMemory", f"RequestId: {request_id} {error}", peak)
                if time.monotonic() > deadline:
                    return self._failed("Sandbox.Timedout", f"RequestId: {request_id} Error: {timed_out}", peak)
        line, _, self._pending = self._pending.partition(b"\n")
        os.set_blocking(err, False)
        self._drain(err)
        os.set_blocking(err, True)
        return self._answer(json.loads(line), request_id, peak)

    def _answer(self, document: dict[str, Any], request_id: str, peak: int) -> Outcome:
        log, self._log = self._log.decode(errors="replace"), b""
        if document["status"] == "ready":
            return Outcome(log=log, memory_mb=peak)
        if document["status"] == "ok":
            payload = document["payload"] if "payload" in document else json.dumps(document.get("result"))
            return Outcome(payload=payload, log=log, memory_mb=peak)
        if "errorType" in document:
            kept = {name: document[name] for name in ("errorMessage", "errorType", "stackTrace")}
            return Outcome(error=kept | {"requestId": request_id}, log=log, memory_mb=peak)
        error = _node_error(str(document.get("error", "")), str(document.get("trace", "")))
        log += f"{document.get('trace') or document.get('error')}\n"
        return Outcome(error=error, log=log, memory_mb=peak)

    def _drain(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, 1 << 16):
                self._log += data

    # Unconfirmed: The error of a function that runs out of memory | Here: `Runtime.OutOfMemory`, `Runtime exited with
    #   error: signal: killed` | Source: public issues; older answers have `Runtime.ExitError`
    def _ended(self, request_id: str, peak: int) -> Outcome:
        """Return the outcome of a process that closed its side without an answer."""
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)  # It may have closed its pipe a moment before it ends.
        processes.signal_group(self._child, signal.SIGKILL)
        code = self._child.wait()
        if code < 0:
            name = signal.strsignal(-code) or str(-code)
            reason = f"Runtime exited with error: signal: {name.lower()}"
        elif code == 0:
            reason = "Runtime exited without providing a reason"
        else:
            reason = f"Runtime exited with error: exit status {code}"
        return self._failed("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}", peak)

    def _failed(self, kind: str, text: str, peak: int) -> Outcome:
        assert self._child is not None and self._child.stderr is not None
        processes.signal_group(self._child, signal.SIGKILL)
        self._child.wait()
        self._drain(self._child.stderr.fileno())
        log = self._log.decode(errors="replace") + text + "\n"
        self._log = b""
        return Outcome(error={"errorType": kind, "errorMessage": text}, log=log, memory_mb=peak, reusable=False)


def _node_error(message: str, trace: str) -> dict[str, Any]:
    """Return the Node runtime's error document, from the message and trace of MiniStack's Node bootstrap."""
    if message.startswith("Cannot find module"):
        return {"errorType": "Runtime.ImportModuleError", "errorMessage": f"Error: {message}", "trace": []}
    if message.startswith("Handler ") and " is not a function in " in message:
        return {"errorType": "Runtime.HandlerNotFound", "errorMessage": message, "trace": []}
    kind = trace.partition(":")[0].split("\n")[0].strip() if trace else ""
    return {"errorType": kind if kind.isidentifier() else "Error", "errorMessage": message, "trace": trace.splitlines()}


# Differs: Memory of a function | AWS: a control group kills at the limit | Here: a check of the resident set every 30 ms
#   kills | Why: the same end without privileges
def memory_mb(pid: int) -> int:
    """Return a process's peak resident memory plus its children's current memory, in MB. 0 without /proc (not Linux)."""
    total = 0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            status = Path(f"/proc/{current}/status").read_text()
            waiting += [int(p) for p in Path(f"/proc/{current}/task/{current}/children").read_text().split()]
        except OSError:
            continue
        field_name = "VmHWM:" if current == pid else "VmRSS:"
        found = [line for line in status.splitlines() if line.startswith(field_name)]
        total += int(found[0].split()[1]) if found else 0
    return total // 1024
