"""The safety net of the endpoint's expiry: if its schedule fails, a message goes to a queue, whose alarm tells the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.policies import acknowledge, allow
from infra.storage import allow_key

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_s3 as s3

    from infra.notifications import Notifications
    from infra.scope import Scope


class Expiry(Construct):
    """The schedule's dead-letter queue and the alarm on it."""

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, role: iam.Role, notifications: Notifications
    ) -> None:
        """Make both, and let the schedule's `role` send to the queue. The bucket's key encrypts the queue, if it has one."""
        super().__init__(parent, id)
        name = f"{scope.prefix}-expiry-failed"
        key = bucket.encryption_key
        queue = sqs.Queue(
            self,
            "Failed",
            queue_name=name,
            encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
            encryption_master_key=key,
            enforce_ssl=True,
            # An alarm publishes only when its state changes. So a message that stayed would hide the next one.
            retention_period=cdk.Duration.days(1),
        )
        acknowledge(queue, {"SQS3": "it is itself the dead-letter queue, and nothing reads it but a person"})
        # The schedule's own role sends (EventBridge Scheduler User Guide, "Configuring a schedule's dead-letter queue").
        allow(role, ["sqs:SendMessage"], [queue.queue_arn])
        allow_key(role, bucket, ["Decrypt", "GenerateDataKey"])
        delete = f"aws sagemaker delete-endpoint --region {scope.region} --endpoint-name {scope.prefix}"
        # It publishes failures only. When the queue is empty again, the message may just have been too old: that says nothing
        # about the endpoint.
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_name=name,
            alarm_description=(
                f"The schedule did not delete the endpoint {scope.prefix} when its time was over. If the endpoint is still "
                f"there, it still bills: delete it in the SageMaker console or with `{delete}`. Then delete the message in "
                f"the SQS queue {name}, which gives the reason."
            ),
            metric=queue.metric_approximate_number_of_messages_visible(
                period=cdk.Duration.minutes(1), statistic="Maximum"
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        notifications.notify_on(alarm)
