"""Local AWS as a child process: its start, its clients and its stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local_aws.core.processes import free_port
from local_aws.services.hub_server import PREFIX

ROOT = Path(__file__).resolve().parent.parent


class LocalAwsError(Exception):
    """Local AWS did not start."""


class LocalAws:
    """One local AWS, with one state folder and a port of its own."""

    def __init__(self, state_dir: Path, region: str, hub: Path) -> None:
        """Choose a free port, and start nothing yet. `hub` is the Hub's cache with the base models of jobs."""
        self.state_dir = state_dir
        self._hub = hub
        self.region = region
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self.hub_endpoint = f"{self.endpoint_url}{PREFIX}"
        """The access.hub_endpoint of a stack whose Plan looks at the base models of the cache."""

    def start(self, timeout: float = 60) -> None:
        """Start with an empty account, and wait until it answers.

        Raises:
            LocalAwsError: another local AWS uses the folder, or this one ended or did not answer in time (see its log).
        """
        pid_file = self.state_dir / "server.pid"
        pid = pid_file.read_text(encoding="utf-8") if pid_file.is_file() else ""
        if pid and _runs_here(int(pid), self.state_dir):
            text = f"local AWS of an earlier run is still up in {self.state_dir}: stop it with `kill {pid}`"
            raise LocalAwsError(text)
        shutil.rmtree(self.state_dir, ignore_errors=True)
        self.state_dir.mkdir(parents=True)
        (self.state_dir / "hub").symlink_to(self._hub.resolve())
        log = self.state_dir / "server.log"
        with log.open("wb") as output:
            options = [f"--port={self.port}", f"--state-dir={self.state_dir}", f"--region={self.region}"]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local_aws.server", *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        pid_file.write_text(str(self._process.pid), encoding="utf-8")
        deadline = time.time() + timeout
        while time.time() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.endpoint_url}/_ministack/health", timeout=2).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
            else:
                return
        self.stop()
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        raise LocalAwsError(f"local AWS did not start (log: {log}):\n" + "\n".join(last))

    def stop(self) -> None:
        """Stop local AWS and all jobs, functions and servers that it started. Kill it after 20 seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = None

    def client(self, service: str) -> Any:
        """Return a boto3 client as root of the local account. It is made once, because that takes longer than most calls."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                region_name=self.region,
                endpoint_url=self.endpoint_url,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 3}, read_timeout=90),
            )
        return self._clients[service]

    def control(self, path: str, document: Any = None) -> str:
        """GET one of local AWS's own controls (README.md), or POST a document to it. Return the answer."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.endpoint_url}/{path}", body)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def stack_outputs(self, stack: str) -> dict[str, str]:
        """Return the stack's outputs by key."""
        stacks = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    def denied(self) -> list[dict[str, Any]]:
        """Return every call that IAM has denied: time, principal, action, resource, context."""
        path = self.state_dir / "decisions.jsonl"
        if not path.is_file():
            return []
        decisions = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return [decision for decision in decisions if not decision["allowed"]]

    @property
    def pid(self) -> int:
        """The process id of the running local AWS. Its end also ends all processes that it started."""
        assert self._process is not None
        return self._process.pid


def _runs_here(pid: int, state_dir: Path) -> bool:
    """Return whether the process is a local AWS of this folder, and not a later process with the same id."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return str(state_dir).encode() in command
