"""The safety net of the endpoint's expiry: queue, alarm and topic in the synthesised template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.infra.conftest import KEY, Synthesised
from tests.infra.test_policies import documents, render

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "tuneway-0a1b2c3d"
TLS_ONLY = {"Bool": {"aws:SecureTransport": "false"}}


def only(synthesised: Synthesised, kind: str) -> tuple[str, dict[str, Any]]:
    ((name, resource),) = synthesised.resources(kind).items()
    return name, resource["Properties"]


def allowed(synthesised: Synthesised, role: str) -> Iterator[tuple[str, str]]:
    for name, statements in documents(synthesised, "AWS::IAM::Policy").items():
        for statement in statements if name.startswith(role) else ():
            actions = statement["Action"]
            for action in actions if isinstance(actions, list) else [actions]:
                yield action, statement["Resource"]


def test_the_schedules_role_may_send_to_the_queue_and_plan_gets_its_arn(synthesised: Synthesised) -> None:
    name, queue = only(synthesised, "AWS::SQS::Queue")
    assert render(queue["QueueName"], synthesised.template) == f"{PREFIX}-expiry-failed"
    # The state machine gets the queue's ARN, made from its name.
    plan = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]
    assert plan["stack"]["expiry_failed"] == "arn:aws:sqs:us-west-2:123456789012:tuneway-0a1b2c3d-expiry-failed"
    arn = render({"Fn::GetAtt": [name, "Arn"]}, synthesised.template)
    assert ("sqs:SendMessage", arn) in list(allowed(synthesised, "RolesExpiry"))


def test_the_queue_answers_over_tls_only_and_is_encrypted(synthesised: Synthesised, everything: Synthesised) -> None:
    ((statement,),) = documents(synthesised, "AWS::SQS::QueuePolicy").values()
    assert (statement["Effect"], statement["Action"], statement["Condition"]) == ("Deny", "sqs:*", TLS_ONLY)
    own, with_key = only(synthesised, "AWS::SQS::Queue")[1], only(everything, "AWS::SQS::Queue")[1]
    assert (own["SqsManagedSseEnabled"], own.get("KmsMasterKeyId")) == (True, None)
    assert with_key["KmsMasterKeyId"] == KEY


def test_one_message_in_the_queue_raises_an_alarm_that_says_what_to_do(synthesised: Synthesised) -> None:
    queue, _ = only(synthesised, "AWS::SQS::Queue")
    topic, _ = only(synthesised, "AWS::SNS::Topic")
    _, alarm = only(synthesised, "AWS::CloudWatch::Alarm")
    assert alarm["AlarmActions"] == [{"Ref": topic}]
    assert "OKActions" not in alarm
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    facts = ("Namespace", "MetricName", "Statistic", "ComparisonOperator", "Threshold", "Period", "EvaluationPeriods")
    assert [alarm[fact] for fact in facts] == [
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", "GreaterThanThreshold", 0, 60, 1
    ]  # fmt: skip
    assert alarm["TreatMissingData"] == "notBreaching"
    description = render(alarm["AlarmDescription"], synthesised.template)
    assert f"`aws sagemaker delete-endpoint --region us-west-2 --endpoint-name {PREFIX}`" in description
    assert f"the SQS queue {PREFIX}-expiry-failed" in description
    assert len(description) <= 1024  # PutMetricAlarm's limit


def test_the_topic_refuses_plain_http_and_lets_only_this_alarm_publish(synthesised: Synthesised) -> None:
    ((refusal, grant),) = documents(synthesised, "AWS::SNS::TopicPolicy").values()
    assert (refusal["Effect"], refusal["Principal"], refusal["Condition"]) == ("Deny", "*", TLS_ONLY)
    assert (refusal["Action"], grant["Action"]) == ("sns:Publish", "sns:Publish")
    name, _ = only(synthesised, "AWS::CloudWatch::Alarm")
    assert (grant["Effect"], grant["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
    assert grant["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": render({"Fn::GetAtt": [name, "Arn"]}, synthesised.template)},
    }


def test_the_topic_has_the_users_key_or_none(synthesised: Synthesised, everything: Synthesised) -> None:
    # AWS's own key, alias/aws/sns, does not let CloudWatch publish.
    assert "KmsMasterKeyId" not in only(synthesised, "AWS::SNS::Topic")[1]
    assert only(everything, "AWS::SNS::Topic")[1]["KmsMasterKeyId"] == KEY
