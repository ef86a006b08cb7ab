"""The settings file of this machine: `python -m local.settings` writes .local/settings.yaml and prints its path.

It is local/settings.yaml with the Python version and architecture of this interpreter. A function's zip holds wheels for one
Python and one architecture, and here the functions run with this interpreter.
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
    """Write the settings file `target`, and return the stack's name.

    Args:
        template: the settings file that it starts from.
        target: the file to write.
        sections: fields by section, which replace those of the template.
    """
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
