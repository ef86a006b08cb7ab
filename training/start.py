"""The training job's entry point. It installs the pinned packages, then runs training with one process per GPU.

SageMaker starts it as `python3 /opt/ml/input/data/code/training/start.py`. It uses the standard library alone, because no
other package is installed yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

HERE = Path(__file__).resolve().parent
STOPPED = 128 + signal.SIGTERM
INTERRUPTED = (
    "interrupted: asked to stop (SIGTERM) before training began; no model was published. Redrive the execution: training goes "
    "on from its last checkpoint, if it has one"
)
MASTER_PORT = 29500
INSTALL, BEGAN = "TUNEWAY_INSTALL_SECONDS", "TUNEWAY_TRAINING_BEGAN"
"""Environment variables of the training: the seconds of the installation, and the epoch seconds when training was started."""


class Child:
    """Runs one command at a time, and forwards the SIGTERM that this process, the container's first, receives."""

    def __init__(self) -> None:
        """Start listening for SIGTERM."""
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._forward)

    def run(self, command: list[str], *, log: Path | None = None) -> int:
        """Run the command, and return its exit code. Its output goes to the job's log, or to the file `log`."""
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
            for process in _workers(self._process.pid) or [self._process.pid]:
                os.kill(process, signal.SIGTERM)


def _workers(launcher: int) -> list[int]:
    """Return the processes that torchrun has started; none if `launcher` is not torchrun.

    The signal goes to them and not to torchrun, which would kill them 30 seconds after it, in the middle of a checkpoint.
    """
    try:
        if b"torch.distributed.run" not in Path(f"/proc/{launcher}/cmdline").read_bytes():
            return []
        children = [path.read_text() for path in Path(f"/proc/{launcher}/task").glob("*/children")]
    except OSError:  # it has just ended
        return []
    return [int(child) for text in children for child in text.split()]


def _training(root: Path) -> list[str]:
    """Return the command that trains on this host. It is torchrun if the job has more than one process.

    There is one process per GPU, or one without GPUs. resourceconfig.json names the hosts and not the number of GPUs. It comes
    from nvidia-smi, as in SageMaker's training toolkit.
    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
    """
    config, hyperparameters = _config(root, "resourceconfig"), _config(root, "hyperparameters")
    hosts = sorted(config.get("hosts") or ["localhost"])
    listed = ""
    if hyperparameters.get("device") != "cpu":
        with contextlib.suppress(FileNotFoundError):
            listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
    processes = max(1, sum(line.startswith("GPU ") for line in listed.splitlines()))
    if len(hosts) < 2 and processes == 1:
        return [sys.executable, "-m", "training.train"]
    # torchrun's own default is one thread per process, with a warning.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # The network interface between the hosts. Without its name, gloo and nccl may choose another one.
    for library in ("GLOO", "NCCL") if "network_interface_name" in config else ():
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", config["network_interface_name"])
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts)}"),
        *(f"--node-rank={hosts.index(config.get('current_host', hosts[0]))}", f"--nproc-per-node={processes}"),
        *(f"--master-addr={hosts[0] if len(hosts) > 1 else '127.0.0.1'}", f"--master-port={MASTER_PORT}"),
        *("-m", "training.train"),
    ]


def seconds_before() -> dict[str, float]:
    """Return what a job needed before its first phase: to install the packages, and to import them until now.

    It is empty if the training was not started by this file.
    """
    if INSTALL not in os.environ or BEGAN not in os.environ:
        return {}
    return {"install": float(os.environ[INSTALL]), "import": max(time.time() - float(os.environ[BEGAN]), 0.0)}


def _config(root: Path, name: str) -> dict[str, Any]:
    file = root / "input" / "config" / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def main() -> int:
    """Run the job, and return its exit code: that of training, or 1 if training could not be started."""
    root = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    failure = root / "output" / "failure"
    failure.parent.mkdir(parents=True, exist_ok=True)
    child = Child()
    pip_log = failure.parent / "pip.log"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    wheels = root / "input" / "data" / "wheels"
    if wheels.is_dir():  # network.wheels: PyPI is not to be asked, or cannot be reached
        pip += ["--no-index", "--find-links", str(wheels)]
    started = time.monotonic()
    code = child.run([*pip, "--requirement", str(HERE / "requirements.txt")], log=pip_log)
    if child.stopped:
        line = INTERRUPTED
    elif code != 0:
        lines = pip_log.read_text(encoding="utf-8", errors="replace").split("\n")
        reason = next((text for text in lines if text.startswith("ERROR")), "see the job's log")
        print("\n".join(lines), flush=True)
        line = (
            f"could not install training/requirements.txt (pip exit code {code}): {reason}; check the job's access to PyPI or "
            "network.wheels, then redrive the execution"
        )
    else:
        command = _training(root)
        os.environ |= {INSTALL: f"{time.monotonic() - started:.2f}", BEGAN: f"{time.time():.2f}"}
        code = child.run(command)
        if code == 0 or failure.exists():
            return _exit_code(code)
        line = f"training ended with exit code {code} and no reason of its own; look into the job's log"
        if code == -signal.SIGKILL:
            line = (
                "out of memory: the operating system killed training; lower training.batch_size or "
                "training.max_length, or choose training.instance_types with more memory"
            )
        if child.stopped:  # the signal came while torch was loading, before training listened for it
            line = INTERRUPTED
    failure.write_text(line[:1024], encoding="utf-8")
    print(line, flush=True)
    return _exit_code(code) or 1


def _exit_code(code: int) -> int:
    """Return the exit code that a shell would: 128 + n for a process that signal n has ended."""
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
