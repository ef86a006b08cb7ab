"""Alarms on queues, which MiniStack does not set, and their messages, which a topic's policy may refuse."""

from __future__ import annotations

import logging
import operator
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
            _set_alarm(alarm)
    return answer


def _set_alarm(alarm: dict[str, Any]) -> None:
    (name,) = (dimension["Value"] for dimension in alarm["Dimensions"])
    queue = sqs._queue_by_arn(f"arn:aws:sqs:{responses.get_region()}:{responses.get_account_id()}:{name}")
    if queue is None:
        return
    sqs._refresh_counts(queue)
    visible = int(queue["attributes"]["ApproximateNumberOfMessages"])
    breaching = _COMPARISONS[alarm["ComparisonOperator"]](visible, alarm["Threshold"])
    reason = f"Threshold Crossed: 1 datapoint [{visible}.0] ({alarm['ComparisonOperator']} {alarm['Threshold']})"
    state = {"StateValue": "ALARM" if breaching else "OK", "StateReason": reason}
    cloudwatch._set_alarm_state({}, {"AlarmName": alarm["AlarmName"], **state}, is_cbor=False, is_json=True)


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
