"""A dashboard whose body breaks CloudWatch's structure is refused, with the place of each mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local_aws.ministack.dashboards import problems
from tests.local_aws.conftest import eventually

if TYPE_CHECKING:
    from tests.local_aws.conftest import RunningAws

ALARM = "arn:aws:cloudwatch:us-west-2:123456789012:alarm:mine"


def graph(*metrics: Any, **properties: Any) -> dict[str, Any]:
    named = {"metrics": list(metrics) or [["AWS/EC2", "CPUUtilization"]], "region": "us-west-2", **properties}
    return {"type": "metric", "properties": {name: of for name, of in named.items() if of is not None}}


GOOD = [
    graph(),
    {
        **graph(["AWS/EC2", "CPUUtilization", "InstanceId", "i-1", {"stat": "p99.9", "period": 300}]),
        "x": 12,
        "width": 12,
    },
    graph([{"expression": "SEARCH('{AWS/EC2,InstanceId} MetricName=\"CPUUtilization\"', 'Average', 300)"}], view="bar"),
    {"type": "text", "properties": {"markdown": "Hello world"}, "x": 0, "y": 7, "width": 3, "height": 3},
    {"type": "alarm", "properties": {"title": "Alarms", "alarms": [ALARM]}},
]


@pytest.mark.parametrize("widget", GOOD)
def test_a_widget_of_the_documentation_has_no_mistake(widget: dict[str, Any]) -> None:
    assert list(problems(json.dumps({"widgets": [widget], "start": "-PT6H", "periodOverride": "inherit"}))) == []


@pytest.mark.parametrize(
    ("widget", "mistake"),
    [
        (graph(region=None), "/widgets/0/properties/region: missing"),
        (graph(colour="red"), "/widgets/0/properties: unknown members ['colour']"),
        (graph(view="line"), "/widgets/0/properties/view: line is none of"),
        (graph(stat="Avg"), "/widgets/0/properties/metrics/0: Avg is no statistic"),
        (graph(period=90), "/widgets/0/properties/metrics/0: a period of 90 s"),
        (graph(["AWS/EC2"]), "/widgets/0/properties/metrics/0: a metric is a namespace, a name, and pairs"),
        (graph(["AWS/EC2", "CPUUtilization", "InstanceId"]), "a metric is a namespace"),
        (graph(["AWS/EC2", "CPUUtilization", {"statistic": "Sum"}]), "unknown members ['statistic']"),
        (graph([{"expression": "SEARCH({AWS/EC2} CPU, Average)"}]), "is no search that is known here"),
        (graph(["AWS/EC2", {"expression": "SEARCH('{AWS/EC2}', 'Sum')"}]), "an expression stands alone"),
        ({**graph(), "x": 12, "width": 13}, "it is wider than the dashboard"),
        ({**graph(), "width": 25}, "/widgets/0/width: 25 is not in 1 to 24"),
        ({**graph(), "colour": 1}, "/widgets/0: unknown members ['colour']"),
        ({"type": "alarm", "properties": {"alarms": ["mine"]}}, "mine is no ARN of an alarm"),
        ({"type": "text", "properties": {"text": "x"}}, "/widgets/0/properties/markdown: missing"),
        ({"type": "pie", "properties": {}}, "/widgets/0/type: pie is not a type of widget"),
    ],
)
def test_a_mistake_is_named_with_its_place(widget: dict[str, Any], mistake: str) -> None:
    assert any(mistake in found for found in problems(json.dumps({"widgets": [widget]})))


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("{", "no JSON"),
        ("[]", "a dashboard needs an array of widgets"),
        ("{}", "a dashboard needs an array of widgets"),
        ('{"widgets": [], "title": "x"}', "unknown members ['title']"),
        ('{"widgets": [], "periodOverride": "never"}', "/periodOverride"),
    ],
)
def test_a_body_that_is_none_is_refused(body: str, mistake: str) -> None:
    assert mistake in next(problems(body))


@pytest.mark.parametrize(("stat", "status"), [("p99", "CREATE_COMPLETE"), ("Avg", "ROLLBACK_COMPLETE")])
def test_a_stack_makes_a_dashboard_and_deletes_it_and_none_with_a_mistake(
    aws: RunningAws, stat: str, status: str
) -> None:
    stacks, cloudwatch = aws.client("cloudformation"), aws.client("cloudwatch")
    name = f"dashboard-{stat}"
    body = {
        "Fn::Sub": json.dumps({"widgets": [graph(["AWS/EC2", "CPUUtilization", "A", "${AWS::StackName}"], stat=stat)]})
    }
    board = {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardName": name, "DashboardBody": body}}
    stacks.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Board": board}}))
    described = eventually(
        lambda: [
            stack
            for stack in stacks.describe_stacks(StackName=name)["Stacks"]
            if not stack["StackStatus"].endswith("PROGRESS")
        ]
    )
    assert described[0]["StackStatus"] == status
    entries = cloudwatch.list_dashboards(DashboardNamePrefix=name)["DashboardEntries"]
    assert len(entries) == (status == "CREATE_COMPLETE")
    if entries:
        assert f'"{name}"' in cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
    else:
        reasons = [
            one.get("ResourceStatusReason", "") for one in stacks.describe_stack_events(StackName=name)["StackEvents"]
        ]
        assert any("Avg is no statistic" in reason for reason in reasons), reasons
    stacks.delete_stack(StackName=name)
    assert eventually(lambda: not cloudwatch.list_dashboards(DashboardNamePrefix=name)["DashboardEntries"])
