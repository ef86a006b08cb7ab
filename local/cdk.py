"""The real CDK CLI, pointed at local AWS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
CLI = ROOT / "node_modules" / ".bin" / "cdk"


class CdkError(Exception):
    """The CLI ended with an error. The message is the command's name and the last lines that the CLI has printed."""


def environment(endpoint_url: str | None, region: str, home: Path) -> dict[str, str]:
    """Return the environment of a client of local AWS. Nothing of the user's own AWS configuration reaches it.

    Args:
        endpoint_url: the address of local AWS; None for synth, which needs no AWS at all.
        region: AWS region.
        home: folder in place of the user's home, so that `~/.aws` and `~/.cdk` stay untouched.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_", "HF_"))}
    home.mkdir(parents=True, exist_ok=True)
    variables = {
        **inherited,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")]),
        "HOME": str(home),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_VERSION_CHECK": "1",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
        # Otherwise each home gets the 213 MB of the unpacked CDK anew. Parallel synths may share the cache:
        # https://aws.github.io/jsii/user-guides/lib-user/package-cache/
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(ROOT / ".local" / "jsii"),
    }
    if endpoint_url:
        variables |= {"AWS_ENDPOINT_URL": endpoint_url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return variables


class Command:
    """A command of the CDK CLI that runs beside this program. All that it prints is written to a log.

    At the end of a `with`, a command that still runs is killed.
    """

    def __init__(self, *arguments: str, env: dict[str, str], log: Path, cwd: Path = ROOT) -> None:
        """Start `cdk ARGUMENTS` in the folder `cwd`. If it has a cdk.json, the CLI may synthesise, even to bootstrap."""
        self._name, self._log = arguments[0], log
        command = [str(CLI), *arguments, "--no-notices", "--no-version-reporting"]
        with log.open("a", encoding="utf-8") as output:
            output.write(f"$ cdk {' '.join(arguments)}\n")
            output.flush()
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # `node` may be a script that starts Node, and the CLI starts the app
            )

    def __enter__(self) -> Self:
        """Return the command."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the command, and all that it started, if it still runs."""
        if self.runs:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def runs(self) -> bool:
        """Whether the command has not ended."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait for the command's end.

        Raises:
            CdkError: the command failed.
        """
        if self._process.wait():
            text = self._log.read_text(encoding="utf-8", errors="replace")
            last = [line for line in text.splitlines() if line.strip()][-12:]
            words = "\n  ".join(last)
            raise CdkError(f"cdk {self._name} failed (the whole output is in {self._log}):\n  {words}")


def run(*arguments: str, env: dict[str, str], log: Path, cwd: Path = ROOT) -> None:
    """Run `cdk ARGUMENTS` to its end in the folder `cwd`, and write all that it prints to `log`.

    Raises:
        CdkError: the command failed.
    """
    with Command(*arguments, env=env, log=log, cwd=cwd) as command:
        command.wait()
