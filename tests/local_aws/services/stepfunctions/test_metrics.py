"""Each end of an execution is one point of a metric of its state machine, and an alarm can stand on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.local_aws.services.stepfunctions.test_stepfunctions import ended, passing, start

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


WAIT = {"Type": "Wait", "Seconds": 30, "Next": "End"}
ENDS: dict[str, dict[str, Any]] = {
    "Succeeded": {"End": passing(1)},
    "Failed": {"End": {"Type": "Fail", "Error": "E"}},
    "TimedOut": {"Wait": WAIT, "End": passing(1)},
    "Aborted": {"Wait": WAIT, "End": passing(1)},
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_a_point_of_its_own_metric_alone(aws: RunningAws, end: str) -> None:
    role = aws.role(f"ends-{end}", service="states")
    states, cloudwatch = aws.client("stepfunctions"), aws.client("cloudwatch")
    arn = start(aws, role, ENDS[end], **({"TimeoutSeconds": 1} if end == "TimedOut" else {}))
    machine = states.describe_execution(executionArn=arn)["stateMachineArn"]
    dimensions = [{"Name": "StateMachineArn", "Value": machine}]
    if end == "Aborted":
        states.stop_execution(executionArn=arn)
    ended(aws, arn)
    now = datetime.now(UTC)
    sums = {}
    for name in ENDS:
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/States",
            MetricName=f"Executions{name}",
            Dimensions=dimensions,
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        sums[name] = sum(point["Sum"] for point in points)
    assert sums == {name: float(name == end) for name in ENDS}
