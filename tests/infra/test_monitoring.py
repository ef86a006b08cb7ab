"""The dashboard and the alarms in the synthesised template: AWS would take them, and each metric is one that exists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack.dashboards import problems
from tests.infra.test_expiry import PREFIX, only
from tests.infra.test_policies import documents, render

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

ALARMS = {
    "CleanupFailed": ("AWS/States", "ExecutionsFailed", {"StateMachineArn": "Cleanup"}),
    "CleanupNotStarted": ("AWS/Events", "FailedInvocations", {"RuleName": f"{PREFIX}-ended"}),
    "EndpointErrors": (
        "AWS/SageMaker",
        "Invocation5XXErrors",
        {"EndpointName": PREFIX, "VariantName": "AllTraffic"},
    ),
}


def machine(synthesised: Synthesised, begin: str) -> str:
    """Return the ARN of a state machine by the beginning of its resource's name."""
    name, _ = only(synthesised, "AWS::StepFunctions::StateMachine", begin)
    arn: str = render({"Ref": name}, synthesised.template)
    return arn


def dashboard(synthesised: Synthesised) -> dict[str, Any]:
    _, properties = only(synthesised, "AWS::CloudWatch::Dashboard")
    assert render(properties["DashboardName"], synthesised.template) == PREFIX
    body = render(properties["DashboardBody"], synthesised.template)
    assert list(problems(body)) == []
    found: dict[str, Any] = json.loads(body)
    return found


def test_the_dashboard_is_one_that_cloudwatch_takes_and_has_no_overlap(synthesised: Synthesised) -> None:
    widgets = dashboard(synthesised)["widgets"]
    places = {
        (x, y) for w in widgets for x in range(w["x"], w["x"] + w["width"]) for y in range(w["y"], w["y"] + w["height"])
    }
    assert len(places) == sum(widget["width"] * widget["height"] for widget in widgets)
    titles = [widget["properties"]["title"] for widget in widgets]
    assert len(titles) == len(set(titles)) == 10
    assert {w["properties"]["region"] for w in widgets if w["type"] == "metric"} == {"us-west-2"}


def test_it_shows_the_stacks_own_metrics_alone(synthesised: Synthesised) -> None:
    metrics = [m for w in dashboard(synthesised)["widgets"] for m in w["properties"].get("metrics", ())]
    assert len(metrics) == 18
    pipeline = machine(synthesised, "Pipeline")
    for metric in metrics:
        assert "0a1b2c3d" in json.dumps(metric) or pipeline in metric
    assert ["AWS/States", "ExecutionsTimedOut", "StateMachineArn", pipeline] in metrics
    # The names of training jobs are unknown at deployment. A term without quotes finds the stack's digits in them.
    schema = '{"/aws/sagemaker/TrainingJobs",TrainingJobName}'
    search = f"""SEARCH('{schema} MetricName="train:loss" TrainingJobName=0a1b2c3d', 'Average', 60)"""
    assert [{"expression": search}] in metrics


def test_the_dashboard_shows_every_alarm(synthesised: Synthesised) -> None:
    (widget,) = [w for w in dashboard(synthesised)["widgets"] if w["type"] == "alarm"]
    arns = {
        render({"Fn::GetAtt": [name, "Arn"]}, synthesised.template)
        for name in synthesised.resources("AWS::CloudWatch::Alarm")
    }
    assert set(widget["properties"]["alarms"]) == arns
    assert len(arns) == 5


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_publishes_a_metric_above_zero_and_says_what_to_do(synthesised: Synthesised, name: str) -> None:
    _, alarm = only(synthesised, "AWS::CloudWatch::Alarm", f"Monitoring{name}")
    topic, _ = only(synthesised, "AWS::SNS::Topic")
    assert alarm["AlarmActions"] == [{"Ref": topic}]
    assert "OKActions" not in alarm
    dimensions = {one["Name"]: render(one["Value"], synthesised.template) for one in alarm["Dimensions"]}
    if (begin := ALARMS[name][2].get("StateMachineArn")) is not None:
        assert dimensions == {"StateMachineArn": machine(synthesised, begin)}
        dimensions = ALARMS[name][2]
    assert (alarm["Namespace"], alarm["MetricName"], dimensions) == ALARMS[name]
    facts = ("Statistic", "ComparisonOperator", "Threshold", "Period", "EvaluationPeriods", "TreatMissingData")
    assert [alarm[fact] for fact in facts] == ["Sum", "GreaterThanThreshold", 0, 300, 1, "notBreaching"]
    description = render(alarm["AlarmDescription"], synthesised.template)
    assert len(description) <= 1024  # PutMetricAlarm's limit
    assert "execution" in description


def test_no_alarm_repeats_the_message_of_a_run_that_failed(synthesised: Synthesised) -> None:
    # The cleanup tells the end of each run. Its own failures are the alarms'.
    for alarm in synthesised.resources("AWS::CloudWatch::Alarm").values():
        values = [render(one["Value"], synthesised.template) for one in alarm["Properties"]["Dimensions"]]
        assert machine(synthesised, "Pipeline") not in values


def test_no_role_gets_a_grant_for_metrics(synthesised: Synthesised) -> None:
    writers = {
        name
        for name, statements in documents(synthesised, "AWS::IAM::Policy").items()
        for statement in statements
        if "cloudwatch:PutMetricData" in statement["Action"]
    }
    assert {name[:13] for name in writers} == {"RolesTraining", "RolesModelDef"}
