"""Each reader's own virtual environment. It is below .local/export/, and is kept until its pins change."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


class EnvironmentFailed(Exception):
    """pip could not install the pins. The message is pip's last line."""


def ensure(name: str, home: Path) -> Path:
    """Make sure that the environment of `NAME.txt` exists, and return its Python.

    The file names every package, so pip need not look for dependencies. With vLLM's file it must not, as that file explains.

    Raises:
        EnvironmentFailed: pip failed.
    """
    pins = HERE / f"{name}.txt"
    folder = home / name
    python, marker = folder / "bin" / "python", folder / "pins.txt"
    # An environment is valid for its pins and for the interpreter that they were installed for.
    contents = f"# {sys.version}\n{pins.read_text(encoding='utf-8')}"
    if not marker.exists() or marker.read_text(encoding="utf-8") != contents:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r", pins]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise EnvironmentFailed(f"{pins.name}: " + (done.stderr.strip().splitlines() or ["pip failed"])[-1])
        marker.write_text(contents, encoding="utf-8")
    return python


def pinned(name: str) -> dict[str, str]:
    """Return the version of every package that `NAME.txt` pins."""
    lines = (HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[arg-type]
