"""The checks of this machine: the settings files, and Python, the packages and the CDK CLI against the pinned versions."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from cli.checks.result import CheckResult, failure, ok, warning
from serving import stack as stacks
from serving.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings

MOST_NAMED = 5
"""The most packages that a line names."""


def settings(file: Path | None) -> tuple[CheckResult, Settings]:
    """Read and check the settings files. Raises SettingsError."""
    found = stacks.load(file)
    return ok(f"config.yaml{f' and {file}' if file else ''}: the stack {found.stack.name}"), found


def versions() -> CheckResult:
    """Compare Python with pyproject.toml, the packages with constraints.txt, and the CDK CLI with package.json."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project)
    assert supported is not None, "pyproject.toml has no requires-python"
    least, above = int(supported[1]), int(supported[2])
    python = sys.version.split()[0]
    if not least <= sys.version_info.minor < above:
        return failure(
            f"Python is {python}, and Tuneway needs 3.{least} to 3.{above - 1}; remove .venv, and run `make setup "
            f"PYTHON=python3.{above - 1}`"
        )
    others = _other_packages(ROOT / "constraints.txt")
    if others:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        return warning(
            f"packages have other versions than constraints.txt: {', '.join(others[:MOST_NAMED])}{more}; run `make setup`"
        )
    wanted, found = cdk_versions(ROOT)
    if found is None:
        return warning(f"the CDK CLI {wanted} is not installed, so that nothing can be deployed; run `make setup`")
    if found != wanted:
        return warning(f"the CDK CLI is {found}, and package.json has {wanted}; run `make setup`")
    return ok(f"Python {python}, CDK CLI {found}, packages as in constraints.txt")


def cdk_versions(root: Path) -> tuple[str, str | None]:
    """Return the version of the CDK CLI in package.json, and the installed one. None if it is not installed."""
    wanted = json.loads((root / "package.json").read_text(encoding="utf-8"))
    installed = root / "node_modules" / "aws-cdk" / "package.json"
    version = json.loads(installed.read_text(encoding="utf-8"))["version"] if installed.is_file() else None
    pinned = {**wanted.get("dependencies", {}), **wanted.get("devDependencies", {})}
    return str(pinned["aws-cdk"]), version


def _other_packages(constraints: Path) -> list[str]:
    """Return each installed package whose version is not the pinned one."""
    found = []
    for line in constraints.read_text(encoding="utf-8").split():
        name, _, pinned = line.partition("==")
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # Each group of packages is installed when it is needed.
        # torch's version for machines without a GPU ends in +cpu.
        if version.partition("+")[0] != pinned:
            found.append(f"{name} {version} (not {pinned})")
    return found
