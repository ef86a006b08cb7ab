"""Each reader's own virtual environment, below .local/export/, kept until its pins change."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


class EnvironmentFailed(Exception):
    """pip could not install the pins: its last line."""


def ensure(name: str, home: Path) -> Path:
    """Have the environment that `NAME.txt` pins; return its Python.

    The file names every package, so pip need not (and with vLLM's must not, see there) look for what they depend on.

    Raises:
        EnvironmentFailed: pip failed.
    """
    pins = HERE / f"{name}.txt"
    folder = home / name
    python, made_of = folder / "bin" / "python", folder / "pins.txt"
    # An environment is its pins and the interpreter that they were installed for.
    wanted = f"# {sys.version}\n{pins.read_text(encoding='utf-8')}"
    if not made_of.exists() or made_of.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r", pins]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise EnvironmentFailed(f"{pins.name}: " + (done.stderr.strip().splitlines() or ["pip failed"])[-1])
        made_of.write_text(wanted, encoding="utf-8")
    return python


def pinned(name: str) -> dict[str, str]:
    """The version of every package that `NAME.txt` pins."""
    lines = (HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[arg-type]
