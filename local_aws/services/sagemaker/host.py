"""One instance of a training job: its container, its first process, its log stream and its checkpoints.

Sources: "How Amazon SageMaker AI Processes Training Output" (failure file), "How Amazon SageMaker AI Signals
Algorithm Success and Failure" (exit code), StopTrainingJob (SIGTERM, then SIGKILL).
"""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import processes
from local_aws.services.sagemaker.checkpoints import CheckpointSync
from local_aws.services.sagemaker.container import Container, kill
from local_aws.services.sagemaker.role import LogStream, RoleSession, describe, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from threading import Thread

LOG_GROUP = "/aws/sagemaker/TrainingJobs"


class JobFailedError(Exception):
    """The job ends as Failed. The text is its FailureReason."""


# Differs: The network of a job's hosts | AWS: its own | Here: the loopback of this machine: two jobs that use the same
#   port at the same time collide | Why: only root can make another network
class Host:
    """The instance `number` (from 1 on) of the job of the request `params`."""

    def __init__(self, number: int, root: Path, params: dict[str, Any], role: RoleSession) -> None:
        """Make the container's folders, which must not exist yet."""
        self.number, self._params, self._role = number, params, role
        self.container = Container(root)
        self.container.write_config(params, number)
        self.checkpoints = CheckpointSync.of(params, self.container, role)
        self._process: subprocess.Popen[Any] | None = None
        self._stream: LogStream | None = None
        self._reader: Thread | None = None

    def download(self) -> None:
        """Fill the channels and the checkpoints. Raises JobFailedError."""
        for channel in self._params.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            folder = self.container.base / "input" / "data" / channel["ChannelName"]
            folder.mkdir()
            try:
                self._role.download(uri, folder)
            except (ClientError, ValueError) as error:
                reason = describe(error) if isinstance(error, ClientError) else str(error)
                raise JobFailedError(f"ClientError: Data download failed:{uri}: {reason}") from error
        self.checkpoints.restore()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], moment: int, see: Callable[[str], None]
    ) -> None:
        """Start the container, whose log stream's name ends in `moment`; `see` gets every line. Raises JobFailedError."""
        name = f"{self._params['TrainingJobName']}/algo-{self.number}-{moment}"
        try:
            self._stream = LogStream(self._role, LOG_GROUP, name)
        except ClientError as error:
            raise JobFailedError(f"ClientError: Could not write to log group {LOG_GROUP}: {describe(error)}") from error
        self._process = processes.start(
            command, env=environment, cwd=self.container.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = follow(self._process.stdout, self._stream, see)
        self.checkpoints.start()

    @property
    def exit_code(self) -> int | None:
        """The container's exit code: None while it runs, 128 plus the signal after a signal."""
        code = self._process.poll() if self._process else None
        return 128 - code if code is not None and code < 0 else code

    @property
    def failure(self) -> str:
        """The text that the script wrote for FailureReason."""
        file = self.container.base / "output" / "failure"
        return file.read_text("utf-8", "replace").strip() if file.is_file() else ""

    def terminate(self) -> None:
        """Ask only the first process to end, as `docker stop` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End every process of the container, without a warning."""
        if self._process is not None:
            processes.signal_group(self._process, signal.SIGKILL)
            kill(self.container.base)
            self._process.wait()

    def wait(self, deadline: float) -> None:
        """Wait until the first process has ended, and kill the container at `deadline` of the monotonic clock."""
        if self._process is not None:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self) -> None:
        """End the container's other processes (it ends with its first process), its log and the uploads."""
        self.kill()
        if self._reader is not None:
            self._reader.join(10)
        if self._stream is not None:
            self._stream.close()
        self.checkpoints.finish()

    def check(self) -> None:
        """Raise JobFailedError if the role lacked a permission while the container ran."""
        if self._stream is not None and self._stream.failure is not None:
            reason = describe(self._stream.failure)
            raise JobFailedError(f"ClientError: Could not write to log group {LOG_GROUP}: {reason}")
        if self.checkpoints.failure is not None:
            raise JobFailedError(f"ClientError: Checkpoint upload failed: {describe(self.checkpoints.failure)}")


def terminate(hosts: Iterable[Host], grace_seconds: float) -> None:
    """Send SIGTERM to the first process of every host, then SIGKILL to the containers that do not end in time."""
    running = [host for host in hosts if host.exit_code is None]
    for host in running:
        host.terminate()
    deadline = time.monotonic() + grace_seconds
    for host in running:
        host.wait(deadline)


def uploaded_checkpoints(hosts: Iterable[Host]) -> int:
    """Return the number of checkpoints, by name, that these hosts have uploaded since they started."""
    return len(set().union(*(host.checkpoints.complete for host in hosts)))


# Unconfirmed: /opt/ml/model and /opt/ml/output/data of several hosts | Here: merged; if names clash, the first host's file
#   counts | Source: "SageMaker AI aggregates the result in a TAR file", names should not clash; taken over for
#   CompressionType NONE
# Unconfirmed: A failed job's /opt/ml/output/data | Here: not uploaded | Source: the documentation mentions only the end of
#   training
def upload_output(hosts: Iterable[Host], prefix: str, role: RoleSession) -> str:
    """Upload the output of all hosts below an S3 URI that ends in "/". Return S3ModelArtifacts. Raises ClientError."""
    for folder, target in (("output/data", "data/"), ("model", "model/")):
        found: dict[str, Path] = {}
        for base in (host.container.base / folder for host in hosts):
            for path in sorted(base.rglob("*")):
                found.setdefault(path.relative_to(base).as_posix(), path)
        role.upload_files(found, prefix + target)
    return f"{prefix}model/"
