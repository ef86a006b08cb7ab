"""The topic that tells people about runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

if TYPE_CHECKING:
    from infra.scope import Scope
    from pipeline.settings import Settings


class Notices(Construct):
    """The stack's one topic; `settings.notifications.email` is subscribed to it."""

    def __init__(self, parent: Construct, id: str, scope: Scope, settings: Settings) -> None:
        """Make topic and subscription."""
        super().__init__(parent, id)
        self.topic = sns.Topic(self, "Topic", topic_name=scope.prefix, enforce_ssl=True)
        if settings.notifications.email:
            self.topic.add_subscription(subscriptions.EmailSubscription(settings.notifications.email))
