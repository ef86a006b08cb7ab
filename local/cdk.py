"""The real CDK CLI, pointed at local AWS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLI = ROOT / "node_modules" / ".bin" / "cdk"


class CdkError(Exception):
    """The CLI ended with an error: its name, and the last lines it printed."""


def environment(endpoint_url: str | None, region: str, home: Path) -> dict[str, str]:
    """The environment of a client of local AWS: nothing of the user's own AWS configuration reaches it.

    Args:
        endpoint_url: where local AWS answers; None for synth, which needs no AWS at all.
        region: AWS region.
        home: folder in the place of the user's home, so that `~/.aws` and `~/.cdk` stay untouched.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_", "HF_"))}
    home.mkdir(parents=True, exist_ok=True)
    made = {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
        "HOME": str(home),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_VERSION_CHECK": "1",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }
    if endpoint_url:
        made |= {"AWS_ENDPOINT_URL": endpoint_url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return made


def run(*arguments: str, env: dict[str, str], log: Path) -> None:
    """Run `cdk ARGUMENTS`, with all that it prints in `log`.

    Raises:
        CdkError: it failed.
    """
    command = [str(CLI), *arguments, "--no-notices", "--no-version-reporting"]
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ cdk {' '.join(arguments)}\n")
        output.flush()
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-12:]
        raise CdkError(f"cdk {arguments[0]} failed (all of it in {log}):\n  " + "\n  ".join(last))
