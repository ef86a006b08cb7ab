"""The cleanup after an execution: a rule on its status starts a small state machine, which cleans up and tells the user."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.functions import OWN_EXECUTIONS, OWN_IDS, OWN_NAMES, published_version
from infra.policies import acknowledge, allow, make_role, state_machines
from infra.states import BRIEFLY, HOUR, report_event
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_s3 as s3

    from infra.functions import FunctionFactory
    from infra.notifications import Notifications
    from infra.scope import Scope
    from infra.state_machine import StateMachine
    from infra.steps import Steps
    from pipeline.settings import Settings

PATIENCE_SECONDS = 2 * 3600
"""How long the cleanup tries. The creation of an endpoint can hang for an hour, and it cannot be deleted before that."""

LEAST_WAIT_SECONDS = 5
"""The shortest wait between two calls. With a shorter one, the execution's history would be full (25,000 events) before
`PATIENCE_SECONDS` are over."""

SETTLE_SECONDS = 65
"""A little more than the minute for which the functions that make jobs and endpoints may run (infra/steps.py)."""

_RETRY = {
    "ErrorEquals": ["States.ALL"],
    "IntervalSeconds": 5,
    "MaxAttempts": 6,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}


class Cleanup(Construct):
    """The rule, the state machine and its function.

    It is a state machine because an endpoint may need more than the 15 minutes that a function may run.
    """

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        bucket: s3.Bucket,
        functions: FunctionFactory,
        steps: Steps,
        machine: StateMachine,
        notifications: Notifications,
        settings: Settings,
    ) -> None:
        """Make the three. The state machine publishes its result to the topic of `notifications`.

        The last of `steps`, the report, writes the page of the ended run.
        """
        super().__init__(parent, id)
        function = functions.make(self, "cleanup", "pipeline.steps.cleanup.handler", minutes=5)
        _grant(function, scope)
        version = published_version(function)
        role = make_role(self, "Role", state_machines(scope), "Tuneway's cleanup state machine")
        called = [f"{function.function_arn}:*", steps.any_version_of("report")]
        allow(role, ["lambda:InvokeFunction"], called, reason="published versions")
        notifications.let_publish(role)
        poll = settings.endpoint.poll_seconds
        topic = notifications.topic.topic_arn
        report = steps.versions["report"]
        body = definition(version, report, topic, bucket.bucket_name, scope.prefix, scope.region, poll)
        cleanup = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=f"{scope.prefix}-cleanup",
            definition_body=sfn.DefinitionBody.from_string(json.dumps(body)),
            role=role,
        )
        cleanup.node.add_dependency(role)
        reasons = {
            "SF1": "the execution history holds every event for 90 days",
            "SF2": "it is two states in a loop: its history is its trace",
        }
        acknowledge(cleanup, reasons)
        self.arn = cleanup.state_machine_arn

        self.rule_name = f"{scope.prefix}-ended"
        # EventBridge User Guide, "Cross-service confused deputy prevention": the rule's own ARN.
        conditions = {
            "StringEquals": {"aws:SourceAccount": scope.account},
            "ArnLike": {"aws:SourceArn": scope.arn("events", f"rule/{self.rule_name}")},
        }
        events_service = iam.ServicePrincipal("events.amazonaws.com", conditions=conditions)
        rule_role = make_role(self, "RuleRole", events_service, "Starts Tuneway's cleanup")
        allow(rule_role, ["states:StartExecution"], [cleanup.state_machine_arn])
        rule = events.Rule(
            self,
            "Ended",
            rule_name=self.rule_name,
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [machine.arn],
                    # The prefix leaves out the Distributed Map's child executions: theirs is execution:NAME/LABEL:ID.
                    "executionArn": events.Match.prefix(scope.arn("states", f"execution:{scope.prefix}:")),
                    "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
        )
        # Without policy updates, because the target would grant the role the same again, in a policy of its own.
        rule.add_target(
            targets.SfnStateMachine(
                cleanup,
                input=events.RuleTargetInput.from_object(
                    {
                        "execution": events.EventField.from_path("$.detail.executionArn"),
                        "status": events.EventField.from_path("$.detail.status"),
                        "redrives": events.EventField.from_path("$.detail.redriveCount"),
                    }
                ),
                role=rule_role.without_policy_updates(),
            )
        )


def definition(
    function: str, report: str, topic: str, bucket: str, prefix: str, region: str, poll_seconds: int
) -> dict[str, Any]:
    """Return the definition: it cleans up until nothing is left, writes the run's page, and then publishes once.

    Args:
        function: version ARN of the cleanup function.
        report: version ARN of the function that writes the page.
        topic: ARN of the topic.
        bucket: the stack's bucket.
        prefix: the stack's prefix.
        region: the stack's region.
        poll_seconds: `endpoint.poll_seconds`. The wait is at least `LEAST_WAIT_SECONDS`.
    """
    wait_seconds = max(poll_seconds, LEAST_WAIT_SECONDS)
    return {
        "Comment": "Runs after every execution: stops its jobs, puts the endpoint right, and publishes how it ended",
        "QueryLanguage": "JSONata",
        "StartAt": "Start",
        "States": {
            "Start": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Condition": "{% $states.input.status in ['ABORTED', 'TIMED_OUT'] %}",
                        "Assign": {"ended": "{% $states.input %}", "tries": 0},
                        "Next": "Settle",
                    }
                ],
                "Default": "CleanUp",
                "Assign": {"ended": "{% $states.input %}", "tries": 0},
            },
            # When an execution is ended from outside, one of its calls may still run and make a job or an endpoint.
            "Settle": {"Type": "Wait", "Seconds": SETTLE_SECONDS, "Next": "CleanUp"},
            "CleanUp": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Arguments": {
                    "FunctionName": function,
                    "Payload": {
                        "execution": "{% $ended.execution %}",
                        "redrives": "{% $ended.redrives %}",
                        "prefix": prefix,
                        "region": region,
                    },
                },
                "Retry": [HOUR, _RETRY],
                "Assign": {"done": "{% $states.result.Payload %}", "tries": "{% $tries + 1 %}"},
                "Catch": [
                    {
                        "ErrorEquals": ["States.ALL"],
                        "Assign": {
                            "done": {
                                "spent": None,
                                "subject": f"{prefix}: a run ended, and its cleanup failed",
                                "message": (
                                    "{% 'Execution: ' & $ended.execution & '\\nThe cleanup failed: ' & "
                                    "$string($states.errorOutput) & '\\nLook for jobs and endpoints that "
                                    f"begin with {prefix} in the SageMaker console, and stop them.' %}}"
                                ),
                            }
                        },
                        "Next": "Report",
                    }
                ],
                "Next": "CleanedUp",
            },
            "CleanedUp": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Condition": (
                            f"{{% $count($done.left) > 0 and $tries * {wait_seconds} < {PATIENCE_SECONDS} %}}"
                        ),
                        "Next": "Wait",
                    },
                    {"Condition": "{% $done.message = null %}", "Next": "Redriven"},
                ],
                "Default": "Report",
            },
            "Wait": {"Type": "Wait", "Seconds": wait_seconds, "Next": "CleanUp"},
            "Redriven": {"Type": "Succeed"},
            # A run that was ended from outside enters no state that could write its page. The page of a good end is written
            # again, with its whole time line.
            "Report": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Arguments": {
                    "FunctionName": report,
                    "Payload": report_event("{% $ended.execution %}", "ended", bucket, region, "{% $done.spent %}"),
                },
                "Retry": BRIEFLY,
                "Assign": {"done": _with_line("Report: ", "$states.result.Payload.page")},
                "Catch": [
                    {
                        "ErrorEquals": ["States.ALL"],
                        "Assign": {"done": _with_line("Report: none was written: ", "$states.errorOutput.Error")},
                        "Next": "Tell",
                    }
                ],
                "Next": "Tell",
            },
            "Tell": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sns:publish",
                "Arguments": {
                    "TopicArn": topic,
                    "Subject": "{% $done.subject %}",
                    "Message": "{% $done.message %}",
                },
                "Retry": [_RETRY],
                "Output": "{% $done %}",
                "End": True,
            },
        },
    }


def _with_line(name: str, value: str) -> str:
    """Return the expression of the cleanup's answer, with one more line in its message."""
    return f"{{% $merge([$done, {{'message': $done.message & '\\n{name}' & {value}}}]) %}}"


def _grant(function: lambda_.Function, scope: Scope) -> None:
    role = function.role
    assert isinstance(role, iam.Role)
    executions = scope.arn("states", f"execution:{scope.prefix}:*")
    allow(
        role,
        ["states:DescribeExecution", "states:GetExecutionHistory"],
        [executions],
        reason=OWN_EXECUTIONS,
    )
    lists = ["sagemaker:ListTrainingJobs", "bedrock:ListModelCustomizationJobs", "bedrock:ListModelImportJobs"]
    allow(role, lists, ["*"], reason="the list actions have no resource")
    allow(
        role,
        ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
        [scope.sagemaker("training-job")],
        reason=OWN_NAMES,
    )
    allow(
        role,
        ["bedrock:StopModelCustomizationJob"],
        [scope.arn("bedrock", "model-customization-job/*")],
        {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}},
        reason=f"{OWN_IDS}; the tag decides",
    )
    allow(
        role,
        ["sagemaker:DescribeEndpoint", "sagemaker:ListTags", "sagemaker:DeleteEndpoint"],
        [scope.endpoint],
    )
    allow(role, ["scheduler:GetSchedule", "scheduler:DeleteSchedule"], [scope.schedule])
    configs = scope.sagemaker("endpoint-config")
    allow(role, ["sagemaker:DescribeEndpointConfig"], [configs], reason=OWN_NAMES)
    allow(role, ["sagemaker:UpdateEndpoint"], [scope.endpoint, configs], reason=OWN_NAMES)
