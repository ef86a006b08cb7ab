"""What is left of the endpoint's end when its schedule fails: a message in a queue, whose alarm tells the user."""

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
        """Make both, encrypted by the bucket's key, and let the schedule's `role` send to the queue."""
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
            # An alarm tells only when its state changes: a message that stays would hide the next one.
            retention_period=cdk.Duration.days(1),
        )
        acknowledge(queue, {"SQS3": "it is itself the dead-letter queue, and nothing reads it but a person"})
        # The schedule's own role sends (EventBridge Scheduler User Guide, "Configuring a schedule's dead-letter queue").
        allow(role, ["sqs:SendMessage"], [queue.queue_arn])
        allow_key(role, bucket, ["Decrypt", "GenerateDataKey"])
        delete = f"aws sagemaker delete-endpoint --region {scope.region} --endpoint-name {scope.prefix}"
        # It tells of failures only: empty again may mean that the message was too old, and no word of the endpoint.
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_name=name,
            alarm_description=(
                f"The endpoint {scope.prefix} was not deleted by its schedule when its time was over, and if it is still "
                f"there, it bills on: delete it in the SageMaker console or by `{delete}`, then delete the message in the "
                f"SQS queue {name}, which says why."
            ),
            metric=queue.metric_approximate_number_of_messages_visible(
                period=cdk.Duration.minutes(1), statistic="Maximum"
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        notifications.let_tell(alarm)
