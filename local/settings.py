"""The settings file of this machine: `python -m local.settings` writes .local/settings.yaml and prints its path.

It is local/settings.yaml and the interpreter at hand: a function's zip holds wheels of one Python and one architecture, and
here the functions run with this one.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "local" / "settings.yaml"
TARGET = ROOT / ".local" / "settings.yaml"


def write(template: Path = TEMPLATE, target: Path = TARGET, **sections: dict[str, Any]) -> str:
    """Write `target`, with the fields of `sections` laid over the template; returns the stack's name."""
    settings = yaml.safe_load(template.read_text(encoding="utf-8"))
    for name, fields in sections.items():
        settings[name] = {**settings.get(name, {}), **fields}
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    settings["functions"] = {"python": f"3.{sys.version_info.minor}", "architecture": architecture}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return str(settings["stack"]["name"])


if __name__ == "__main__":
    write()
    print(TARGET)
