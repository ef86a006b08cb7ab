"""Metrics of endpoints and training instances: requests, errors, times, and the use of the GPU, a point a minute."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local_aws.services.sagemaker.metrics import INSTANCES, INVOCATIONS, JobUse, Use
from tests.local_aws.conftest import control
from tests.local_aws.services.sagemaker.test_sagemaker_endpoints import ask, remove, role, serve

__all__ = ["role"]

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

ERRORS = ("Invocation4XXErrors", "Invocation5XXErrors")
NAMES = {
    "Invocations": (INVOCATIONS, "Sum"),
    "GPUUtilization": (INSTANCES, "Maximum"),
    "GPUMemoryUtilization": (INSTANCES, "Maximum"),
    "CPUUtilization": (INSTANCES, "Average"),
    "MemoryUtilization": (INSTANCES, "Average"),
}


def points(aws: RunningAws, endpoint: str, credentials: dict[str, str] | None = None) -> dict[str, list[Any]]:
    """The points of an endpoint's metrics: time and value."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}]
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions},
                "Period": 60,
                "Stat": statistic,
            },
        }
        for name, (namespace, statistic) in NAMES.items()
    ]
    now = datetime.now(UTC)
    answer = aws.client("cloudwatch", credentials).get_metric_data(
        MetricDataQueries=queries, StartTime=now - timedelta(hours=3), EndTime=now
    )
    found = {result["Id"]: result for result in answer["MetricDataResults"]}
    assert {result["StatusCode"] for result in found.values()} == {"Complete"}
    return {
        name: list(zip(found[name.lower()]["Timestamps"], found[name.lower()]["Values"], strict=True)) for name in NAMES
    }


def test_points_come_late_and_none_is_zero(aws: RunningAws, role: str) -> None:
    serve(aws, "measured", role, "one")
    ask(aws, "measured")
    ask(aws, "measured")
    assert not any(points(aws, "measured").values())  # the minute is not over, and points come later still
    before = datetime.now(UTC)
    control(aws, "sagemaker", elapse_minutes=60)
    found = points(aws, "measured")
    assert sum(value for _, value in found["Invocations"]) == 2
    assert len(found["Invocations"]) <= 2  # two minutes at most
    assert all(value > 0 for values in found.values() for _, value in values)
    assert len(found["GPUUtilization"]) <= 2
    for name in ("GPUMemoryUtilization", "CPUUtilization", "MemoryUtilization"):
        times = [moment for moment, _ in found[name]]
        assert len(times) == len(set(times)) >= 57, name
        newest = before - max(times)
        assert timedelta(minutes=2) <= newest <= timedelta(minutes=5), name
    described = aws.client("sagemaker").describe_endpoint(EndpointName="measured")
    assert before - described["LastModifiedTime"] >= timedelta(minutes=60)
    # An endpoint that is gone has no new points, and keeps its old ones.
    remove(aws, "measured")
    control(aws, "sagemaker", elapse_minutes=30)
    assert len(points(aws, "measured")["GPUMemoryUtilization"]) in range(len(times), len(times) + 4)


def test_the_delay_is_a_setting_and_reading_needs_permission(aws: RunningAws, role: str) -> None:
    serve(aws, "delayed", role, "one")
    control(aws, "sagemaker", elapse_minutes=10, metric_delay_seconds=100_000)
    try:
        assert not points(aws, "delayed")["GPUMemoryUtilization"]
    finally:
        control(aws, "sagemaker", metric_delay_seconds=120)
    assert points(aws, "delayed")["GPUMemoryUtilization"]
    allowed = {"Effect": "Allow", "Action": "cloudwatch:GetMetricData", "Resource": "*"}
    assert points(aws, "delayed", aws.session(aws.role("reader", allowed, service="lambda")))["GPUMemoryUtilization"]
    with pytest.raises(ClientError, match="not authorized to perform: cloudwatch:GetMetricData"):
        points(aws, "delayed", aws.session(aws.role("blind", service="lambda")))
    remove(aws, "delayed")


def test_an_answer_has_its_time_and_whether_it_is_an_error(aws: RunningAws, role: str) -> None:
    serve(aws, "judged", role, "one")
    ask(aws, "judged")
    with pytest.raises(ClientError, match="bad input"):
        ask(aws, "judged", b"bad")
    control(aws, "sagemaker", elapse_minutes=10)
    dimensions = [{"Name": "EndpointName", "Value": "judged"}, {"Name": "VariantName", "Value": "AllTraffic"}]
    now = datetime.now(UTC)

    def statistic(name: str, kind: str) -> list[float]:
        found = aws.client("cloudwatch").get_metric_statistics(
            Namespace=INVOCATIONS,
            MetricName=name,
            Dimensions=dimensions,
            StartTime=now - timedelta(hours=1),
            EndTime=now,
            Period=3600,
            Statistics=[kind],
        )
        return [point[kind] for point in found["Datapoints"]]

    assert [sum(statistic(f"Invocation{error}XXErrors", "Sum")) for error in (4, 5)] == [1.0, 0.0]
    assert sum(statistic("Invocation5XXErrors", "SampleCount")) == 2.0  # "otherwise, 0 is sent"
    assert all(100 < took < 5e6 for took in statistic("ModelLatency", "Average")), "microseconds"
    remove(aws, "judged")


def test_gpu_use_is_the_share_of_the_minute_in_which_it_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[str, float, float]] = []

    def publish(_space: str, name: str, _labels: dict[str, str], moment: float, value: float, count: float = 1) -> None:
        published.append((name, moment, value * count))

    monkeypatch.setattr("local_aws.services.sagemaker.metrics.metrics.publish", publish)
    use = Use("e", "v", gpu=True, begin=10.0, busy=[(50.0, 65.0), (119.0, 121.0)], invocations=[50.0, 119.0, 119.5])
    use.publish(181.0)
    use.publish(181.0)  # nothing twice
    assert [(moment, round(value, 3)) for name, moment, value in published if name == "GPUUtilization"] == [
        (0.0, 16.667),
        (60.0, 10.0),
        (120.0, 1.667),
    ]
    assert [(moment, value) for name, moment, value in published if name == "Invocations"] == [(0.0, 1.0), (60.0, 2.0)]
    assert [moment for name, moment, _ in published if name == "GPUMemoryUtilization"] == [0.0, 60.0, 120.0]
    use.answers = [(181.0, 0.25, 503), (182.0, 0.5, 200), (190.0, 0.5, 404)]
    use.publish(240.0)
    errors = {name: [value for found, _, value in published if found == name] for name in ERRORS}
    assert errors == {ERRORS[0]: [0.0, 0.0, 1.0], ERRORS[1]: [1.0, 0.0, 0.0]}
    assert [(moment, value) for name, moment, value in published if name == "ModelLatency"] == [
        (180.0, 250_000.0),
        (180.0, 500_000.0),
        (180.0, 500_000.0),
    ]
    # A request that still runs counts until now.
    use.busy.append((time.time() - 300, None))
    assert use._busy_share(time.time() - 120) == 1.0


def test_each_host_has_a_point_a_minute_from_the_start_on(monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[tuple[str, str, float]] = []

    def publish(_space: str, name: str, labels: dict[str, str], moment: float, _value: float) -> None:
        points.append((name, next(iter(labels.values())), moment))

    monkeypatch.setattr("local_aws.services.sagemaker.metrics.metrics.publish", publish)
    use = JobUse("j", hosts=2, gpu=False, begin=10.0, end=75.0)
    use.publish()
    use.publish()  # nothing twice
    assert [point for point in points if point[0] == "CPUUtilization"] == [
        ("CPUUtilization", f"j/algo-{host}", moment) for moment in (10.0, 70.0) for host in (1, 2)
    ]
    assert not [name for name, _, _ in points if name.startswith("GPU")]
