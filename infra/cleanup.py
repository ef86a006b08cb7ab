"""What follows the end of an execution: a rule on its status starts a small state machine, which tells the user at last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.functions import OWN_IDS, OWN_NAMES, published_version
from infra.policies import acknowledge, allow, role, state_machines
from infra.state_machine import OWN_EXECUTIONS, StateMachine
from infra.states import HOUR
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_

    from infra.functions import FunctionFactory
    from infra.notifications import Notifications
    from infra.scope import Scope
    from pipeline.settings import Settings

PATIENCE_SECONDS = 2 * 3600
"""How long the cleanup tries: creating an endpoint can hang for an hour, and it cannot be deleted before."""

LEAST_WAIT_SECONDS = 5
"""More often, and its history would be full (25,000 events) before its patience is over."""

SETTLE_SECONDS = 65
"""A little longer than the functions that make jobs and endpoints may run (a minute, in infra/steps.py)."""

_RETRY = {
    "ErrorEquals": ["States.ALL"],
    "IntervalSeconds": 5,
    "MaxAttempts": 6,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}


class Cleanup(Construct):
    """Rule, state machine and function.

    A state machine, because an endpoint may need more than a function's 15 minutes.
    """

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        functions: FunctionFactory,
        machine: StateMachine,
        notifications: Notifications,
        settings: Settings,
    ) -> None:
        """Make them; they tell what they did by `notifications`."""
        super().__init__(parent, id)
        function = functions.make(self, "cleanup", "pipeline.steps.cleanup.handler", minutes=5)
        _grant(function, scope)
        version = published_version(function)
        own_role = role(self, "Role", state_machines(scope), "Tuneway's cleanup state machine")
        allow(own_role, ["lambda:InvokeFunction"], [f"{function.function_arn}:*"], reason="published versions")
        notifications.let_publish(own_role)
        poll = settings.endpoint.poll_seconds
        topic = notifications.topic.topic_arn
        body = definition(version, topic, scope.prefix, scope.region, poll)
        cleanup = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=f"{scope.prefix}-cleanup",
            definition_body=sfn.DefinitionBody.from_string(json.dumps(body)),
            role=own_role,
        )
        cleanup.node.add_dependency(own_role)
        reasons = {
            "SF1": "the execution history holds every event for 90 days",
            "SF2": "two states in a loop: its history is its trace",
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
        starter = role(self, "RuleRole", events_service, "Starts Tuneway's cleanup")
        allow(starter, ["states:StartExecution"], [cleanup.state_machine_arn])
        rule = events.Rule(
            self,
            "Ended",
            rule_name=self.rule_name,
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [machine.arn],
                    # The children of the Distributed Map are executions, too: execution:NAME/LABEL:ID.
                    "executionArn": events.Match.prefix(scope.arn("states", f"execution:{scope.prefix}:")),
                    "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
        )
        # Without policy updates: the target would grant the role the same once more, in a policy beside ours.
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
                role=starter.without_policy_updates(),
            )
        )


def definition(function: str, topic: str, prefix: str, region: str, poll_seconds: int) -> dict[str, Any]:
    """Clean up until nothing is left, then publish once."""
    wait_seconds = max(poll_seconds, LEAST_WAIT_SECONDS)
    return {
        "Comment": "Follows the end of every execution: stops its jobs, puts the endpoint right, tells how it ended",
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
            # An execution that is ended from outside leaves a call under way, which may yet make a job or an endpoint.
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
                                "subject": f"{prefix}: a run ended, and its cleanup failed",
                                "message": (
                                    "{% 'Execution: ' & $ended.execution & '\\nThe cleanup failed: ' & "
                                    "$string($states.errorOutput) & '\\nLook for jobs and endpoints that "
                                    f"begin with {prefix} in the SageMaker console, and stop them.' %}}"
                                ),
                            }
                        },
                        "Next": "Tell",
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
                "Default": "Tell",
            },
            "Wait": {"Type": "Wait", "Seconds": wait_seconds, "Next": "CleanUp"},
            "Redriven": {"Type": "Succeed"},
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


def _grant(function: lambda_.Function, scope: Scope) -> None:
    own = function.role
    assert isinstance(own, iam.Role)
    executions = scope.arn("states", f"execution:{scope.prefix}:*")
    allow(
        own,
        ["states:DescribeExecution", "states:GetExecutionHistory"],
        [executions],
        reason=OWN_EXECUTIONS,
    )
    lists = ["sagemaker:ListTrainingJobs", "bedrock:ListModelCustomizationJobs"]
    allow(own, lists, ["*"], reason="lists have no resource")
    allow(own, ["sagemaker:StopTrainingJob"], [scope.sagemaker("training-job")], reason=OWN_NAMES)
    allow(
        own,
        ["bedrock:StopModelCustomizationJob"],
        [scope.arn("bedrock", "model-customization-job/*")],
        {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}},
        reason=f"{OWN_IDS}; the tag decides",
    )
    allow(
        own,
        ["sagemaker:DescribeEndpoint", "sagemaker:ListTags", "sagemaker:DeleteEndpoint"],
        [scope.endpoint],
    )
    allow(own, ["scheduler:GetSchedule", "scheduler:DeleteSchedule"], [scope.schedule])
    configs = scope.sagemaker("endpoint-config")
    allow(own, ["sagemaker:DescribeEndpointConfig"], [configs], reason=OWN_NAMES)
    allow(own, ["sagemaker:UpdateEndpoint"], [scope.endpoint, configs], reason=OWN_NAMES)
