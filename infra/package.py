"""Download the functions' wheels for Lambda's Python and architecture, without Docker: `python -m infra.package [SETTINGS]`.

`make setup` runs it, so that synth needs no network. pip gets both platform tags: with manylinux2014 alone it silently
takes releases years old, from before a project moved to the newer tag.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.settings import Settings, SettingsError, load

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "data_prep")
"""Packages whose requirements.txt becomes the wheels of one function package."""

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}


def wheels(room: str, settings: Settings) -> Path:
    """Where the wheels of a room lie: one folder for each Python, architecture and set of pins."""
    functions = settings.functions
    return ROOT / "build" / "functions" / f"python{functions.python}-{functions.architecture}" / room


def build(settings: Settings) -> None:
    """Install each room's pinned requirements into its folder, or leave it if the pins have not changed."""
    for room in ROOMS:
        target = wheels(room, settings)
        pins = (ROOT / room / "requirements.txt").read_text(encoding="utf-8")
        marker = target / "requirements.txt"
        if marker.is_file() and marker.read_text(encoding="utf-8") == pins:
            continue
        unfinished = target.with_name(f"{room}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        machine = _MACHINES[settings.functions.architecture]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={settings.functions.python}"]
        command += [f"--platform=manylinux2014_{machine}", f"--platform=manylinux_2_28_{machine}"]
        command += [f"--requirement={ROOT / room / 'requirements.txt'}", f"--constraint={ROOT / 'constraints.txt'}"]
        subprocess.run([*command, f"--target={unfinished}"], check=True)
        (unfinished / "requirements.txt").write_text(pins, encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)


if __name__ == "__main__":
    try:
        build(load(ROOT / "config.yaml", *map(Path, sys.argv[1:])))
    except SettingsError as error:
        sys.exit(f"error: {error}")
