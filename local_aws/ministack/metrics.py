"""The metrics that services publish: MiniStack's CloudWatch stores them and answers for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import cloudwatch

from local_aws.ministack import alarms
from local_aws.ministack.patches import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def publish(
    namespace: str,
    name: str,
    dimensions: Mapping[str, str],
    time: float,
    value: float,
    count: float = 1.0,
    unit: str = "None",
) -> None:
    """Store `count` equal values of a metric, in the account and region of the current call, and set its alarms.

    Args:
        namespace: the metric's namespace.
        name: the metric's name.
        dimensions: its dimensions.
        time: the time stamp, in epoch seconds.
        value: the value.
        count: how often the value was measured.
        unit: its unit.
    """
    labels = dict(dimensions)
    cloudwatch._store_datum(namespace, name, labels, time, unit, value, [value], [count], None)
    alarms.set_alarms()


def move(namespaces: tuple[str, ...], seconds: float) -> None:
    """Add `seconds` to the time stamps of all points in these namespaces, of all accounts and regions."""
    for (_, _, (namespace, _, _)), points in cloudwatch._metrics._data.items():
        if namespace in namespaces:
            for point in points:
                point["Timestamp"] += seconds


# Differs: GetMetricData | AWS: `ScanBy` decides on the order, the newest point first by default; answers have pages | Here:
#   the oldest point first, on one page; math expressions are an error | Why: Tuneway reads sets of points
def before_readings(publish_due: Callable[[], None]) -> None:
    """Call `publish_due` before each call that reads metrics or alarms, so that points appear without a clock of their own."""

    def first(original: Callable[..., Any], *call: Any, **options: Any) -> Any:
        publish_due()
        return original(*call, **options)

    patch(cloudwatch, "_get_metric_data")(first)
    patch(cloudwatch, "_get_metric_statistics")(first)
    patch(cloudwatch, "_list_metrics")(first)
    patch(cloudwatch, "_describe_alarms")(first)
