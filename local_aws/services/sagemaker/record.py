"""The statuses, times and reasons of one training job, for DescribeTrainingJob.

Sources: DescribeTrainingJob and SecondaryStatusTransition in the API Reference; "Managed Spot Training Lifecycle"
(Interrupted, MaxWaitTimeExceeded).
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from typing import TYPE_CHECKING, Any

from local_aws.services.sagemaker.store import now, validation_error

if TYPE_CHECKING:
    from datetime import datetime

    from local_aws.services.sagemaker.instances import Instances

DEFAULT_MAX_RUNTIME = 86_400
FAILURE_LENGTH = 1024
# BillableTimeInSeconds of a spot job per TrainingTimeInSeconds. The saving of 60 % is invented.
_SPOT_SHARE = 0.4
_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Spot instances were interrupted",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job exceeded MaxWaitTimeInSeconds provided",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}


class Metrics:
    """FinalMetricDataList: the last value in a job's log of each metric of MetricDefinitions (CreateTrainingJob)."""

    def __init__(self, definitions: list[dict[str, str]]) -> None:
        """Compile the regular expressions. Raises ServiceError for an invalid one."""
        try:
            self._patterns = [(item["Name"], re.compile(item["Regex"])) for item in definitions]
        except re.error as error:
            raise validation_error(f"Invalid regular expression in MetricDefinitions: {error}") from error
        self._values: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def see(self, line: str) -> list[tuple[str, float]]:
        """Return the metrics in one line, and remember them. The value is the expression's first group."""
        seen = []
        for name, pattern in self._patterns:
            for found in pattern.finditer(line):
                with contextlib.suppress(ValueError, IndexError, TypeError):  # A match that is no number is no metric.
                    value = float(found.group(1))
                    seen.append((name, value))
                    with self._lock:
                        self._values[name] = {"MetricName": name, "Value": value, "Timestamp": now()}
        return seen

    def final(self) -> list[dict[str, Any]]:
        """Return the last value of each metric seen so far."""
        with self._lock:
            return list(self._values.values())


class Record:
    """The statuses and times of a job. Every change takes the store's lock.

    Attributes:
        status: TrainingJobStatus.
        artifacts: S3ModelArtifacts, empty until they are uploaded.
        metrics: the metrics of MetricDefinitions in the job's output.
    """

    def __init__(self, lock: threading.RLock, arn: str, params: dict[str, Any]) -> None:
        self._lock, self._arn, self._params = lock, arn, params
        self.status, self._secondary, self._failure, self.artifacts = "InProgress", "Starting", "", ""
        self._created = self._modified = now()
        self._transitions: list[dict[str, Any]] = []
        self._times: dict[str, datetime] = {}
        self._selected: dict[str, Any] = {}
        self._seconds = 0.0
        self.metrics = Metrics(params["AlgorithmSpecification"].get("MetricDefinitions", []))
        self._move("Starting")

    def advance(self, secondary: str) -> None:
        """Enter a secondary status, unless the job is Stopping."""
        with self._lock:
            if self.status != "Stopping":
                self._move(secondary)

    def stopping(self) -> None:
        """Make the job Stopping. A second call changes nothing."""
        with self._lock:
            if self.status == "InProgress":
                self.status = "Stopping"
                self._move("Stopping")

    def end(self, status: str, secondary: str, failure: str = "") -> None:
        """Record the end of the job."""
        with self._lock:
            self.status, self._failure = status, failure[:FAILURE_LENGTH]
            self._times["TrainingEndTime"] = now()
            self._move(secondary)

    # Unconfirmed: TrainingStartTime | Here: when the job has its instances, before the download | Source:
    #   DescribeTrainingJob: the logs begin later, by the duration of the download
    def launched(self, instances: Instances) -> None:
        """Record that the job has its instances."""
        with self._lock:
            self._times.setdefault("TrainingStartTime", now())
            if "InstancePreferences" in self._params["ResourceConfig"]:
                self._selected = {"SelectedInstanceType": instances.type, "SelectedInstanceCount": instances.count}

    # Differs: Price of spot instances | AWS: up to 90 % less | Here: BillableTimeInSeconds is 0.4 of
    #   TrainingTimeInSeconds | Why: local AWS has no spot market
    # Unconfirmed: Times of several hosts | Here: TrainingTimeInSeconds and BillableTimeInSeconds are wall-clock times |
    #   Source: "Multiply BillableTimeInSeconds by the number of instances" (DescribeTrainingJob)
    # Unconfirmed: Times of a spot job | Here: TrainingTimeInSeconds is the time on instances, BillableTimeInSeconds a
    #   share of it | Source: "savings: (1 - BillableTimeInSeconds / TrainingTimeInSeconds) * 100"; AWS may not bill
    #   interrupted time
    def add_time(self, seconds: float) -> None:
        """Add a time during which the job had its instances."""
        with self._lock:
            self._seconds += seconds

    def _move(self, secondary: str) -> None:
        moment = now()
        if self._transitions:
            self._transitions[-1].setdefault("EndTime", moment)
        self._secondary, self._modified = secondary, moment
        entry = {"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]}
        if self.status in ("Completed", "Failed", "Stopped"):
            entry["EndTime"] = moment
        self._transitions.append(entry)

    # Unconfirmed: `SelectedInstanceType` | Here: present when the job has its instances, absent without
    #   InstancePreferences | Source: "Returned by DescribeTrainingJob after an instance type is selected"
    # Unconfirmed: `ModelArtifacts` | Here: absent until the model is uploaded; ends in `/` with CompressionType NONE |
    #   Source: the model calls it required; the slash from memory
    def describe(self) -> dict[str, Any]:
        """Return the members of DescribeTrainingJob. The caller holds the store's lock."""
        names = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining")
        description: dict[str, Any] = {
            **dict.fromkeys(names, False),
            "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME},
            **self._params,
            "ResourceConfig": {**self._params["ResourceConfig"], **self._selected},
            "TrainingJobArn": self._arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self._secondary,
            "SecondaryStatusTransitions": [dict(item) for item in self._transitions],
            "CreationTime": self._created,
            "LastModifiedTime": self._modified,
            "FailureReason": self._failure or None,
            "ModelArtifacts": {"S3ModelArtifacts": self.artifacts} if self.artifacts else None,
            "FinalMetricDataList": self.metrics.final() or None,
            **self._times,
        }
        if {"TrainingStartTime", "TrainingEndTime"} <= self._times.keys():
            seconds = max(1, round(self._seconds))
            billable = math.ceil(seconds * _SPOT_SHARE) if description["EnableManagedSpotTraining"] else seconds
            description |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": billable}
        return description
