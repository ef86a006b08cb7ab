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


# Differs: An alarm on a queue's `ApproximateNumberOfMessagesVisible` | AWS: looks at a metric each period, which comes
#   minutes late | Here: set after each call of SQS; other metrics of SQS are not there | Why: nobody waits minutes for
#   a test
@patch(app.SERVICE_HANDLERS, "sqs")
async def _handle_and_look(original: Callable[..., Any], *call: Any) -> Any:
    """Set every alarm on a queue's ApproximateNumberOfMessagesVisible after each call of SQS.

    MiniStack's SQS has no metrics, and its alarms look at those of all dimensions together.
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
    """An alarm's message is lost where the topic's policy does not let CloudWatch publish; MiniStack asks nobody.

    AWS keeps "Failed to execute action ..." in the alarm's history and tells nobody (AWS re:Post, "Why didn't I receive an
    SNS notification for my CloudWatch alarm trigger?").
    """
    actions = _ACTIONS[new_state]
    allowed = [arn for arn in alarm.get(actions) or [] if _alarm_may_publish(alarm["AlarmArn"], arn)]
    original({**alarm, actions: allowed}, old_state, new_state, reason)


# Unconfirmed: An alarm's message to its topic | Here: decided by the topic's policy for `cloudwatch.amazonaws.com`,
#   with `aws:SourceArn` (the alarm), `aws:SourceAccount` and `aws:SourceOwner`; refused: lost, a line in the server's
#   log | Source: "Example cases for Amazon SNS access control"; AWS re:Post, "Why didn't I receive an SNS notification
#   for my CloudWatch alarm trigger?"; that the third key is there from the default policy of a topic
def _alarm_may_publish(alarm: str, topic: str) -> bool:
    found = sns.topic_policy_for_arn(topic)
    if found is not None and service_may("cloudwatch", "sns:Publish", topic, alarm, found[0]):
        return True
    logger.warning("the message of %s is lost: its policy does not let CloudWatch publish to %s", alarm, topic)
    return False
