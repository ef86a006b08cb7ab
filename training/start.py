"""The training job's entry point: install the pins, then run `python -m training.train`.

SageMaker starts it as `python3 /opt/ml/input/data/code/training/start.py`. It may only use the standard library: the
rest is not there yet.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

HERE = Path(__file__).resolve().parent
STOPPED = 128 + signal.SIGTERM


class Child:
    """Runs one command at a time and hands it the SIGTERM that this process, the container's first, receives."""

    def __init__(self) -> None:
        """Starts listening for SIGTERM."""
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._forward)

    def run(self, command: list[str], *, log: Path | None = None) -> int:
        """Returns the command's exit code; its output goes to the job's log, or to the file `log`."""
        if self.stopped:
            return STOPPED
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1"}
        if log is None:
            self._process = subprocess.Popen(command, env=environment)
        else:
            with log.open("wb") as output:
                self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        if self.stopped:  # SIGTERM came while the process was being made
            self._process.terminate()
        return self._process.wait()

    def _forward(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def main() -> int:
    """Returns the job's exit code: training's own, or 1 when it could not be started."""
    root = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    failure = root / "output" / "failure"
    failure.parent.mkdir(parents=True, exist_ok=True)
    child = Child()
    pip_log = failure.parent / "pip.log"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    wheels = root / "input" / "data" / "wheels"
    if wheels.is_dir():  # network.wheels: PyPI is not to be asked, or cannot be reached
        pip += ["--no-index", "--find-links", str(wheels)]
    code = child.run([*pip, "--requirement", str(HERE / "requirements.txt")], log=pip_log)
    if child.stopped:
        line = "interrupted: asked to stop (SIGTERM) before training began; no model was published, start the run again"
    elif code != 0:
        lines = pip_log.read_text(encoding="utf-8", errors="replace").split("\n")
        reason = next((text for text in lines if text.startswith("ERROR")), "see the job's log")
        print("\n".join(lines), flush=True)
        line = f"could not install training/requirements.txt (pip exit code {code}): {reason}"
    else:
        code = child.run([sys.executable, "-m", "training.train"])
        if code == 0 or failure.exists():
            return _exit_code(code)
        line = f"training ended with exit code {code} and no reason of its own; see the job's log"
        if code == -signal.SIGKILL:
            line = (
                "out of memory: the operating system killed training; lower training.batch_size or "
                "training.max_length, or choose an instance type with more memory"
            )
    failure.write_text(line[:1024], encoding="utf-8")
    print(line, flush=True)
    return _exit_code(code) or 1


def _exit_code(code: int) -> int:
    """Returns what a shell would: a process ended by signal n counts as 128 + n."""
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
