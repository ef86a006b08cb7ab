"""Deletes the endpoint when nobody uses it, and tells the user that it is gone and how to serve the model again.

A schedule calls the function every five minutes from the end of the smoke test on (`pipeline.schedules.idle`). The function
deletes that schedule when the endpoint no longer exists. Any error fails the call, and nothing is deleted. Lambda then calls
the function again, and at last sends the event to a queue whose alarm tells the user (infra/idle.py).

SageMaker publishes no point for a metric that is zero: without traffic there are no points of Invocations at all. So the
absence of points alone means nothing. The memory of the GPU is never zero while vLLM runs, and the same agent publishes its
use. So points of the GPU show that the readings are complete and fresh. No page says whether requests to the OpenAI route are
counted as Invocations. The use of the GPU shows them in any case.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from pipeline import aws, embedded_metrics, names, schedules
from pipeline.contracts.events import IdleEvent, Idleness
from pipeline.endpoints import describe_endpoint
from pipeline.message import SUBJECT_LIMIT

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

LATE = timedelta(minutes=5)
"""The most that a point may come late, and the longest gap between two points. With older or fewer points, the endpoint counts
as in use. A request of the last minutes may not be among the points yet."""

PERIOD_SECONDS = 60
"""SageMaker publishes a point a minute (developer guide, "Amazon SageMaker AI metrics in Amazon CloudWatch")."""

DELETION_SECONDS, DELETION_POLL_SECONDS = 180, 3
"""How long a call waits for the deletion of the endpoint. If it takes longer, a later call finds that the endpoint is gone."""

_METRICS = {
    "invocations": ("AWS/SageMaker", "Invocations", "Sum"),
    "gpu_use": ("/aws/sagemaker/Endpoints", "GPUUtilization", "Maximum"),
    "gpu_memory": ("/aws/sagemaker/Endpoints", "GPUMemoryUtilization", "Maximum"),
}


class Readings(NamedTuple):
    """The metrics of the last `endpoint.idle_minutes`.

    Attributes:
        complete: whether CloudWatch has returned all points that it has.
        invocations: the requests by minute.
        gpu_use: the use of the GPUs by minute, in percent.
        gpu_memory: the use of the GPUs' memory by minute, in percent.
    """

    complete: bool
    invocations: dict[datetime, float]
    gpu_use: dict[datetime, float]
    gpu_memory: dict[datetime, float]


class EndpointState(NamedTuple):
    """The endpoint now: EndpointStatus (or "Absent"), EndpointConfigName and LastModifiedTime."""

    status: str
    config: str | None
    changed: datetime | None


def decide(
    event: IdleEvent, endpoint: EndpointState, readings: Readings, now: datetime
) -> tuple[Literal["gone", "other", "in use", "idle"], str]:
    """Return what the endpoint is, and the reason. Only an endpoint that is certainly idle is "idle"."""
    if endpoint.status == "Absent":
        return "gone", "it does not exist"
    if endpoint.config != event.config:
        return "other", f"it is on {endpoint.config}, whose run has its own schedule"
    if endpoint.status != "InService" or endpoint.changed is None:
        return "in use", f"it is {endpoint.status}"
    begin = now - timedelta(minutes=event.minutes)
    if max(datetime.fromtimestamp(event.since, UTC), endpoint.changed) > begin:
        return "in use", "it was tested or changed lately"
    if use := _use(readings, begin, now):
        return "in use", use
    return "idle", f"no request and no use of its GPU for {event.minutes} minutes"


def _use(readings: Readings, begin: datetime, now: datetime) -> str | None:
    """Return why the endpoint counts as in use between `begin` and `now`. None if it was certainly not used."""
    if not readings.complete:
        return "CloudWatch has not returned all points"
    if used := _after(readings.invocations, begin):
        return f"it had requests at {max(used):%H:%M} UTC"
    if used := _after(readings.gpu_use, begin):
        return f"its GPU worked at {max(used):%H:%M} UTC"
    if _has_gap(readings, begin, now):
        return "points of its GPU are missing or late"
    return None


def _has_gap(readings: Readings, begin: datetime, now: datetime) -> bool:
    """Return whether points of the GPU are missing or late between `begin` and `now`."""
    seen = sorted(point for point in {*readings.gpu_use, *readings.gpu_memory} if begin <= point <= now)
    return any(later - earlier > LATE for earlier, later in itertools.pairwise([begin, *seen, now]))


def idle_seconds(event: IdleEvent, endpoint: EndpointState, readings: Readings, now: datetime) -> float | None:
    """Return the seconds since the endpoint was used, tested or changed, at most those of `event.minutes`.

    None if they are not known: the endpoint does not serve this config, or points are missing.
    """
    if endpoint.config != event.config or endpoint.status != "InService" or endpoint.changed is None:
        return None
    begin, minute = now - timedelta(minutes=event.minutes), timedelta(seconds=PERIOD_SECONDS)
    used = [point + minute for points in (readings.invocations, readings.gpu_use) for point in _after(points, begin)]
    last = min(now, max(begin, datetime.fromtimestamp(event.since, UTC), endpoint.changed, *used))
    if not readings.complete or _has_gap(readings, last, now):
        return None
    return (now - last).total_seconds()


def _after(points: dict[datetime, float], begin: datetime) -> list[datetime]:
    """Return the minutes with a value above zero. A minute counts until its end."""
    minute = timedelta(seconds=PERIOD_SECONDS)
    return [point for point, value in points.items() if value > 0 and point + minute > begin]


@aws.handler(IdleEvent)
def handler(event: IdleEvent) -> Idleness:
    """Look at the endpoint's use. Delete the endpoint if it is idle, and tell the user when it is gone."""
    sagemaker, now = aws.client("sagemaker"), datetime.now(UTC)
    readings = read(event, now)
    # Described after the readings, so that nearly no time is left in which a new deployment could begin unseen.
    found = describe_endpoint(sagemaker, event.endpoint)
    endpoint = EndpointState(found["EndpointStatus"], found.get("EndpointConfigName"), found.get("LastModifiedTime"))
    state, why = decide(event, endpoint, readings, now)
    logger.info("%s is %s: %s", event.endpoint, state, why)
    if (seconds := idle_seconds(event, endpoint, readings, now)) is not None:
        embedded_metrics.write(event.endpoint, embedded_metrics.IDLE_TIME, seconds, "Seconds")
    reason = "nobody used it, its time to live was over, or somebody deleted it"
    if state == "idle":
        if refusal := _delete(sagemaker, event):
            return Idleness("in use", refusal)
        reason = f"{why} (endpoint.idle_minutes)"
    if state in ("idle", "gone"):
        # Last, because the schedules call again if the message could not be sent.
        _tell(event, reason)
        schedules.delete(schedules.idle_name(event.endpoint), event.config)
        schedules.delete(event.endpoint, event.config.rpartition("-")[0])
    return Idleness(state, why)


def read(event: IdleEvent, now: datetime) -> Readings:
    """Return the metrics of the last `event.minutes`."""
    dimensions = [{"Name": "EndpointName", "Value": event.endpoint}, {"Name": "VariantName", "Value": names.VARIANT}]
    queries = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions},
                "Period": PERIOD_SECONDS,
                "Stat": statistic,
            },
        }
        for name, (namespace, metric, statistic) in _METRICS.items()
    ]
    start = now - timedelta(minutes=event.minutes + 1)  # CloudWatch takes whole minutes
    answer = aws.client("cloudwatch").get_metric_data(MetricDataQueries=queries, StartTime=start, EndTime=now)
    results = {result["Id"]: result for result in answer["MetricDataResults"]}
    points = {name: dict(zip(result["Timestamps"], result["Values"], strict=True)) for name, result in results.items()}
    # All points of a week are fewer than one answer holds (API reference, GetMetricData, MaxDatapoints).
    complete = results.keys() == _METRICS.keys() and not answer.get("NextToken")
    complete = complete and all(result["StatusCode"] == "Complete" for result in results.values())
    return Readings(complete, **{name: points.get(name, {}) for name in _METRICS})


def _delete(sagemaker: Any, event: IdleEvent) -> str | None:
    """Delete the endpoint and wait until it is gone. Return why it is not gone, or None.

    Until it is gone, the schedule of its time to live stays, because a deletion may fail.
    """
    try:
        sagemaker.delete_endpoint(EndpointName=event.endpoint)
    except ClientError as error:
        # A deployment has begun in this moment, and SageMaker deletes no endpoint that changes.
        if aws.code(error) != "ValidationException":
            raise
        return f"SageMaker does not delete it now: {error}"
    deadline = time.monotonic() + DELETION_SECONDS
    while time.monotonic() < deadline:
        found = describe_endpoint(sagemaker, event.endpoint)
        if found["EndpointStatus"] == "Absent":
            return None
        if found.get("EndpointConfigName") != event.config:
            return "a newer deployment has made it again"
        time.sleep(DELETION_POLL_SECONDS)
    return "it is being deleted"


def _tell(event: IdleEvent, reason: str) -> None:
    again = json.dumps(event.again)
    message = (
        f"Endpoint: {event.endpoint} no longer exists: {reason}. It no longer bills.\n"
        f"Model: that of run {event.run}, which is kept\n"
        f"Serve it again: start an execution with the input {again}. It takes minutes, because nothing is trained."
    )
    aws.client("sns").publish(
        TopicArn=event.topic, Subject=f"{event.endpoint}: the endpoint has ended"[:SUBJECT_LIMIT], Message=message
    )
