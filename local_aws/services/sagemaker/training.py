"""One training job under its execution role, with a container per host, from Starting to its end.

Sources: DescribeTrainingJob (SecondaryStatus, FailureReason), StopTrainingJob (SIGTERM, 120 seconds, artifacts are
uploaded), CreateTrainingJob (MaxRuntimeInSeconds ends the job the same way), "Managed Spot Training" and its
"Lifecycle" (Interrupted, MaxWaitTimeExceeded), "Resume training from a checkpoint" (restored in each instance).
"AlgorithmError: , exit code: 1" for an empty failure file:
https://github.com/aws-samples/amazon-sagemaker-ml-pipeline-deploy-with-terraform/issues/12.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.core import faults
from local_aws.ministack.iam import authorize
from local_aws.ministack.sessions import AccessDeniedError
from local_aws.services.sagemaker.host import (
    LOG_GROUP,
    Host,
    JobFailedError,
    terminate,
    upload_output,
    uploaded_checkpoints,
)
from local_aws.services.sagemaker.record import DEFAULT_MAX_RUNTIME, FAILURE_LENGTH, Record
from local_aws.services.sagemaker.role import RoleSession, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_aws.services.sagemaker import images
    from local_aws.services.sagemaker.instances import Instances
    from local_aws.services.sagemaker.metrics import JobUse
    from local_aws.services.sagemaker.store import Store

_POLL_SECONDS = 0.1


class TrainingJob:
    """A job and the thread that runs it.

    Attributes:
        params: the CreateTrainingJob request.
        instances: the instances that it has or waits for.
        spot: whether it runs on spot instances.
    """

    def __init__(
        self,
        store: Store,
        arn: str,
        params: dict[str, Any],
        *,
        wanted: list[Instances],
        role: RoleSession,
        image: images.ImageUri,
    ) -> None:
        self.store, self.arn, self.params, self.image = store, arn, params, image
        self.name, self._wanted, self.instances = params["TrainingJobName"], wanted, wanted[0]
        self.spot = bool(params.get("EnableManagedSpotTraining"))
        self._role = role
        self._record = Record(store.lock, arn, params)
        self._stop = threading.Event()
        self._stopped_by = "Stopped"  # The last secondary status of a stopped job.
        stopping = params.get("StoppingCondition", {})
        self._runtime_left: float = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME)
        self._wait_until = time.monotonic() + (stopping["MaxWaitTimeInSeconds"] if self.spot else math.inf)
        self._stream_moment = 0
        self._use: JobUse | None = None

    # -- for the API; the caller holds the store's lock

    @property
    def active(self) -> bool:
        """Whether the job has not ended, and so counts against the quota."""
        return self._record.status in ("InProgress", "Stopping")

    def stop(self) -> None:
        """Ask the job to end. A second call changes nothing."""
        self._record.stopping()
        self._stop.set()

    def describe(self) -> dict[str, Any]:
        """Return the members of DescribeTrainingJob."""
        return self._record.describe()

    # -- the job's thread

    def start(self) -> None:
        """Run the job on a thread of its own."""
        threading.Thread(target=self._live, name=f"training job {self.name}", daemon=True).start()

    def _live(self) -> None:
        try:
            self._run()
        except JobFailedError as error:
            self._record.end("Failed", "Failed", str(error))
        except Exception as error:  # This is an error of local AWS itself. The job must still end.
            self._record.end("Failed", "Failed", f"InternalServerError: {error!r}")
            raise

    # Unconfirmed: A reclaimed spot job | Here: all its hosts get SIGTERM, and SIGKILL 120 s later, even if one ends with
    #   0; only checkpoints are kept; then Interrupted, Starting, Downloading, Training in empty containers with new log
    #   streams | Source: "Managed Spot Training Lifecycle" for the statuses; EC2's notice of two minutes and
    #   StopTrainingJob for the signals; that hosts get signals, and all of them, is a guess
    def _run(self) -> None:
        interrupted = True
        while interrupted and self._get_instances():
            began = time.monotonic()
            self._record.launched(self.instances)
            try:
                interrupted = self._use_instances()
            finally:
                self._record.add_time(time.monotonic() - began)
            if interrupted:
                self._record.advance("Interrupted")
                self._pause(self.store.settings.status_seconds)
                self._record.advance("Starting")
        if self._stop.is_set():
            self._record.end("Stopped", self._stopped_by)
        else:
            self._record.end("Completed", "Completed")

    def _get_instances(self) -> bool:
        """Wait for the instances. Return whether the job got them before a stop."""
        self._pause(self.store.settings.status_seconds)
        fault = ""
        for instances in self._wanted:
            self.instances = instances
            fault = faults.take("training", "capacity", "slow", instance_type=instances.type).how
            if fault != "capacity":
                break
        if fault == "slow":
            self._pause(faults.SLOW_SECONDS)
        if fault == "capacity" and not self.spot:
            raise JobFailedError(faults.TRAINING_CAPACITY)
        if fault == "capacity":
            self._pause(math.inf)
        return not self._stop.is_set()

    def _pause(self, seconds: float) -> None:
        """Wait, at most until the job is stopped or its MaxWaitTimeInSeconds is over."""
        until = min(time.monotonic() + seconds, self._wait_until)
        self._stop.wait(max(0.0, until - time.monotonic()))
        self._check_wait_time()

    # Unconfirmed: MaxWaitTimeInSeconds | Here: counts from the creation; the job is Stopping, then Stopped and
    #   MaxWaitTimeExceeded, as after any other stop | Source: StoppingCondition, "Managed Spot Training Lifecycle"; the
    #   upload of the model then is from StopTrainingJob
    def _check_wait_time(self) -> None:
        if time.monotonic() >= self._wait_until and not self._stop.is_set():
            self._stopped_by = "MaxWaitTimeExceeded"
            self.stop()

    def _use_instances(self) -> bool:
        """Do the job's work on its instances. Return whether AWS took them back. Raises JobFailedError."""
        root = self.store.state_dir / "jobs" / self.name
        if root.exists():  # From instances that AWS took back, or from an earlier job of that name.
            shutil.rmtree(root)
        numbers = range(1, self.instances.count + 1)
        launched = {"InstanceType": self.instances.type, "InstanceCount": self.instances.count}
        params = {**self.params, "ResourceConfig": launched}
        hosts = [Host(number, root / f"algo-{number}", params, self._role) for number in numbers]
        self._record.advance("Downloading")
        for host in hosts:
            host.download()
        if self._stop.is_set():
            return False
        self._record.advance("Training")
        began = time.monotonic()
        try:
            self._start(hosts)
            interrupted = self._watch(hosts)
            failed = [host for host in hosts if host.exit_code]
        finally:
            for host in hosts:
                host.close()
            if self._use is not None:
                self._use.end = time.time()
        self._runtime_left -= time.monotonic() - began
        for host in hosts:
            host.check()
        if interrupted:
            return True
        if failed and not self._stop.is_set():
            raise JobFailedError(_algorithm_error(failed, hosts))
        self._upload(hosts)
        return False

    def _start(self, hosts: Sequence[Host]) -> None:
        try:
            authorize(self._role.credentials, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": LOG_GROUP})
        except AccessDeniedError as error:
            raise JobFailedError(f"ClientError: Could not publish metrics: {error}") from error
        use = self._use = self.store.metrics.add_job(self.name, self.instances.count, self.instances.type)

        def see(line: str) -> None:
            use.seen.extend((name, time.time(), value) for name, value in self._record.metrics.see(line))

        algorithm = self.params["AlgorithmSpecification"]
        self._stream_moment = max(int(time.time()), self._stream_moment + 1)  # Each stream needs a new name.
        for host in hosts:
            environment = host.container.environment(
                self.store,
                self._role,
                service={"TRAINING_JOB_NAME": self.name, "TRAINING_JOB_ARN": self.arn},
                own=self.params.get("Environment", {}),
            )
            command = host.container.command(
                self.image.repository, algorithm.get("ContainerEntrypoint", []), algorithm.get("ContainerArguments", [])
            )
            host.start(command, environment, self._stream_moment, see)

    # Unconfirmed: A stopped or timed-out job | Here: SIGTERM to the first process, SIGKILL 120 s later, artifacts
    #   uploaded, status Stopped; its exit code does not matter | Source: StopTrainingJob, CreateTrainingJob; the effect of
    #   an error code is a guess
    # Unconfirmed: Several hosts, one fails | Here: the job is Failed, the others are killed at once; the text is that
    #   of the host that failed, else of the first host that wrote one; the exit code is that of the host that failed |
    #   Source: an exit code other than 0 is Failed ("How SageMaker AI Signals Algorithm Success and Failure"), which does
    #   not mention several hosts
    # Unconfirmed: Several hosts, one ends with 0 | Here: the others run on, the job is Completed when all have ended |
    #   Source: sagemaker-python-sdk issue 1067, which asks what such hosts cost
    def _watch(self, hosts: Sequence[Host]) -> bool:
        """Wait until all hosts have ended, one has failed or the job must end. Return whether AWS took the instances back."""
        deadline, interrupted = time.monotonic() + self._runtime_left, False
        while any(host.exit_code is None for host in hosts) and not any(host.exit_code for host in hosts):
            if time.monotonic() >= deadline:
                self._exceed_runtime()
            self._check_wait_time()
            interrupted = not self._stop.is_set() and self._meet_fault(hosts)
            if interrupted or self._stop.wait(_POLL_SECONDS):
                terminate(hosts, self.store.settings.stop_grace_seconds)
                break
        return interrupted

    # Unconfirmed: MaxRuntimeInSeconds of a reclaimed job | Here: the time in Training of all attempts together |
    #   Source: StoppingCondition, about RetryStrategy's attempts
    def _exceed_runtime(self) -> None:
        if not self._stop.is_set():
            self._stopped_by = "MaxRuntimeExceeded"
            self._stop.set()

    def _meet_fault(self, hosts: Sequence[Host]) -> bool:
        """Carry out a fault that is due. Return whether it takes the instances back."""
        hows = ("fail", "kill", "stop", "max-runtime", *(("reclaim",) if self.spot else ()))
        how = faults.take("training", *hows, checkpoints=uploaded_checkpoints(hosts)).how
        if how in ("fail", "kill"):
            # The last host, because the others wait for the first one and would miss it at once.
            next((host for host in reversed(hosts) if host.exit_code is None), hosts[-1]).kill()
        elif how == "stop":
            with self.store.lock:
                self.stop()
        elif how == "max-runtime":
            self._exceed_runtime()
        return how == "reclaim"

    def _upload(self, hosts: Sequence[Host]) -> None:
        self._record.advance("Uploading")
        prefix = f"{self.params['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output/"
        try:
            artifacts = upload_output(hosts, prefix, self._role)
        except ClientError as error:
            raise JobFailedError(f"ClientError: Artifact upload failed:{prefix}: {describe(error)}") from error
        with self.store.lock:
            self._record.artifacts = artifacts


# Unconfirmed: FailureReason of a script | Here: `AlgorithmError: TEXT, exit code: N`, TEXT cut to 1024 characters in all |
#   Source: seen with an empty text; other public reports have a second form, `AlgorithmError: Exit Code: N`
def _algorithm_error(failed: Sequence[Host], hosts: Sequence[Host]) -> str:
    """Return FailureReason, with the text of a failed host, or else of the first host that wrote one."""
    host = next((host for host in failed if host.failure), failed[0])
    text = host.failure or next((other.failure for other in hosts if other.failure), "")
    ending = f", exit code: {host.exit_code}"
    return f"AlgorithmError: {text}"[: FAILURE_LENGTH - len(ending)] + ending
