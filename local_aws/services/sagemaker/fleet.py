"""The fleet of one endpoint config: a server process with the model's data, under the model's execution role.

Sources: CreateModel (execution role), ProductionVariant (ModelDataDownloadTimeoutInSeconds,
ContainerStartupHealthCheckTimeoutInSeconds), "Run your own inference code" (GET /ping must answer 200 within 2
s). FailureReason of a denied pull: https://github.com/aws/sagemaker-python-sdk/issues/2002.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import processes
from local_aws.ministack.iam import authorize
from local_aws.ministack.sessions import AccessDeniedError, NotAssumableError
from local_aws.services.sagemaker import images
from local_aws.services.sagemaker.container import Container
from local_aws.services.sagemaker.hosting import data_uri, no_access
from local_aws.services.sagemaker.role import LogStream, PullDeniedError, RoleSession, describe, follow, hosting_source

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.services.sagemaker.metrics import Use
    from local_aws.services.sagemaker.store import Store

_PING_INTERVAL_SECONDS = 0.2
# The documentation gives no default. Users report eight minutes for a container that never answers.
_DEFAULT_STARTUP_SECONDS = 480


class FleetFailedError(Exception):
    """The fleet did not start. The text is the endpoint's FailureReason."""


# Differs: Instances of an endpoint | AWS: of several types, if no pool has all of them | Here: one server for all
#   instances, which are of one type | Why: there is one machine
class Fleet:
    """The instances of an endpoint, all of one type. One server serves for all of them, for any InitialInstanceCount."""

    def __init__(
        self,
        store: Store,
        endpoint_arn: str,
        endpoint_name: str,
        config: dict[str, Any],
        model: dict[str, Any],
        instance_type: str,
    ) -> None:
        self.store, self.model, self.instance_type = store, model, instance_type
        self.variant: dict[str, Any] = config["ProductionVariants"][0]
        self.log_group = f"/aws/sagemaker/Endpoints/{endpoint_name}"
        self.port = 0
        self.arn, self._endpoint_name = endpoint_arn, endpoint_name
        self.use: Use | None = None
        instance = secrets.token_hex(8)
        self._root = store.state_dir / "endpoints" / endpoint_name / instance
        self._log_name = f"{self.variant['VariantName']}/i-0{instance}"
        self._process: subprocess.Popen[Any] | None = None
        self._stream: LogStream | None = None
        self._stopped = threading.Event()
        self._requests, self._idle = 0, threading.Condition()

    def enter(self) -> None:
        """Count a request that goes to the server. Call `leave` after its answer."""
        with self._idle:
            self._requests += 1
            if self._requests == 1 and self.use is not None:
                self.use.work(begins=True)

    def leave(self) -> None:
        """Count a request as answered."""
        with self._idle:
            self._requests -= 1
            if self._requests == 0 and self.use is not None:
                self.use.work(begins=False)
            self._idle.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until all current requests are answered, so that an update loses none."""
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0, seconds)

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, sick: bool = False) -> None:
        """Pull, fetch the model, start the server and wait until it is healthy. Raises FleetFailedError.

        With `sick`, the server is killed as soon as it runs.
        """
        container, uri = self.model["PrimaryContainer"], data_uri(self.model)
        try:
            role = RoleSession(self.model["ExecutionRoleArn"], hosting_source(self.arn), self.store.endpoint_url)
        except NotAssumableError as error:
            raise FleetFailedError(no_access(uri, self.model["ExecutionRoleArn"], self.arn.split(":")[3])) from error
        image = self._pull(role, container.get("Image", ""))
        box = Container(self._root)
        if uri:
            self._fetch(role, uri, box.base / "model")
        try:
            self._stream = LogStream(role, self.log_group, self._log_name)
            authorize(
                role.credentials, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}
            )
        except ClientError as error:
            raise FleetFailedError(f"Could not write to log group {self.log_group}: {describe(error)}") from error
        except AccessDeniedError as error:
            raise FleetFailedError(f"Could not publish metrics: {error}") from error
        self.port = processes.free_port()
        environment = box.environment(
            self.store,
            role,
            service={"PYTHONPATH": str(images.REPOSITORY_ROOT), "SAGEMAKER_BIND_TO_PORT": str(self.port)},
            own=container.get("Environment", {}),
        )
        command = box.command(image.repository, [], [], self.port)
        self._process = processes.start(
            command, env=environment, cwd=box.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        follow(self._process.stdout, self._stream)
        if sick:
            processes.signal_group(self._process, signal.SIGKILL)
            self._process.wait()
        self._await_ping()
        self.use = self.store.metrics.add(self._endpoint_name, self.variant["VariantName"], self.instance_type)

    def _pull(self, role: RoleSession, uri: str) -> images.ImageUri:
        image = images.parse(uri)
        try:
            if image is not None:
                role.pull(image)
        except PullDeniedError as error:
            lacking = error.action.partition(":")[2]
            raise FleetFailedError(
                f"The role '{role.arn}' does not have {lacking} permission for the image: '{uri}'."
            ) from error
        if image is None or not images.COMMANDS.get(image.repository):
            raise FleetFailedError(
                "Please make sure all images included in the model for the production variant "
                f"{self.variant['VariantName']} exist, and that the execution role used to create the model has "
                "permissions to access them."
            )
        return image

    def _fetch(self, role: RoleSession, uri: str, folder: Path) -> None:
        started = time.monotonic()
        try:
            found = role.download(uri, folder)
        except ClientError as error:
            raise FleetFailedError(no_access(uri, role.arn, role.region)) from error
        if not found:
            raise FleetFailedError(no_access(uri, role.arn, role.region))
        limit = self.variant.get("ModelDataDownloadTimeoutInSeconds", 3600)
        if time.monotonic() - started > limit:
            raise FleetFailedError(f"Model data download from {uri} timed out after {limit} seconds.")

    # Unconfirmed: A container that dies while it starts | Here: Failed at once | Source: AWS restarts it until the
    #   health check's time is over
    # Unconfirmed: Default of ContainerStartupHealthCheckTimeoutInSeconds | Here: 480 s | Source: the documentation gives
    #   no figure
    def _await_ping(self) -> None:
        limit = self.variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _DEFAULT_STARTUP_SECONDS)
        deadline = time.monotonic() + (min(limit, self.store.settings.startup_seconds) or limit)
        # A dead server is not restarted. AWS would restart it until the time is over, and end with the same message.
        while self.alive and time.monotonic() < deadline and not self._stopped.is_set():
            if self.healthy():
                return
            self._stopped.wait(_PING_INTERVAL_SECONDS)
        raise FleetFailedError(
            f"The primary container for production variant {self.variant['VariantName']} did not pass the ping health "
            "check. Please check CloudWatch logs for this endpoint."
        )

    def healthy(self) -> bool:
        """Return whether GET /ping answers 200 within two seconds."""
        return processes.answers_ping(self.port)

    def stop(self) -> None:
        """Stop the server, write its last log lines and delete its files."""
        self._stopped.set()
        if self.use is not None and self.use.end is None:
            self.use.end = time.time()
        if self._process is not None:
            processes.stop(self._process, grace_seconds=1.0)
        if self._stream is not None:
            self._stream.close()
        shutil.rmtree(self._root, ignore_errors=True)
