"""The entry point of the training job, run as the process that SageMaker starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

START = Path(__file__).parents[3] / "training" / "start.py"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a code channel with a stand-in for the training and with nothing to install."""
    return make_code(tmp_path)


def make_code(root: Path) -> Path:
    package = root / "input" / "data" / "code" / "training"
    package.mkdir(parents=True)
    shutil.copy(START, package / "start.py")
    (package / "__init__.py").touch()
    (package / "requirements.txt").touch()
    return package


def start(code: Path, train: str, **variables: str) -> subprocess.Popen[str]:
    (code / "train.py").write_text(train)
    root = code.parents[3]
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(root), "PIP_NO_INDEX": "1"} | variables
    return subprocess.Popen(
        [sys.executable, str(code / "start.py")], env=environment, stdout=subprocess.PIPE, text=True, cwd=root
    )


def failure(code: Path) -> str:
    return (code.parents[3] / "output" / "failure").read_text()


@pytest.mark.parametrize("exit_code", [0, 3])
def test_training_is_run_as_a_module_and_its_exit_code_is_returned(code: Path, exit_code: int) -> None:
    process = start(code, f"from training import start\nprint('trained')\nraise SystemExit({exit_code})")
    assert process.communicate(timeout=60)[0].startswith("trained\n")
    assert process.returncode == exit_code
    if exit_code:
        assert failure(code).startswith("training ended with exit code 3 and no reason of its own")


def test_training_learns_how_long_the_installation_and_its_own_start_took(code: Path) -> None:
    # A slow stand-in for pip is found first, because the module path begins with PYTHONPATH.
    (code.parent / "pip.py").write_text("import time\ntime.sleep(0.5)")
    process = start(
        code,
        "import json, time\nfrom training import start\ntime.sleep(0.3)\nprint(json.dumps(start.seconds_before()))",
    )
    found = json.loads(process.communicate(timeout=60)[0])
    assert list(found) == ["install", "import"]
    assert 0.5 <= found["install"] < 20
    assert 0.3 <= found["import"] < 20


def test_training_that_is_started_by_hand_does_not_know_what_came_before(code: Path) -> None:
    command = [sys.executable, "-c", "from training import start; print(start.seconds_before())"]
    done = subprocess.run(command, cwd=code.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_trainings_own_reason_is_not_overwritten(code: Path) -> None:
    reason = (
        "import os, pathlib\npathlib.Path(os.environ['SAGEMAKER_BASE_DIR'], 'output', 'failure').write_text('mine')\n"
    )
    process = start(code, reason + "raise SystemExit(1)")
    process.communicate(timeout=60)
    assert (process.returncode, failure(code)) == (1, "mine")


def test_a_killed_training_is_reported_as_out_of_memory(code: Path) -> None:
    process = start(code, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert failure(code).startswith("out of memory: the operating system killed training")


def test_a_stop_reaches_training(code: Path) -> None:
    process = start(
        code,
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\ntime.sleep(60)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 7


def test_a_stop_before_training_listens_is_reported_as_a_stop(code: Path) -> None:
    process = start(code, "import sys, time\nsys.stdout.write('loading\\n')\ntime.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert failure(code).startswith("interrupted: asked to stop (SIGTERM) before training began")


def test_a_pin_that_cannot_be_installed_is_reported_in_one_line(code: Path) -> None:
    (code / "requirements.txt").write_text("tuneway-no-such-package==1\n")
    process = start(code, "print('trained')")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "trained" not in output
    assert failure(code).startswith("could not install training/requirements.txt (pip exit code 1): ERROR: ")
    assert "tuneway-no-such-package" in failure(code)


def test_pip_installs_from_the_wheels_channel_and_asks_no_index(code: Path) -> None:
    wheels = code.parents[1] / "wheels"
    wheels.mkdir()
    # A minimal wheel that only the channel has.
    record = "tuneway_wheel-1.dist-info"
    with zipfile.ZipFile(wheels / "tuneway_wheel-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tuneway_wheel.py", "ORIGIN = 'from the channel'")
        wheel.writestr(f"{record}/METADATA", "Metadata-Version: 2.1\nName: tuneway-wheel\nVersion: 1\n")
        wheel.writestr(f"{record}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{record}/RECORD", "")
    (code / "requirements.txt").write_text("tuneway-wheel==1\n")
    target = code.parents[3] / "installed"
    process = start(
        code,
        f"import sys\nsys.path.append({str(target)!r})\nimport tuneway_wheel\nprint(tuneway_wheel.ORIGIN)",
        # No index answers, as in an isolated job, so pip fails if it asks one. It does not install into this machine's Python.
        PIP_NO_INDEX="0",
        PIP_INDEX_URL="http://127.0.0.1:9",
        PIP_RETRIES="0",
        PIP_TARGET=str(target),
    )
    assert process.communicate(timeout=60)[0] == "from the channel\n"
    assert process.returncode == 0


def test_a_stop_while_pins_are_installed_never_starts_training(code: Path) -> None:
    # This slow stand-in for pip is found first, because the module path begins with PYTHONPATH.
    (code.parent / "pip.py").write_text("import time\ntime.sleep(30)")
    process = start(code, "print('trained')")
    log = code.parents[3] / "output" / "pip.log"
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0]
    assert process.returncode != 0
    assert "trained" not in output
    assert failure(code).startswith("interrupted: asked to stop (SIGTERM) before training began")


def resources(code: Path, hosts: list[str], current: str) -> None:
    config = code.parents[2] / "config"
    config.mkdir()
    config_file = {"hosts": hosts, "current_host": current, "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(config_file))


def gpus(code: Path, count: int) -> str:
    """Return a PATH on which nvidia-smi lists `count` GPUs."""
    folder = code.parents[3] / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\n" + "echo 'GPU 0: NVIDIA A10G (UUID: GPU-0)'\n" * count)
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


# Each line is written in one piece, because the processes share a pipe and print() writes the line end separately.
RANKS = (
    "import os, sys\n"
    "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'GLOO_SOCKET_IFNAME')\n"
    "sys.stdout.write(' '.join(os.environ[name] for name in names) + '\\n')\n"
)


@pytest.mark.usefixtures("torchrun_port")
def test_a_host_with_two_gpus_trains_in_two_processes_and_a_stop_reaches_each(code: Path) -> None:
    resources(code, ["algo-1"], "algo-1")
    process = start(
        code,
        RANKS + "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(2)  # time to save a checkpoint\n"
        "    pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'], 'stopped-' + os.environ['RANK']).touch()\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\nsys.stdout.write('ready\\n')\ntime.sleep(60)",
        PATH=gpus(code, 2),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(4)]
    assert sorted(lines) == ["0 0 2 lo", "1 1 2 lo", "ready", "ready"]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert sorted(path.name for path in code.parents[3].glob("stopped-*")) == ["stopped-0", "stopped-1"]


def test_a_job_for_cpus_is_one_process_also_on_a_host_with_gpus(code: Path) -> None:
    resources(code, ["algo-1"], "algo-1")
    (code.parents[2] / "config" / "hyperparameters.json").write_text(json.dumps({"device": "cpu"}))
    process = start(code, "import os\nprint('RANK' in os.environ)", PATH=gpus(code, 2))
    assert process.communicate(timeout=60)[0] == "False\n"


@pytest.mark.usefixtures("torchrun_port")
def test_two_hosts_connect_at_the_first_one(tmp_path: Path) -> None:
    # These addresses exist on this machine. SageMaker calls its hosts algo-1 and algo-2.
    hosts = ["127.0.0.1", "127.0.0.2"]
    processes = []
    for host in hosts:
        package = make_code(tmp_path / host)
        resources(package, hosts, host)
        processes.append(start(package, RANKS, PATH=gpus(package, 0)))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert outputs == ["0 0 2 lo\n", "1 0 2 lo\n"]
    assert [process.returncode for process in processes] == [0, 0]
