"""The safety nets of the endpoint's end: queues, alarms and topic in the synthesised template, and the calls that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.conftest import KEY, Synthesised
from tests.infra.test_policies import documents, render

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "tuneway-0a1b2c3d"
TLS_ONLY = {"Bool": {"aws:SecureTransport": "false"}}
NETS = {"Expiry": f"{PREFIX}-expiry-failed", "Idle": f"{PREFIX}-idle-failed"}
"""The constructs with a queue and an alarm, by the beginning of their resources' names."""


def only(synthesised: Synthesised, kind: str, begin: str = "") -> tuple[str, dict[str, Any]]:
    ((name, resource),) = (one for one in synthesised.resources(kind).items() if one[0].startswith(begin))
    return name, resource["Properties"]


def allowed(synthesised: Synthesised, role: str) -> Iterator[tuple[str, str]]:
    for name, statements in documents(synthesised, "AWS::IAM::Policy").items():
        for statement in statements if name.startswith(role) else ():
            actions = statement["Action"]
            for action in actions if isinstance(actions, list) else [actions]:
                yield action, statement["Resource"]


@pytest.mark.parametrize(("net", "queue"), NETS.items())
def test_the_schedules_role_may_send_to_its_queue_and_plan_knows_it(
    synthesised: Synthesised, net: str, queue: str
) -> None:
    name, properties = only(synthesised, "AWS::SQS::Queue", net)
    assert render(properties["QueueName"], synthesised.template) == queue
    arn = render({"Fn::GetAtt": [name, "Arn"]}, synthesised.template)
    assert ("sqs:SendMessage", arn) in list(allowed(synthesised, f"Roles{net}"))
    # The state machine gets the ARNs, made from the names.
    stack = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]["stack"]
    assert stack[f"{net.lower()}_failed"] == f"arn:aws:sqs:us-west-2:123456789012:{queue}"


def test_a_call_that_looks_for_use_and_fails_goes_to_the_queue(synthesised: Synthesised) -> None:
    function, _ = only(synthesised, "AWS::Lambda::Function", "Idle")
    queue, _ = only(synthesised, "AWS::SQS::Queue", "Idle")
    _, calls = only(synthesised, "AWS::Lambda::EventInvokeConfig")
    assert (calls["FunctionName"], calls["Qualifier"]) == ({"Ref": function}, "$LATEST")
    assert calls["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": [queue, "Arn"]}}}
    arn = render({"Fn::GetAtt": [queue, "Arn"]}, synthesised.template)
    assert ("sqs:SendMessage", arn) in list(allowed(synthesised, "IdleIdleRole"))
    # The schedule names the function without a version, as the configuration of its calls does.
    stack = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]["stack"]
    assert stack["idle_function"] == f"arn:aws:lambda:us-west-2:123456789012:function:{PREFIX}-idle"
    found = render({"Fn::GetAtt": [function, "Arn"]}, synthesised.template)
    assert ("lambda:InvokeFunction", found) in list(allowed(synthesised, "RolesIdle"))


@pytest.mark.parametrize("net", NETS)
def test_each_queue_answers_over_tls_only_and_is_encrypted(
    synthesised: Synthesised, everything: Synthesised, net: str
) -> None:
    policies = documents(synthesised, "AWS::SQS::QueuePolicy").items()
    ((statement,),) = (statements for name, statements in policies if name.startswith(net))
    assert (statement["Effect"], statement["Action"], statement["Condition"]) == ("Deny", "sqs:*", TLS_ONLY)
    own, with_key = (only(stack, "AWS::SQS::Queue", net)[1] for stack in (synthesised, everything))
    assert (own["SqsManagedSseEnabled"], own.get("KmsMasterKeyId")) == (True, None)
    assert with_key["KmsMasterKeyId"] == KEY


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("Expiry", f"`aws sagemaker delete-endpoint --region us-west-2 --endpoint-name {PREFIX}`"),
        ("Idle", "until its time to live is over (endpoint.time_to_live_minutes)"),
    ],
)
def test_one_message_in_it_is_an_alarm_that_says_what_to_do(synthesised: Synthesised, net: str, words: str) -> None:
    queue, _ = only(synthesised, "AWS::SQS::Queue", net)
    topic, _ = only(synthesised, "AWS::SNS::Topic")
    _, alarm = only(synthesised, "AWS::CloudWatch::Alarm", net)
    assert alarm["AlarmActions"] == [{"Ref": topic}]
    assert "OKActions" not in alarm
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    facts = ("Namespace", "MetricName", "Statistic", "ComparisonOperator", "Threshold", "Period", "EvaluationPeriods")
    assert [alarm[fact] for fact in facts] == [
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", "GreaterThanThreshold", 0, 60, 1
    ]  # fmt: skip
    assert alarm["TreatMissingData"] == "notBreaching"
    description = render(alarm["AlarmDescription"], synthesised.template)
    assert words in description
    assert f"the SQS queue {NETS[net]}" in description
    assert len(description) <= 1024  # PutMetricAlarm's limit


def test_the_topic_refuses_plain_http_and_lets_these_alarms_alone_publish(synthesised: Synthesised) -> None:
    ((refusal, *grants),) = documents(synthesised, "AWS::SNS::TopicPolicy").values()
    assert (refusal["Effect"], refusal["Principal"], refusal["Condition"]) == ("Deny", "*", TLS_ONLY)
    assert {statement["Action"] for statement in (refusal, *grants)} == {"sns:Publish"}
    alarms = synthesised.resources("AWS::CloudWatch::Alarm")
    assert len(alarms) == len(grants)
    for name, grant in zip(alarms, grants, strict=True):
        assert (grant["Effect"], grant["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
        assert grant["Condition"] == {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": render({"Fn::GetAtt": [name, "Arn"]}, synthesised.template)},
        }


def test_the_topic_has_the_users_key_or_none(synthesised: Synthesised, everything: Synthesised) -> None:
    # AWS's own key, alias/aws/sns, does not let CloudWatch publish.
    assert "KmsMasterKeyId" not in only(synthesised, "AWS::SNS::Topic")[1]
    assert only(everything, "AWS::SNS::Topic")[1]["KmsMasterKeyId"] == KEY
