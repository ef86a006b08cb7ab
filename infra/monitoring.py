"""The dashboard of runs and endpoint, and the alarms on what nobody else would tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from pipeline.embedded_metrics import IDLE_TIME, NAMESPACE, REJECTED_ROWS, STACK, STEP, STEP_TIME
from pipeline.names import VARIANT

if TYPE_CHECKING:
    from infra.cleanup import Cleanup
    from infra.notifications import Notifications
    from infra.scope import Scope
    from infra.state_machine import StateMachine

MINUTE, HOUR = 60, 3600
_COLUMNS, _WIDTH, _HEIGHT = 2, 12, 6
"""Two widgets side by side. A dashboard is 24 units wide."""


class Monitoring(Construct):
    """One dashboard and the alarms."""

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        machine: StateMachine,
        cleanup: Cleanup,
        notifications: Notifications,
        queue_alarms: list[cloudwatch.Alarm],
    ) -> None:
        """Make both. The dashboard also shows the state of `queue_alarms`.

        There is no alarm on a run that fails: the cleanup publishes the end of each run, with its reason. The alarms here are
        for a cleanup that cannot do so.
        """
        super().__init__(parent, id)
        name = f"{scope.prefix}-cleanup-failed"
        description = (
            f"A run of {scope.prefix} ended, and the state machine {scope.prefix}-cleanup failed, so the message about the "
            "run's end is missing. Its failed execution in the Step Functions console has the reason: mend it, and redrive "
            f"that execution. Until then, stop jobs and an endpoint that begin with {scope.prefix} in the SageMaker console."
        )
        failed = _metric("AWS/States", "ExecutionsFailed", {"StateMachineArn": cleanup.arn})
        alarms = [notifications.alarm(self, "CleanupFailed", name, description, failed)]
        name = f"{scope.prefix}-cleanup-not-started"
        description = (
            f"A run of {scope.prefix} ended, and the rule {cleanup.rule_name} could not start the state machine "
            f"{scope.prefix}-cleanup. Start an execution of it with the input "
            '{"execution": "ARN OF THE RUN", "status": "FAILED", "redrives": 0}. It stops what still bills, and tells how the '
            "run ended."
        )
        # A target's last failure; EventBridge sends no zeros (EventBridge user guide, "Monitoring Amazon EventBridge").
        not_started = _metric("AWS/Events", "FailedInvocations", {"RuleName": cleanup.rule_name})
        alarms.append(notifications.alarm(self, "CleanupNotStarted", name, description, not_started))
        name = f"{scope.prefix}-endpoint-errors"
        description = (
            f"The endpoint {scope.prefix} answered requests with a status of 500 or more. The log group "
            f"/aws/sagemaker/Endpoints/{scope.prefix} has the server's reason. Start an execution with the input "
            '{"serve": "last"} to serve the model again on new instances.'
        )
        served = {"EndpointName": scope.prefix, "VariantName": VARIANT}
        errors = _metric("AWS/SageMaker", "Invocation5XXErrors", served)
        alarms.append(notifications.alarm(self, "EndpointErrors", name, description, errors))
        arns = [alarm.alarm_arn for alarm in [*alarms, *queue_alarms]]
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=scope.prefix,
            dashboard_body=json.dumps(body(scope, machine.arn, arns)),
        )


def _metric(namespace: str, name: str, dimensions: dict[str, str]) -> cloudwatch.Metric:
    """Return the sum of a metric in five minutes. Points come some minutes late."""
    period = cdk.Duration.minutes(5)
    return cloudwatch.Metric(
        namespace=namespace, metric_name=name, dimensions_map=dimensions, statistic="Sum", period=period
    )


def body(scope: Scope, machine: str, alarms: list[str]) -> dict[str, Any]:
    """Return the dashboard's body (API reference of CloudWatch, "Dashboard Body Structure and Syntax").

    Args:
        scope: the stack's names.
        machine: ARN of the state machine.
        alarms: ARNs of the alarms.
    """
    endpoint = ["EndpointName", scope.prefix, "VariantName", VARIANT]
    requests, instances = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
    outcomes = ("Succeeded", "Failed", "TimedOut", "Aborted")
    graphs = [
        _graph(
            "Runs by outcome",
            "Sum",
            HOUR,
            *(["AWS/States", f"Executions{outcome}", "StateMachineArn", machine] for outcome in outcomes),
            stacked=True,
        ),
        _graph(
            "Time of each step, in seconds",
            "Average",
            HOUR,
            _search(f'{{{NAMESPACE},{STACK},{STEP}}} {STACK}="{scope.prefix}" MetricName="{STEP_TIME}"', HOUR),
        ),
        _graph(
            "Loss of training jobs",
            "Average",
            MINUTE,
            *(_of_jobs("TrainingJobName", f"{split}:loss", scope) for split in ("train", "validation")),
        ),
        _graph(
            "GPUs of training jobs, in percent",
            "Average",
            MINUTE,
            *(_of_jobs("Host", name, scope) for name in ("GPUUtilization", "GPUMemoryUtilization")),
        ),
        _graph(
            "Requests to the endpoint, and errors",
            "Sum",
            MINUTE,
            *([requests, name, *endpoint] for name in ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")),
        ),
        _graph(
            "Time of the model's answers, in microseconds",
            "Average",
            MINUTE,
            *([requests, "ModelLatency", *endpoint, {"stat": stat}] for stat in ("Average", "Maximum")),
        ),
        _graph(
            "GPUs of the endpoint, in percent",
            "Maximum",
            MINUTE,
            *([instances, name, *endpoint] for name in ("GPUUtilization", "GPUMemoryUtilization")),
        ),
        _graph(
            "Idle time of the endpoint, in seconds", "Maximum", 5 * MINUTE, [NAMESPACE, IDLE_TIME, STACK, scope.prefix]
        ),
        _graph(
            "Rejected rows of the dataset, in percent", "Maximum", HOUR, [NAMESPACE, REJECTED_ROWS, STACK, scope.prefix]
        ),
    ]
    for graph in graphs:
        graph["properties"]["region"] = scope.region
    widgets = [*graphs, {"type": "alarm", "properties": {"title": "Alarms", "alarms": alarms}}]
    for number, widget in enumerate(widgets):
        row, column = divmod(number, _COLUMNS)
        widget |= {"x": column * _WIDTH, "y": row * _HEIGHT, "width": _WIDTH, "height": _HEIGHT}
    return {"start": "-P7D", "periodOverride": "inherit", "widgets": widgets}


def _graph(title: str, stat: str, period: int, *metrics: list[Any], stacked: bool = False) -> dict[str, Any]:
    properties = {"title": title, "view": "timeSeries", "stat": stat, "period": period, "metrics": list(metrics)}
    return {"type": "metric", "properties": {**properties, "stacked": stacked}}


def _search(term: str, period: int) -> list[dict[str, str]]:
    """Return all metrics that a search finds. It sees those with points in the last two weeks."""
    return [{"expression": f"SEARCH('{term}', 'Average', {period})"}]


def _of_jobs(dimension: str, metric: str, scope: Scope) -> list[dict[str, str]]:
    """Return a metric of all training jobs of the stack.

    The names of jobs, and of their hosts, contain the stack's digits. A term without quotes finds a part of a value between
    signs that are neither letters nor digits (CloudWatch user guide, "CloudWatch search expression syntax").
    """
    schema = f'{{"/aws/sagemaker/TrainingJobs",{dimension}}}'
    return _search(f'{schema} MetricName="{metric}" {dimension}={scope.digits}', MINUTE)
