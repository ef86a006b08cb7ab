"""A log event in the embedded metric format is a metric. One that breaks the format is none, and the log keeps it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack.embedded_metrics import EmbeddedMetricError, read

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def event(*, root: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **directive: Any) -> str:
    """Return the example of the specification, with changes."""
    given = {
        "Namespace": "lambda-function-metrics",
        "Dimensions": [["functionVersion"]],
        "Metrics": [{"Name": "time", "Unit": "Milliseconds", "StorageResolution": 60}],
        **directive,
    }
    data = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [given], **(metadata or {})}
    return json.dumps(
        {"_aws": data, "functionVersion": "$LATEST", "time": 100, "requestId": "989ffbf8", **(root or {})}
    )


def test_the_example_of_the_specification_is_one_value() -> None:
    (datum,) = read(event())
    assert datum[:3] == ("lambda-function-metrics", "time", {"functionVersion": "$LATEST"})
    assert (datum.value, datum.unit) == (100.0, "Milliseconds")
    assert [found.value for found in read(event(root={"time": [1, 2.5]}))] == [1.0, 2.5]


@pytest.mark.parametrize("message", ["", "text", "{", "{}", "[]", 'x {"_aws": 1}', '{"level": "INFO"}'])
def test_any_other_line_has_no_metric(message: str) -> None:
    assert list(read(message)) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (event(root={"time": None}), "time must be a number"),
        (event(root={"time": True}), "time must be a number"),
        (event(root={"functionVersion": 3}), "must be a text at the root"),
        (event(root={"functionVersion": ""}), "must be a text at the root"),
        (event(Metrics=[{"Name": "time", "Unit": "ms"}]), "time in ms is no metric"),
        (event(Metrics=[{"Name": "absent"}]), "absent must be a number"),
        (event(Dimensions=["functionVersion"]), "dimensions"),
        (event(Namespace=""), "needs a Namespace"),
        (event(Namespace="AWS/Mine"), "AWS's own"),
        (event(metadata={"Timestamp": "now"}), "Timestamp"),
        (event(metadata={"Timestamp": 1}), "too old"),
        (event(metadata={"CloudWatchMetrics": {}}), "must be an array"),
    ],
)
def test_metadata_that_breaks_the_format_makes_no_metric(broken: str, reason: str) -> None:
    with pytest.raises(EmbeddedMetricError, match=reason):
        list(read(broken))


def test_a_log_event_becomes_a_metric_and_stays_in_the_log(aws: RunningAws) -> None:
    logs, cloudwatch = aws.client("logs"), aws.client("cloudwatch")
    stream = {"logGroupName": "/embedded", "logStreamName": "one"}
    logs.create_log_group(logGroupName="/embedded")
    logs.create_log_stream(**stream)
    lines = ["START", event(), event(root={"time": "broken"}), event(root={"time": 300})]
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
    logs.put_log_events(**stream, logEvents=events)
    assert [one["message"] for one in logs.get_log_events(**stream)["events"]] == lines
    now = datetime.now(UTC)
    found = cloudwatch.get_metric_statistics(
        Namespace="lambda-function-metrics",
        MetricName="time",
        Dimensions=[{"Name": "functionVersion", "Value": "$LATEST"}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum", "SampleCount"],
        Unit="Milliseconds",
    )["Datapoints"]
    assert (sum(one["Sum"] for one in found), sum(one["SampleCount"] for one in found)) == (400.0, 2.0)
