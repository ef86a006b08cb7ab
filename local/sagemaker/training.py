"""One training job: a process under the execution role, from Starting to its end.

Sources: DescribeTrainingJob (SecondaryStatus, FailureReason), "How Amazon SageMaker AI Processes Training
Output" (failure file, output/data, model), "Checkpoints in Amazon SageMaker AI", StopTrainingJob (SIGTERM, 120
seconds, artifacts are uploaded), CreateTrainingJob (MaxRuntimeInSeconds ends the job the same way).
"AlgorithmError: , exit code: 1" for an empty failure file:
https://github.com/aws-samples/amazon-sagemaker-ml-pipeline-deploy-with-terraform/issues/12.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tarfile
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local import faults, images, private, processes
from local.sagemaker.checkpoints import CheckpointSync
from local.sagemaker.container import Container
from local.sagemaker.metrics import Metrics
from local.sagemaker.role import LogStream, Role, describe, follow
from local.sagemaker.store import Store, now

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_DEFAULT_MAX_RUNTIME = 86_400
_POLL_SECONDS = 0.1
_FAILURE_LENGTH = 1024
_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}


class JobFailedError(Exception):
    """The job ends as Failed; the text is its FailureReason."""


class TrainingJob:
    """A job, the thread that runs it and what DescribeTrainingJob tells of it."""

    def __init__(self, store: Store, arn: str, params: dict[str, Any], *, role: Role, image: images.ImageUri) -> None:
        self.store, self.region, self.arn, self.params, self.image = store, role.region, arn, params, image
        self.name, self.instance_type = params["TrainingJobName"], params["ResourceConfig"]["InstanceType"]
        self._role = role
        self._status, self._secondary, self._failure = "InProgress", "Starting", ""
        self._created = self._modified = now()
        self._transitions: list[dict[str, Any]] = []
        self._times: dict[str, datetime] = {}
        self._artifacts = ""
        self._stop = threading.Event()
        self._timed_out = False
        self._fault = ""
        self._metrics = Metrics(params["AlgorithmSpecification"].get("MetricDefinitions", []))
        self._move("Starting")

    # -- what the API sees; the caller holds the store's lock
    # ------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether the job still holds its instance."""
        return self._status in ("InProgress", "Stopping")

    def stop(self) -> None:
        """Ask the job to end; asked twice is asked once."""
        if self._status == "InProgress":
            self._status = "Stopping"
            self._move("Stopping")
        self._stop.set()

    def describe(self) -> dict[str, Any]:
        """The members of DescribeTrainingJob."""
        description = {name: value for name, value in self.params.items() if name != "Tags"}
        description.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": _DEFAULT_MAX_RUNTIME})
        description.setdefault("EnableNetworkIsolation", False)
        description.setdefault("EnableInterContainerTrafficEncryption", False)
        description.setdefault("EnableManagedSpotTraining", False)
        description |= {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self._status,
            "SecondaryStatus": self._secondary,
            "SecondaryStatusTransitions": [dict(item) for item in self._transitions],
            "CreationTime": self._created,
            "LastModifiedTime": self._modified,
            **self._times,
        }
        if self._failure:
            description["FailureReason"] = self._failure
        if self._artifacts:
            description["ModelArtifacts"] = {"S3ModelArtifacts": self._artifacts}
        final = self._metrics.final()
        if final:
            description["FinalMetricDataList"] = final
        if "TrainingStartTime" in self._times and "TrainingEndTime" in self._times:
            seconds = max(1, round((self._times["TrainingEndTime"] - self._times["TrainingStartTime"]).total_seconds()))
            description |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        return description

    def _move(self, secondary: str) -> None:
        with self.store.lock:
            moment = now()
            if self._transitions:
                self._transitions[-1].setdefault("EndTime", moment)
            self._secondary, self._modified = secondary, moment
            entry = {"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]}
            if secondary in ("Completed", "Failed", "Stopped", "MaxRuntimeExceeded"):
                entry["EndTime"] = moment
            self._transitions.append(entry)

    # -- its life
    # ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the job on a thread of its own."""
        threading.Thread(target=self._live, name=f"training job {self.name}", daemon=True).start()

    def _live(self) -> None:
        try:
            self._run()
        except JobFailedError as error:
            self._end("Failed", "Failed", str(error))
        except Exception as error:  # Local AWS itself is at fault; the job must not hang for it.
            self._end("Failed", "Failed", f"InternalServerError: {error!r}")
            raise

    def _run(self) -> None:
        self._stop.wait(self.store.settings.status_seconds)
        self._fault = faults.take("training").how
        if self._fault == "capacity":
            raise JobFailedError(faults.TRAINING_CAPACITY)
        if self._fault == "slow":
            self._stop.wait(faults.SLOW_SECONDS)
        root = self.store.state_dir / "jobs" / self.name
        if root.exists():  # Left by an earlier job of that name: deleted since, or of an earlier local AWS.
            shutil.rmtree(root)
        container = Container(root)
        container.write_config(self.params)
        checkpoints = CheckpointSync.of(self.params, container, self._role)
        if not self._stop.is_set():
            self._advance("Downloading")
            self._download(container)
            checkpoints.restore()
        if self._stop.is_set():
            self._end("Stopped", "Stopped")
            return
        self._advance("Training")
        with self.store.lock:
            self._times["TrainingStartTime"] = now()
        exit_code = self._train(container, checkpoints)
        if exit_code and not self._stopped:
            raise JobFailedError(self._algorithm_error(container, exit_code))
        self._upload(container)
        if self._timed_out:
            self._end("Stopped", "MaxRuntimeExceeded")
        elif self._stopped:
            self._end("Stopped", "Stopped")
        else:
            self._end("Completed", "Completed")

    @property
    def _stopped(self) -> bool:
        return self._stop.is_set() or self._timed_out

    def _advance(self, secondary: str) -> None:
        with self.store.lock:
            if self._status != "Stopping":
                self._move(secondary)

    def _end(self, status: str, secondary: str, failure: str = "") -> None:
        with self.store.lock:
            self._status, self._failure = status, failure[:_FAILURE_LENGTH]
            self._times["TrainingEndTime"] = now()
            self._move(secondary)

    def _download(self, container: Container) -> None:
        for channel in self.params.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            folder = container.base / "input" / "data" / channel["ChannelName"]
            folder.mkdir()
            try:
                self._role.download(uri, folder)
            except (ClientError, ValueError) as error:
                reason = describe(error) if isinstance(error, ClientError) else str(error)
                raise JobFailedError(f"ClientError: Data download failed:{uri}: {reason}") from error

    def _train(self, container: Container, checkpoints: CheckpointSync) -> int:
        algorithm = self.params["AlgorithmSpecification"]
        stream = self._open_logs()
        environment = container.environment(
            state_dir=self.store.state_dir,
            endpoint_url=self.store.endpoint_url,
            region=self.region,
            credentials=self._role.credentials.environment(),
            own={"TRAINING_JOB_NAME": self.name, "TRAINING_JOB_ARN": self.arn, **self.params.get("Environment", {})},
        )
        command = container.command(
            self.image.repository, algorithm.get("ContainerEntrypoint", []), algorithm.get("ContainerArguments", [])
        )
        process = processes.start(
            command, env=environment, cwd=container.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        reader = follow(process.stdout, stream, self._metrics.see)
        checkpoints.start()
        try:
            exit_code = self._wait(process)
        finally:
            processes.signal_group(process, signal.SIGKILL)  # A container ends with its first process.
            reader.join(10)
            stream.close()
            checkpoints.finish()
        if stream.failure is not None:
            raise JobFailedError(f"ClientError: Could not write to log group {LOG_GROUP}: {describe(stream.failure)}")
        if checkpoints.failure is not None:
            raise JobFailedError(f"ClientError: Checkpoint upload failed: {describe(checkpoints.failure)}")
        return exit_code

    def _open_logs(self) -> LogStream:
        name = f"{self.name}/algo-1-{int(time.time())}"
        try:
            stream = LogStream(self._role, LOG_GROUP, name)
            private.authorize(
                self._role.credentials, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": LOG_GROUP}
            )
        except ClientError as error:
            raise JobFailedError(f"ClientError: Could not write to log group {LOG_GROUP}: {describe(error)}") from error
        except private.AccessDeniedError as error:
            raise JobFailedError(f"ClientError: Could not publish metrics: {error}") from error
        return stream

    def _wait(self, process: subprocess.Popen[Any]) -> int:
        limit = self.params.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_MAX_RUNTIME)
        deadline = time.monotonic() + limit
        self._apply_fault(process)
        while process.poll() is None and not self._timed_out:
            if self._stop.wait(_POLL_SECONDS):
                break
            if time.monotonic() > deadline:
                self._timed_out = True
                break
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # To the first process alone, as `docker stop` does.
            try:
                process.wait(self.store.settings.stop_grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait()
        return code if code >= 0 else 128 - code  # A container's exit code for a death by signal.

    def _apply_fault(self, process: subprocess.Popen[Any]) -> None:
        if self._fault == "fail":
            process.kill()
        elif self._fault == "stop":
            with self.store.lock:
                self.stop()
        self._timed_out = self._fault == "max-runtime"

    def _algorithm_error(self, container: Container, exit_code: int) -> str:
        failure = container.base / "output" / "failure"
        text = failure.read_text("utf-8", "replace").strip() if failure.is_file() else ""
        ending = f", exit code: {exit_code}"
        return f"AlgorithmError: {text}"[: _FAILURE_LENGTH - len(ending)] + ending

    def _upload(self, container: Container) -> None:
        self._advance("Uploading")
        output = self.params["OutputDataConfig"]
        prefix = f"{output['S3OutputPath'].rstrip('/')}/{self.name}/output/"
        compressed = output.get("CompressionType", "GZIP") == "GZIP"
        try:
            for folder, name in ((container.base / "output" / "data", "output"), (container.base / "model", "model")):
                if name == "output" and not any(folder.iterdir()):
                    continue
                if compressed:
                    self._role.upload(_archive(folder, container.root / f"{name}.tar.gz"), f"{prefix}{name}.tar.gz")
                else:
                    self._role.upload_folder(folder, prefix + ("model/" if name == "model" else "data/"))
        except ClientError as error:
            raise JobFailedError(f"ClientError: Artifact upload failed:{prefix}: {describe(error)}") from error
        with self.store.lock:
            self._artifacts = prefix + ("model.tar.gz" if compressed else "model/")


def _archive(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return target
