"""The check of a dashboard's metrics tells a metric that exists from one that does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.local.widgets import unwritten

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


@pytest.mark.parametrize(
    ("metric", "written"),
    [
        (["Own", "Loss", "Job", "team-0a1b2c3d-9f8e"], True),
        (["Own", "Loss", "Job", "team-0a1b2c3d-9f8e", {"stat": "Sum"}], True),
        (["Own", "Loss", "Job", "team-0a1b2c3d"], False),
        (["Own", "Loss"], False),
        (["Other", "Loss", "Job", "team-0a1b2c3d-9f8e"], False),
        ([{"expression": "SEARCH('{Own,Job} MetricName=\"Loss\" Job=0a1b2c3d', 'Average', 60)"}], True),
        ([{"expression": "SEARCH('{\"Own\",Job} Job=\"team-0a1b2c3d-9f8e\"', 'Average', 60)"}], True),
        ([{"expression": "SEARCH('{Own,Job} MetricName=\"Loss\" Job=0a1b', 'Average', 60)"}], False),
        ([{"expression": "SEARCH('{Own,Job} Job=\"0a1b2c3d\"', 'Average', 60)"}], False),
        ([{"expression": "SEARCH('{Own,Job,Step} MetricName=\"Loss\"', 'Average', 60)"}], False),
    ],
)
def test_a_metric_that_nothing_wrote_is_named(aws: RunningAws, metric: list[object], written: bool) -> None:
    cloudwatch = aws.client("cloudwatch")
    dimensions = [{"Name": "Job", "Value": "team-0a1b2c3d-9f8e"}]
    datum = {"MetricName": "Loss", "Value": 1.0, "Dimensions": dimensions, "Timestamp": time.time()}
    cloudwatch.put_metric_data(Namespace="Own", MetricData=[datum])
    assert (unwritten(cloudwatch, [metric]) == set()) is written
