"""CloudFormation's schemas accept the lines that a team adds for its chat and its budget (docs/operate.md)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate.md"
TEMPLATES = re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("template", TEMPLATES, ids=["chat", "budget"])
def test_cfn_lint_accepts_the_template(template: str, tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(template)
    command = [Path(sys.executable).with_name("cfn-lint"), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
