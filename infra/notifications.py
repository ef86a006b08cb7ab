"""The topic that tells the user how a run ended, and what goes on billing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.policies import allow
from infra.storage import allow_key

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch
    from aws_cdk import aws_s3 as s3

    from infra.scope import Scope
    from pipeline.settings import Settings


class Notifications(Construct):
    """One topic that only answers over TLS."""

    def __init__(self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, settings: Settings) -> None:
        """Make it, encrypted by the bucket's key; `settings.notifications.email` is subscribed to it."""
        super().__init__(parent, id)
        self._scope = scope
        self._bucket = bucket
        # Without a key of the user's own there is none: the policy of AWS's alias/aws/sns cannot be edited, and alarms would be
        # lost silently (AWS re:Post, "Why didn't I receive an SNS notification for my CloudWatch alarm trigger?").
        self.topic = sns.Topic(
            self, "Topic", topic_name=scope.prefix, enforce_ssl=True, master_key=bucket.encryption_key
        )
        if settings.notifications.email:
            self.topic.add_subscription(subscriptions.EmailSubscription(settings.notifications.email))

    def let_publish(self, role: iam.Role) -> None:
        """Let a role publish. With a key a publisher needs both (Amazon SNS Developer Guide, "Key management")."""
        allow(role, ["sns:Publish"], [self.topic.topic_arn])
        allow_key(role, self._bucket, ["Decrypt", "GenerateDataKey"])

    def let_tell(self, alarm: cloudwatch.Alarm) -> None:
        """Let an alarm publish, as Amazon SNS Developer Guide, "Example cases for Amazon SNS access control", has it.

        A topic with a policy of its own has none of the default one's grants: without the statement alarms would be lost.
        """
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": self._scope.account},
                    "ArnLike": {"aws:SourceArn": alarm.alarm_arn},
                },
            )
        )
