"""What make installs for those who only ask a model: `make --dry-run` in a folder that has nothing yet."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("target", "groups", "command"),
    [
        (["cli"], ["cli"], None),
        (["preview"], ["cli", "preview"], None),
        (["ask", "DIALOGUE=-"], ["cli"], "ask"),
        (["chat"], ["cli", "chat"], "chat"),
    ],
)
def test_asking_needs_no_tools_of_deploying_or_testing(
    tmp_path: Path, target: list[str], groups: list[str], command: str | None
) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "--dry-run", *target], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert re.findall(r"--group (\w+)", done.stdout) == groups
    assert "npm" not in done.stdout
    assert re.findall(r"bin/tuneway (\w+)", done.stdout) == ([command] if command else [])
