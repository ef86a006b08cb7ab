"""A queue for what failed behind the user's back, and the alarm on it, which tells the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.policies import acknowledge, allow
from infra.storage import allow_key

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from infra.notifications import Notifications


class FailureQueue(Construct):
    """A queue that nothing reads but a person, and its alarm. The bucket's key encrypts the queue, if it has one."""

    def __init__(
        self, parent: Construct, id: str, name: str, bucket: s3.Bucket, notifications: Notifications, description: str
    ) -> None:
        """Make both. `name` is that of queue and alarm, and `description` is the alarm's message."""
        super().__init__(parent, id)
        self._bucket = bucket
        key = bucket.encryption_key
        self.queue = sqs.Queue(
            self,
            "Failed",
            queue_name=name,
            encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
            encryption_master_key=key,
            enforce_ssl=True,
            # An alarm publishes only when its state changes. So a message that stayed would hide the next one.
            retention_period=cdk.Duration.days(1),
        )
        acknowledge(self.queue, {"SQS3": "it is itself the dead-letter queue, and nothing reads it but a person"})
        # When the queue is empty again, the message may just have been too old: that says nothing about the endpoint.
        visible = self.queue.metric_approximate_number_of_messages_visible(
            period=cdk.Duration.minutes(1), statistic="Maximum"
        )
        self.alarm = notifications.alarm(self, "Alarm", name, description, visible)

    def let_send(self, role: iam.Role) -> None:
        """Let a role send to the queue (EventBridge Scheduler User Guide, "Configuring a schedule's dead-letter queue")."""
        allow(role, ["sqs:SendMessage"], [self.queue.queue_arn])
        allow_key(role, self._bucket, ["Decrypt", "GenerateDataKey"])
