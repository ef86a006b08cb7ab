"""The topic that tells the user how a run ended, and which resources still bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.policies import allow
from infra.storage import allow_key

if TYPE_CHECKING:
    from aws_cdk import aws_s3 as s3

    from infra.scope import Scope
    from pipeline.settings import Settings


class Notifications(Construct):
    """One topic that answers only over TLS."""

    def __init__(self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, settings: Settings) -> None:
        """Make the topic, and subscribe `settings.notifications.email`. The bucket's key encrypts it, if it has one."""
        super().__init__(parent, id)
        self._scope = scope
        self._bucket = bucket
        # If the user has no key, the topic has none either: the policy of AWS's alias/aws/sns cannot be edited, and alarms
        # would be lost silently (AWS re:Post, "Why didn't I receive an SNS notification for my CloudWatch alarm trigger?").
        self.topic = sns.Topic(
            self, "Topic", topic_name=scope.prefix, enforce_ssl=True, master_key=bucket.encryption_key
        )
        if settings.notifications.email:
            self.topic.add_subscription(subscriptions.EmailSubscription(settings.notifications.email))

    def let_publish(self, role: iam.Role) -> None:
        """Let a role publish.

        With a key, a publisher needs both of the key's actions (Amazon SNS Developer Guide, "Key management").
        """
        allow(role, ["sns:Publish"], [self.topic.topic_arn])
        allow_key(role, self._bucket, ["Decrypt", "GenerateDataKey"])

    def alarm(
        self, parent: Construct, id: str, name: str, description: str, metric: cloudwatch.IMetric
    ) -> cloudwatch.Alarm:
        """Make an alarm on a metric above zero, and let it publish to the topic.

        A topic with its own policy has none of the default policy's grants (Amazon SNS Developer Guide, "Example cases for
        Amazon SNS access control"). Without the statement, alarms would be lost.

        Args:
            parent: the construct that the alarm belongs to.
            id: its id there.
            name: its name.
            description: the text of its message.
            metric: the metric, with statistic and period.
        """
        # It publishes failures only. That the metric is zero again, or has no point, does not mean that anything was mended.
        alarm = cloudwatch.Alarm(
            parent,
            id,
            alarm_name=name,
            alarm_description=description,
            metric=metric,
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
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
        return alarm
