"""An alarm on a queue follows the number of its messages, and publishes to a topic whose policy allows CloudWatch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local_aws.conftest import ACCOUNT, REGION, eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws


def alarm_on_a_queue(aws: RunningAws, name: str, policy: dict[str, Any] | None) -> tuple[str, str]:
    """Make a queue NAME, and an alarm on its messages that publishes to a topic with `policy`.

    Returns:
        The URLs of the queue and of another queue, which is subscribed to the topic.
    """
    cloudwatch, sns, sqs = (aws.client(service) for service in ("cloudwatch", "sns", "sqs"))
    queue = str(sqs.create_queue(QueueName=name)["QueueUrl"])
    sender = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    open_to_topics = json.dumps({"Statement": [{**sender, "Resource": "*"}]})
    notices = str(sqs.create_queue(QueueName=f"{name}-notices", Attributes={"Policy": open_to_topics})["QueueUrl"])
    attributes = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [policy]})} if policy else {}
    topic = sns.create_topic(Name=name, Attributes=attributes)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-notices")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        AlarmDescription="Read me.",
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": name}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
        AlarmActions=[topic],
    )
    return queue, notices


def state(aws: RunningAws, name: str) -> str:
    (alarm,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return str(alarm["StateValue"])


def statement(**changes: Any) -> dict[str, Any]:
    """Return the statement of the Amazon SNS Developer Guide, "Example cases for Amazon SNS access control"."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": "*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*"},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        },
        **changes,
    }


@pytest.mark.parametrize(("name", "policy"), [("default-policy", None), ("open-topic", statement())])
def test_an_alarm_follows_its_own_queue_and_publishes_to_its_topic(
    aws: RunningAws, name: str, policy: dict[str, Any] | None
) -> None:
    sqs = aws.client("sqs")
    queue, notices = alarm_on_a_queue(aws, name, policy)
    other = sqs.create_queue(QueueName=f"{name}-other")["QueueUrl"]
    sqs.send_message(QueueUrl=other, MessageBody="of another queue")
    assert state(aws, name) == "OK"
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert state(aws, name) == "ALARM"
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=notices).get("Messages"))
    notice = json.loads(json.loads(message["Body"])["Message"])
    assert (notice["AlarmName"], notice["AlarmDescription"], notice["NewStateValue"]) == (name, "Read me.", "ALARM")
    [decision] = aws.decisions(principal="cloudwatch.amazonaws.com", resource=f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
    assert decision["context"]["aws:sourcearn"] == f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"
    sqs.purge_queue(QueueUrl=queue)
    assert state(aws, name) == "OK"


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        # A topic has only this statement if the CDK's enforce_ssl makes its policy.
        (
            "tls-only",
            statement(Effect="Deny", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}}),
        ),
        ("other-service", statement(Principal={"Service": "events.amazonaws.com"})),
        ("other-account", statement(Condition={"StringEquals": {"aws:SourceAccount": "111122223333"}})),
    ],
)
def test_the_notice_is_lost_where_the_topic_does_not_let_cloudwatch_publish(
    aws: RunningAws, name: str, policy: dict[str, Any]
) -> None:
    sqs = aws.client("sqs")
    queue, notices = alarm_on_a_queue(aws, name, policy)
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert state(aws, name) == "ALARM"
    [decision] = aws.decisions(principal="cloudwatch.amazonaws.com", resource=f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
    assert decision["allowed"] is False
    assert (
        f"the message of arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name} is lost"
        in (aws.state_dir / "server.log").read_text()
    )
    assert "Messages" not in sqs.receive_message(QueueUrl=notices)


def put(aws: RunningAws, name: str, value: float, service: str) -> None:
    datum = {"MetricName": name, "Value": value, "Dimensions": [{"Name": "Service", "Value": service}]}
    aws.client("cloudwatch").put_metric_data(Namespace="Mine", MetricData=[datum])


def test_an_alarm_follows_the_metric_of_its_own_dimensions_and_a_missing_point_ends_it(aws: RunningAws) -> None:
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName="errors",
        Namespace="Mine",
        MetricName="Errors",
        Dimensions=[{"Name": "Service", "Value": "own"}],
        Statistic="Sum",
        Period=2,  # CloudWatch takes 10 at least. The local one is not asked to check that.
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=2,
        TreatMissingData="notBreaching",
    )
    put(aws, "Errors", 5, "other")
    assert state(aws, "errors") == "OK"
    put(aws, "Errors", 2, "own")
    assert state(aws, "errors") == "OK"
    put(aws, "Errors", 1, "own")
    assert state(aws, "errors") == "ALARM"
    assert eventually(lambda: state(aws, "errors") == "OK")
