"""Alarms, which MiniStack sets by all metrics of one name, and their messages, which a topic's policy may refuse."""

from __future__ import annotations

import logging
import operator
import time
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import responses
from ministack.services import cloudwatch, sns, sqs

from local_aws.ministack.patches import patch
from local_aws.ministack.sessions import service_may

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("local_aws.alarms")

_COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


# Differs: An alarm on a queue's `ApproximateNumberOfMessagesVisible` | AWS: reads a metric each period; the metric is
#   minutes late | Here: set after each call of SQS; SQS has no other metrics | Why: a test should not wait for minutes
@patch(app.SERVICE_HANDLERS, "sqs")
async def _handle_and_set_alarms(original: Callable[..., Any], *call: Any) -> Any:
    """Set every alarm on a queue's ApproximateNumberOfMessagesVisible after each call of SQS.

    MiniStack's SQS has no metrics, and its alarms do not tell the dimensions of a metric apart.
    """
    answer = await original(*call)
    for alarm in list(cloudwatch._alarms.values()):
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible"):
            _set_queue_alarm(alarm)
    return answer


def _set_queue_alarm(alarm: dict[str, Any]) -> None:
    (name,) = (dimension["Value"] for dimension in alarm["Dimensions"])
    queue = sqs._queue_by_arn(f"arn:aws:sqs:{responses.get_region()}:{responses.get_account_id()}:{name}")
    if queue is None:
        return
    sqs._refresh_counts(queue)
    visible = int(queue["attributes"]["ApproximateNumberOfMessages"])
    _set_state(alarm, [float(visible)])


def _set_state(alarm: dict[str, Any], values: list[float]) -> None:
    """Set an alarm by the data points of its evaluation periods that are there."""
    breaching = [value for value in values if _COMPARISONS[alarm["ComparisonOperator"]](value, alarm["Threshold"])]
    state = "ALARM" if len(breaching) >= (alarm.get("DatapointsToAlarm") or alarm["EvaluationPeriods"]) else "OK"
    reason = f"Threshold Crossed: {len(breaching)} datapoint {breaching} ({alarm['ComparisonOperator']} {alarm['Threshold']})"
    new = {"AlarmName": alarm["AlarmName"], "StateValue": state, "StateReason": reason}
    cloudwatch._set_alarm_state({}, new, is_cbor=False, is_json=True)


def set_alarms() -> None:
    """Set all alarms of the account and region of the current call by their metrics, as they are now."""
    for alarm in list(cloudwatch._alarms.values()):
        cloudwatch._evaluate_alarm(alarm)


# Differs: An alarm on a metric | AWS: looks each minute, and longer into the past than its evaluation periods | Here: set after
#   each new point and when alarms are read, by whole periods that end now; a missing point never breaches | Why: no alarm here
#   treats missing data otherwise
@patch(cloudwatch, "_evaluate_alarm")
def _evaluate_alarm(_original: Callable[..., None], alarm: dict[str, Any]) -> None:
    """Set an alarm by the points of its own dimensions. MiniStack takes those of all metrics of its name."""
    if alarm.get("Namespace") in (None, "", "AWS/SQS"):
        return
    labels = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(labels))
    begin = (now := time.time()) - alarm["Period"] * alarm["EvaluationPeriods"]
    periods: dict[int, list[dict[str, Any]]] = {}
    for point in cloudwatch._metrics.get(key) or ():
        if begin <= point["Timestamp"] <= now:
            periods.setdefault(int((now - point["Timestamp"]) // alarm["Period"]), []).append(point)
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    values = [cloudwatch._stat_value(cloudwatch._calc_stats(points), statistic, points) for points in periods.values()]
    if values or alarm["TreatMissingData"] == "notBreaching":
        _set_state(alarm, values)


@patch(cloudwatch, "_describe_alarms")
def _describe_alarms(original: Callable[..., Any], *call: Any, **options: Any) -> Any:
    """Set the alarms first, because the points of one that rang may be older than its periods now."""
    set_alarms()
    return original(*call, **options)


_ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}


@patch(cloudwatch, "_dispatch_alarm_actions")
def _dispatch_allowed(
    original: Callable[..., None], alarm: dict[str, Any], old_state: str, new_state: str, reason: str
) -> None:
    """Drop an alarm's message if the topic's policy does not let CloudWatch publish. MiniStack does not check the policy.

    AWS only writes "Failed to execute action ..." into the alarm's history (AWS re:Post, "Why didn't I receive an SNS
    notification for my CloudWatch alarm trigger?").
    """
    actions = _ACTIONS[new_state]
    allowed = [arn for arn in alarm.get(actions) or [] if _alarm_may_publish(alarm["AlarmArn"], arn)]
    original({**alarm, actions: allowed}, old_state, new_state, reason)


# Unconfirmed: An alarm's message to its topic | Here: the topic's policy for `cloudwatch.amazonaws.com` decides, with
#   `aws:SourceArn` (the alarm), `aws:SourceAccount` and `aws:SourceOwner`; a refused message is lost, and the server logs
#   it | Source: "Example cases for Amazon SNS access control"; AWS re:Post, "Why didn't I receive an SNS notification for
#   my CloudWatch alarm trigger?"; the default policy of a topic for the third key
def _alarm_may_publish(alarm: str, topic: str) -> bool:
    found = sns.topic_policy_for_arn(topic)
    if found is not None and service_may("cloudwatch", "sns:Publish", topic, alarm, found[0]):
        return True
    logger.warning("the message of %s is lost: its policy does not let CloudWatch publish to %s", alarm, topic)
    return False
