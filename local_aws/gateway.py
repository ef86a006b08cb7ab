"""The server behind `local_aws.server`: it patches MiniStack, registers the services, serves, and cleans up."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from local_aws.core import faults, processes
from local_aws.ministack import session_end
from local_aws.ministack.server import install, serve
from local_aws.services import (
    access_analyzer,
    bedrock,
    hub_server,
    pricing,
    quotas,
    sagemaker,
    scheduler,
    stepfunctions,
)
from local_aws.services.lambda_functions import runtime as lambda_runtime
from local_aws.services.sagemaker.container import kill


def _register_services(state_dir: Path, endpoint_url: str) -> None:
    services = (
        faults,
        access_analyzer,
        hub_server,
        lambda_runtime,
        scheduler,
        sagemaker,
        bedrock,
        pricing,
        quotas,
        stepfunctions,
        session_end,
    )
    for service in services:
        service.register(state_dir, endpoint_url)


async def _serve(port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stopped.set)
    await serve("127.0.0.1", port, stopped)


def main() -> None:
    """Serve until SIGTERM or SIGINT, then end every process that local AWS started."""
    parser = argparse.ArgumentParser(prog="python -m local_aws.gateway")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.parent:
        processes.die_with_parent()
        if os.getppid() != arguments.parent:
            sys.exit(1)
    state_dir: Path = arguments.state_dir
    _register_services(state_dir, f"http://127.0.0.1:{arguments.port}")
    install(state_dir)
    try:
        asyncio.run(_serve(arguments.port))
    finally:
        # The loop's signal handlers ended with it. A second signal (Ctrl-C reaches the whole group, then its leader sends
        # SIGTERM) would end this process before its children.
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)
        processes.stop_all()
        kill(state_dir.resolve() / "jobs")  # torchrun starts workers in sessions of their own, which outlive its group.
    # MiniStack's own threads (tickers, pollers) are daemons. But Python joins its pools at exit, and a call may block them.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
