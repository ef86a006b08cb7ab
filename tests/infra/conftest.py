"""The app, synthesised once per session as `cdk synth` does it: without network, AWS and Docker."""

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
from pipeline import settings as schema

ROOT = Path(__file__).resolve().parents[2]
# Settings that are off by default, each alone, and all of them together.
KEY = "arn:aws:kms:us-west-2:123456789012:key/0a1b2c3d-1111-2222-3333-444455556666"
SUBNETS, GROUPS = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], ["sg-0123456789abcdef0"]
ENCRYPTED = {"encryption": {"kms_key_arn": KEY}}
VPC = {"network": {"subnets": SUBNETS, "security_groups": GROUPS}}
ISOLATED = {
    "network": {"isolation": True, "wheels": "uploads/wheels/1/"},
    "training": {"base_model": "uploads/models/llama/", "gated": False},
}
BUCKETS = {"access": {"dataset_buckets": ["our-dialogues"]}}
MAIL = {"notifications": {"email": "ml@example.com"}}
JUDGED = {"training": {"evaluation": {"judge_model": "us.amazon.nova-lite-v1:0"}}}
ALL = {**schema.overlay(schema.overlay(schema.overlay(ENCRYPTED, VPC), ISOLATED), JUDGED), **BUCKETS, **MAIL}


def run_app(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run app.py as the CDK CLI runs it. `arguments` are context values such as `settings=FILE`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    context = json.dumps(dict(argument.split("=", 1) for argument in arguments))
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        # The proxy is a closed port, so that everything that uses the network at synth fails.
        env={
            **inherited,
            # The virtual environment's node comes first, from whichever shell the tests are started.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")]),
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
    """The result of synth.

    Attributes:
        folder: the cloud assembly.
        template: the stack's template.
        definition: the state machine's definition, rendered from the template.
        stderr: what the app has printed to stderr.
    """

    folder: Path
    template: dict[str, Any]
    definition: dict[str, Any]
    stderr: str

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the template's resources of one type."""
        return {name: r for name, r in self.template["Resources"].items() if r["Type"] == kind}


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    out = tmp_path_factory.mktemp("cdk.out")
    done = run_app(out)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.template.json")
    template = json.loads(path.read_text())
    return Synthesised(out, template, definition(template), done.stderr)


def synthesise(folder: Path, settings: dict[str, Any]) -> Synthesised:
    layer = folder / "settings.yaml"
    layer.write_text(json.dumps(settings))
    done = run_app(folder / "out", f"settings={layer}")
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "out").glob("*.template.json")
    template = json.loads(path.read_text())
    return Synthesised(folder / "out", template, definition(template), done.stderr)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    """The stack with the user's own key, VPC, isolation and buckets. A finding of cdk-nag would have ended synth."""
    return synthesise(tmp_path_factory.mktemp("all"), ALL)
