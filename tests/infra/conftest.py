"""The app synthesised once a session, as `cdk synth` does it: no network, no AWS, no Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.print_definition import definition

ROOT = Path(__file__).resolve().parents[2]


def run_app(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run app.py as the CDK CLI runs it; `arguments` are context values such as `settings=FILE`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    context = json.dumps(dict(argument.split("=", 1) for argument in arguments))
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        # A closed port as proxy: whatever wants the network at synth fails.
        env={
            **kept,
            # The virtual environment's node, whichever shell the tests are started from.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
            "CDK_OUTDIR": str(out),
            "CDK_CONTEXT_JSON": context,
            "HTTPS_PROXY": "http://127.0.0.1:9",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True)
class Synthesised:
    """What synth left: the template and, rendered out of it, the state machine's definition."""

    folder: Path
    template: dict[str, Any]
    definition: dict[str, Any]
    said: str

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """The template's resources of one type."""
        return {name: r for name, r in self.template["Resources"].items() if r["Type"] == kind}


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    out = tmp_path_factory.mktemp("cdk.out")
    done = run_app(out)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.template.json")
    template = json.loads(path.read_text())
    return Synthesised(out, template, definition(template), done.stderr)
