"""The function that deletes an endpoint without use, and the queue with the alarm for its failures.

A schedule that the smoke test makes calls the function (`pipeline.schedules.idle`). Scheduler hands the call to Lambda and
knows nothing of its end. So the schedule's own dead-letter queue gets only calls that could not be handed over. A call that
failed goes to the same queue by Lambda's on-failure destination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.failure_queue import FailureQueue
from infra.policies import allow

if TYPE_CHECKING:
    from aws_cdk import aws_s3 as s3
    from constructs import Construct

    from infra.functions import FunctionFactory
    from infra.notifications import Notifications
    from infra.scope import Scope

CALL_SECONDS = 3600
"""How long Lambda tries one call, if it has no room for the function. An older call is of no use: others have followed."""


class Idle(FailureQueue):
    """The function, its queue and the alarm."""

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        bucket: s3.Bucket,
        role: iam.Role,
        functions: FunctionFactory,
        notifications: Notifications,
    ) -> None:
        """Make the three, and let the schedule's `role` call the function and send to the queue."""
        name = f"{scope.prefix}-idle-failed"
        description = (
            f"The function {scope.prefix}-idle could not look whether the endpoint {scope.prefix} is in use, or could not end "
            "it or tell you about it. The endpoint may bill until its time to live is over (endpoint.time_to_live_minutes). "
            "The function is called again every five minutes. If the endpoint is not needed, delete it in the SageMaker "
            f"console. The message in the SQS queue {name} gives the reason: delete it, then another failure is told."
        )
        super().__init__(parent, id, name, bucket, notifications, description)
        self.function = functions.make(self, "idle", "pipeline.steps.idle.handler", minutes=5)
        own = self.function.role
        assert isinstance(own, iam.Role)
        allow(own, ["cloudwatch:GetMetricData"], ["*"], reason="the action has no resource")
        allow(own, ["sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint"], [scope.endpoint])
        schedules = [scope.schedule, scope.idle_schedule]
        allow(own, ["scheduler:GetSchedule", "scheduler:DeleteSchedule"], schedules)
        notifications.let_publish(own)
        self.let_send(own)
        # Not a published version: a schedule lives longer than a deploy, and the configuration below is of one version.
        calls = lambda_.CfnEventInvokeConfig(
            self,
            "Calls",
            function_name=self.function.function_name,
            qualifier="$LATEST",
            maximum_event_age_in_seconds=CALL_SECONDS,
            destination_config=lambda_.CfnEventInvokeConfig.DestinationConfigProperty(
                on_failure=lambda_.CfnEventInvokeConfig.OnFailureProperty(destination=self.queue.queue_arn)
            ),
        )
        calls.node.add_dependency(own)  # Lambda checks that the function's role may send.
        self.let_send(role)
        allow(role, ["lambda:InvokeFunction"], [self.function.function_arn])
