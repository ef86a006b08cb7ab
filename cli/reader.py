"""Reads what AWS says about an execution, gently: each answer is kept for some seconds, and a failed call stops nothing.

No call costs money. Step Functions bills state transitions, and CloudWatch Logs bills what is written, stored and scanned by
queries (the services' pricing pages); reads of both, and SageMaker's and Bedrock's describe calls, have no price. All have
limits per account and Region: DescribeLogStreams takes 5 calls per second (CloudWatch Logs quotas), and a history of 25,000
events (Step Functions quotas) is read once, by pages of 1,000. After that, only the newest events are read.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from cli.errors import is_sign_in, of_aws
from cli.history import ExecutionHistory, epoch
from pipeline import aws, names
from pipeline.endpoints import configs, describe_endpoint
from pipeline.errors import Refused
from pipeline.job_log import JobLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.stack import Stack

Value = TypeVar("Value")

FIRST_PAGE, NEXT_PAGE = 1000, 50
"""Events per page: the most that GetExecutionHistory returns (API reference), and enough for the events between two looks."""

LOG_PAGES = 20
"""The most pages of the log per look. A page has up to 1 MB or 10,000 events (API reference, GetLogEvents)."""

JOB_SECONDS, LOG_SECONDS, STREAM_SECONDS, ENDPOINT_SECONDS, SHARD_SECONDS, BEDROCK_SECONDS = 5, 3, 15, 5, 3, 15
"""How long the answers about the job, its log, its log streams, the endpoint, the shards and Bedrock's job count."""


class WatchedStack(Protocol):
    """What is needed of a stack: `cli.context.ConnectedStack` has it."""

    @property
    def stack(self) -> Stack:
        """The deployed stack."""

    def client(self, service: str) -> Any:
        """Return a client of the stack's region."""


@dataclass
class SeenRun:
    """What AWS has answered so far.

    Attributes:
        execution: the answer of DescribeExecution.
        history: the steps.
        job: the answer of DescribeTrainingJob for the run's newest job.
        jobs: the answers for all training jobs of the run, by name.
        log: the lines of the newest job.
        endpoint: the answer of DescribeEndpoint.
        bedrock: the status of Bedrock's job, and when it was made, in epoch seconds.
        shards: the counts of the Map Run, by status.
        unknown: why something is not known, by what it is.
        lock: it is held while the parts change, because another thread shows them.
    """

    execution: dict[str, Any]
    history: ExecutionHistory = field(default_factory=ExecutionHistory)
    job: dict[str, Any] | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: JobLog = field(default_factory=JobLog)
    endpoint: dict[str, Any] | None = None
    bedrock: tuple[str, float] | None = None
    shards: dict[str, int] | None = None
    unknown: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        """The execution's name."""
        return str(self.execution["name"])

    @property
    def status(self) -> str:
        """The execution's status."""
        return str(self.execution["status"])

    @property
    def output(self) -> dict[str, Any]:
        """The execution's output; empty if it has not succeeded."""
        return dict(json.loads(self.execution["output"])) if self.execution.get("output") else {}

    @property
    def lost_endpoint(self) -> bool:
        """Whether the last look shows that the endpoint is gone, or has no config that the run's last Deploy wanted."""
        wanted = (self.history.answers.get("Deploy") or {}).get("config")
        return self.endpoint is not None and wanted not in configs(self.endpoint)


class RunReader:
    """Reads one execution again and again. `found` has what is known."""

    def __init__(self, account: WatchedStack, execution_arn: str, come_back: str) -> None:
        """Describe the execution.

        Args:
            account: the stack and the clients.
            execution_arn: the execution's ARN.
            come_back: the command that watches the execution again.

        Raises:
            Refused: there is no such execution.
        """
        self._account, self._arn, self._come_back = account, execution_arn, come_back
        self._states = account.client("stepfunctions")
        try:
            self.found = SeenRun(self._states.describe_execution(executionArn=execution_arn))
        except ClientError as error:
            if aws.code(error) not in ("ExecutionDoesNotExist", "InvalidArn"):
                raise
            raise Refused(
                f"there is no execution {execution_arn}; name one that `tuneway runs` lists, or leave the name out"
            ) from error
        self._due: dict[str, float] = {}
        self._streams: list[str] = []
        self._read_streams: dict[str, str] = {}
        self._log_of, self._shards_of, self._bedrock_of = "", "", ""

    def read(self) -> None:
        """Read what is due.

        Raises:
            Refused: the user has to sign in again.
        """
        found = self.found
        described = self._try("the execution", lambda: self._states.describe_execution(executionArn=self._arn))
        self._try("the steps", self._read_history)
        if described:  # After the history, so that an ended execution has all its rows.
            ended, found.execution = found.status != "RUNNING", described
            if found.status != "RUNNING" and not ended:
                self._try("the steps", self._read_history)
                self._due.clear()
        self._read_shards()
        self._read_training()
        self._read_endpoint()
        self._read_bedrock()

    def _read_history(self) -> bool:
        history = self.found.history
        if not history.last:
            pages = self._states.get_paginator("get_execution_history").paginate(
                executionArn=self._arn, PaginationConfig={"PageSize": FIRST_PAGE}
            )
            for page in pages:
                with self.found.lock:
                    history.add(page["events"])
            return True
        newest: list[dict[str, Any]] = []
        pages = self._states.get_paginator("get_execution_history").paginate(
            executionArn=self._arn, reverseOrder=True, PaginationConfig={"PageSize": NEXT_PAGE}
        )
        for page in pages:
            newest += [event for event in page["events"] if event["id"] > history.last]
            if not page["events"] or page["events"][-1]["id"] <= history.last:
                break
        with self.found.lock:
            history.add(reversed(newest))
        return True

    def _read_shards(self) -> None:
        """Read the counts of the Map Run, until none of its shards is to come."""
        arn, counts = self.found.history.map_run, self.found.shards
        if arn is None or (arn == self._shards_of and counts and not counts["pending"] + counts["running"]):
            return
        if self._is_due("shards", SHARD_SECONDS):
            answer = self._try("the shards", lambda: self._states.describe_map_run(mapRunArn=arn))
            if answer:
                self.found.shards, self._shards_of = answer["itemCounts"], arn

    def _read_training(self) -> None:
        found, sagemaker = self.found, self._account.client("sagemaker")
        if not found.history.jobs:
            return
        *earlier, name = found.history.jobs
        over = found.job is not None and found.job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")
        known = over and found.job is not None and found.job["TrainingJobName"] == name and "job" in self._due
        # Earlier jobs are those before a redrive. They have ended, and count for the money.
        for one in [*(job for job in earlier if job not in found.jobs), *(() if known else (name,))]:
            if one == name and not self._is_due("job", JOB_SECONDS):
                continue
            job = self._try("the training job", partial(sagemaker.describe_training_job, TrainingJobName=one))
            if job:
                with found.lock:
                    found.jobs[one] = job
                    found.job = job if one == name else found.job
        if self._log_of != name:
            found.log, self._log_of, self._streams, self._read_streams = JobLog(), name, [], {}
            self._due.pop("log", None)
            self._due.pop("streams", None)
        # A job that has ended is read once more to its last line.
        if (not over or not found.log.published) and self._is_due("log", STREAM_SECONDS if over else LOG_SECONDS):
            self._try("the job's log", lambda: self._read_log(name))

    def _read_log(self, job: str) -> bool:
        """Read the new lines of the first host. A spot job has a stream per start.

        The token of the last page is given again for the lines after it. If the same token comes back, there are no more lines
        (API reference, GetLogEvents).
        """
        logs = self._account.client("logs")
        if self._is_due("streams", STREAM_SECONDS):
            try:
                streams = logs.describe_log_streams(
                    logGroupName=names.TRAINING_LOGS, logStreamNamePrefix=f"{job}/algo-1-"
                )["logStreams"]
            except logs.exceptions.ResourceNotFoundException:
                streams = []
            self._streams = sorted(stream["logStreamName"] for stream in streams)
            if not self._streams:
                self._due["streams"] = 0  # it may be made at any moment
        for stream in self._streams:
            for _ in range(LOG_PAGES):
                token = self._read_streams.get(stream)
                page = logs.get_log_events(
                    logGroupName=names.TRAINING_LOGS,
                    logStreamName=stream,
                    startFromHead=True,
                    **({"nextToken": token} if token else {}),
                )
                with self.found.lock:
                    self.found.log.add(page["events"])
                self._read_streams[stream] = page["nextForwardToken"]
                if page["nextForwardToken"] == token:
                    break
        return True

    def _read_endpoint(self) -> None:
        if "Deploy" in self.found.history.rows and self._is_due("endpoint", ENDPOINT_SECONDS):
            sagemaker, name = self._account.client("sagemaker"), self._account.stack.endpoint
            answer = self._try("the endpoint", lambda: describe_endpoint(sagemaker, name))
            self.found.endpoint = answer or self.found.endpoint

    def _read_bedrock(self) -> None:
        history, plan = self.found.history, self.found.history.answers.get("Plan") or {}
        job = history.bedrock and history.bedrock["job"]
        over = self.found.bedrock is not None and self.found.bedrock[0] not in ("InProgress", "Stopping")
        if not job or (over and job == self._bedrock_of):
            return
        if self._is_due("bedrock", BEDROCK_SECONDS):
            bedrock = self._account.client("bedrock")
            look = bedrock.get_model_customization_job if plan.get("customize") else bedrock.get_model_import_job
            answer = self._try("Bedrock's job", lambda: look(jobIdentifier=job))
            if answer:
                self.found.bedrock, self._bedrock_of = (answer["status"], epoch(answer["creationTime"])), job

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0):
            return False
        self._due[what] = now + seconds
        return True

    def _try(self, what: str, call: Callable[[], Value]) -> Value | None:
        """Return the answer of a call, or None with a line in `unknown`.

        Raises:
            Refused: the user has to sign in again.
        """
        try:
            answer = call()
        except (ClientError, BotoCoreError) as error:
            if is_sign_in(error):
                raise Refused(f"{of_aws(error)}; the run goes on; run `{self._come_back}` to come back") from error
            with self.found.lock:
                self.found.unknown[what] = f"{what}: unknown, {_why(error)}"
            return None
        with self.found.lock:
            self.found.unknown.pop(what, None)
        return answer


def _why(error: ClientError | BotoCoreError) -> str:
    """Return in a few words why a call has failed."""
    if isinstance(error, ClientError):
        if aws.is_busy(error):
            return f"AWS is busy ({aws.code(error)}), and is asked again"
        if "AccessDenied" in aws.code(error):
            return f"your credentials may not call {error.operation_name}"
        return f"{error.operation_name} answers {aws.code(error)}"
    return "AWS cannot be reached, and is asked again"
