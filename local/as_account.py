"""Live against local AWS as if it were an account: `python -m local.as_account [OPTION ...]`.

`make test-account LOCAL=1` runs it. It starts local AWS, makes what an account has before (the CDK's bootstrap, the quotas),
and runs `python -m account.run` with the options. That program gets credentials, a Region, an endpoint of AWS and a settings
file, and nothing else: it does not know where they lead.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

from local import cdk, settings, tiny_model
from local.run import HOME, REGION, RunError, allow_endpoint_update, interrupt, make
from local_aws.session import LocalAws, LocalAwsError
from pipeline.settings import overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LAYER = cdk.ROOT / "local" / "account.yaml"
RECORDING = cdk.ROOT / "docs" / "account" / "local.jsonl"


def live(
    options: Sequence[str],
    record: Path,
    folder: Path,
    address: Callable[[LocalAws], str] = lambda aws: aws.endpoint_url,
    layer: Path = LAYER,
) -> int:
    """Start local AWS, run the driver of the account, and stop local AWS.

    Args:
        options: the driver's options.
        record: the file of the recording.
        folder: a folder for local AWS and for what the CDK CLI writes.
        address: returns the endpoint that the driver gets.
        layer: the settings of this machine.

    Returns:
        The driver's exit code.

    Raises:
        LocalAwsError: local AWS did not start.
        local.run.RunError: the functions' packages could not be made.
        local.cdk.CdkError: the account could not be bootstrapped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model.ensure(HOME / "hub")
    aws = LocalAws(folder / "aws", REGION, HOME / "hub")
    target = folder / "settings.yaml"
    settings.write(layer, target, access={"hub_endpoint": aws.hub_endpoint})
    make("infra.package", str(_whole(target, folder)))
    aws.start()
    try:
        allow_endpoint_update(aws)
        env = cdk.environment(address(aws), REGION, folder / "home")
        cdk.run("bootstrap", f"aws://000000000000/{REGION}", env=env, log=folder / "cdk.log", cwd=folder)
        own = ("--settings", str(target), "--record", str(record), "--looks", "0.3", "1", "--yes")
        command = [sys.executable, "-m", "account.run", *own, *options]
        return subprocess.run(command, cwd=cdk.ROOT, env=env, check=False).returncode
    finally:
        aws.stop()


def _whole(layer: Path, folder: Path) -> Path:
    """Write the file of all settings that the driver will have, for the functions' packages."""
    documents: list[dict[str, Any]] = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (cdk.ROOT / "account" / "settings.yaml", layer)
    ]
    target = folder / "whole.yaml"
    target.write_text(yaml.safe_dump(overlay(*documents), sort_keys=False), encoding="utf-8")
    return target


def main() -> None:
    """Live once. The recording is docs/account/local.jsonl."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        code = live(sys.argv[1:], RECORDING, HOME / "as-account")
    except (LocalAwsError, RunError, cdk.CdkError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: local AWS and all that it ran are stopped")
    sys.exit(code)


if __name__ == "__main__":
    main()
