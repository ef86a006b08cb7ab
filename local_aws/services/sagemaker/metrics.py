"""The metrics of endpoints and training jobs in CloudWatch: requests, the job's own, and the use of processor, memory and GPU.

Source: "Amazon SageMaker AI metrics in Amazon CloudWatch" in the Developer Guide: the namespaces, names and dimensions, one
point a minute, the sum of Invocations as the number of requests. The points of a minute are made when somebody reads metrics,
and not before the delay of `Delays.metric_delay_seconds` is over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from local_aws.ministack import metrics

INVOCATIONS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
MINUTE = 60

# Differs: Values of an endpoint's utilization metrics | AWS: measured on each instance | Here: GPUUtilization is the share of
#   the minute in which a request was answered; the others are constants | Why: this machine has no GPU, and shares its
#   processors
_CONSTANTS = {"CPUUtilization": 3.0, "MemoryUtilization": 12.0, "DiskUtilization": 8.0}
_GPU_MEMORY = 92.0  # vLLM's own default, gpu_memory_utilization.


@dataclass
class Use:
    """How one fleet was used. All times are epoch seconds.

    Attributes:
        endpoint: the endpoint's name.
        variant: the variant's name.
        gpu: whether its instances have GPUs.
        begin: when the fleet was healthy.
        end: when it was stopped, or None.
        busy: the times in which it answered requests: begin and end of each. The end of the last one may be None.
        invocations: when each request of InvokeEndpoint came.
        answers: when each answer to one came, the seconds that the container took for it, and its status.
        published: the minute from which on no point is published yet.
    """

    endpoint: str
    variant: str
    gpu: bool
    begin: float = field(default_factory=time.time)
    end: float | None = None
    busy: list[tuple[float, float | None]] = field(default_factory=list)
    invocations: list[float] = field(default_factory=list)
    answers: list[tuple[float, float, int]] = field(default_factory=list)
    published: float = 0.0

    def __post_init__(self) -> None:
        """Begin with the first whole minute."""
        self.published = self.published or self.begin // MINUTE * MINUTE

    def work(self, *, begins: bool) -> None:
        """Note that the fleet begins to answer requests, or that it has answered the last one."""
        now = time.time()
        if begins:
            self.busy.append((now, None))
        elif self.busy:
            self.busy[-1] = self.busy[-1][0], now

    def move(self, seconds: float) -> None:
        """Add `seconds` to all times."""
        self.begin += seconds
        self.end = self.end and self.end + seconds
        self.busy = [(begin + seconds, end and end + seconds) for begin, end in self.busy]
        self.invocations = [moment + seconds for moment in self.invocations]
        self.answers = [(moment + seconds, took, status) for moment, took, status in self.answers]
        self.published += seconds // MINUTE * MINUTE

    # Unconfirmed: Metrics with the value zero | Here: no point, except of the errors of requests ("otherwise, 0 is sent") |
    #   Source: no traffic is known to give no point of Invocations; that GPUUtilization is left out as well is the reading that
    #   is harder on the product
    # Unconfirmed: Metrics of requests to the OpenAI route | Here: the use of the GPU alone | Source: the page names "calls to
    #   InvokeEndpoint" only
    def publish(self, until: float) -> None:
        """Publish the points of all whole minutes that ended before `until`."""
        last = min(until, self.end) if self.end is not None else until
        while self.published + MINUTE <= last:
            minute, self.published = self.published, self.published + MINUTE
            values = dict(_CONSTANTS)
            if self.gpu:
                values |= {"GPUMemoryUtilization": _GPU_MEMORY, "GPUUtilization": 100 * self._busy_share(minute)}
            for name, value in values.items():
                if value > 0:
                    metrics.publish(INSTANCES, name, self._dimensions, minute, value)
            requests = sum(minute <= moment < minute + MINUTE for moment in self.invocations)
            if requests:
                metrics.publish(INVOCATIONS, "Invocations", self._dimensions, minute, 1.0, requests)
            for moment, took, status in self.answers:
                if minute <= moment < minute + MINUTE:
                    self._publish_answer(minute, took, status)

    # Differs: The latency of requests | AWS: also OverheadLatency, and FirstChunk metrics of a stream | Here: ModelLatency |
    #   Why: no dashboard here has the others
    def _publish_answer(self, minute: float, took: float, status: int) -> None:
        values = {
            "ModelLatency": took * 1e6,
            "Invocation4XXErrors": float(status // 100 == 4),
            "Invocation5XXErrors": float(status // 100 == 5),
        }
        for name, value in values.items():
            metrics.publish(INVOCATIONS, name, self._dimensions, minute, value)

    @property
    def _dimensions(self) -> dict[str, str]:
        return {"EndpointName": self.endpoint, "VariantName": self.variant}

    def _busy_share(self, minute: float) -> float:
        ends = [(begin, time.time() if end is None else end) for begin, end in self.busy]
        overlaps = (min(end, minute + MINUTE) - max(begin, minute) for begin, end in ends)
        return sum(overlap for overlap in overlaps if overlap > 0) / MINUTE


JOBS = "/aws/sagemaker/TrainingJobs"

# Differs: Values of a training job's utilization metrics | AWS: measured on each instance | Here: constants, once a minute, the
#   first when the container starts | Why: as for an endpoint
_JOB_CONSTANTS = {"CPUUtilization": 50.0, "MemoryUtilization": 20.0, "DiskUtilization": 10.0}
_JOB_GPU_CONSTANTS = {"GPUUtilization": 80.0, "GPUMemoryUtilization": 60.0}


@dataclass
class JobUse:
    """The metrics of one start of a training job's instances. All times are epoch seconds.

    Attributes:
        job: the job's name.
        hosts: the number of instances.
        gpu: whether they have GPUs.
        begin: when the containers started.
        end: when they ended, or None.
        seen: the job's own metrics that are not published yet: name, time and value (CreateTrainingJob, MetricDefinitions).
    """

    job: str
    hosts: int
    gpu: bool
    begin: float = field(default_factory=time.time)
    end: float | None = None
    seen: deque[tuple[str, float, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Begin with a point at once."""
        self.due = self.begin

    # Unconfirmed: Dimensions of a job's own metrics | Here: `TrainingJobName` | Source: TrainingJobAnalytics in SageMaker's
    #   Python SDK (sagemaker/analytics.py) reads them so
    def publish(self) -> None:
        """Publish the metrics seen so far, and a point per minute of each instance's use."""
        while self.seen:
            name, moment, value = self.seen.popleft()
            metrics.publish(JOBS, name, {"TrainingJobName": self.job}, moment, value)
        values = _JOB_CONSTANTS | (_JOB_GPU_CONSTANTS if self.gpu else {})
        while self.due <= (time.time() if self.end is None else self.end):
            for host in range(1, self.hosts + 1):
                for name, value in values.items():
                    metrics.publish(JOBS, name, {"Host": f"{self.job}/algo-{host}"}, self.due, value)
            self.due += MINUTE


def _has_gpu(instance_type: str) -> bool:
    return instance_type.removeprefix("ml.").startswith(("g", "p"))


class InstanceMetrics:
    """The use of all fleets and training instances, also of those that are gone."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.jobs: list[JobUse] = []
        self._lock = threading.Lock()

    def add(self, endpoint: str, variant: str, instance_type: str) -> Use:
        """Return the use of a new fleet."""
        use = Use(endpoint, variant, _has_gpu(instance_type))
        with self._lock:
            self.uses.append(use)
        return use

    def add_job(self, job: str, hosts: int, instance_type: str) -> JobUse:
        """Return the use of new training instances."""
        use = JobUse(job, hosts, _has_gpu(instance_type))
        with self._lock:
            self.jobs.append(use)
        return use

    def publish(self, delay_seconds: float) -> None:
        """Publish all points of endpoints that are older than the delay, and all of training jobs."""
        with self._lock:
            for job in self.jobs:
                job.publish()
            for use in self.uses:
                use.publish(time.time() - delay_seconds)

    def move(self, seconds: float) -> None:
        """Add `seconds` to the times of all uses and of all published points."""
        with self._lock:
            for use in self.uses:
                use.publish(time.time())
                use.move(seconds)
            metrics.move((INVOCATIONS, INSTANCES), seconds // MINUTE * MINUTE)
