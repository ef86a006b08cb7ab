"""The safety net of the endpoint's expiry: if its schedule fails, a message goes to a queue, whose alarm tells the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.failure_queue import FailureQueue

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_s3 as s3
    from constructs import Construct

    from infra.notifications import Notifications
    from infra.scope import Scope


class Expiry(FailureQueue):
    """The schedule's dead-letter queue and the alarm on it."""

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, role: iam.Role, notifications: Notifications
    ) -> None:
        """Make both, and let the schedule's `role` send to the queue."""
        name = f"{scope.prefix}-expiry-failed"
        delete = f"aws sagemaker delete-endpoint --region {scope.region} --endpoint-name {scope.prefix}"
        description = (
            f"The schedule did not delete the endpoint {scope.prefix} when its time was over. If the endpoint is still "
            f"there, it still bills: delete it in the SageMaker console or with `{delete}`. Then delete the message in "
            f"the SQS queue {name}, which gives the reason."
        )
        super().__init__(parent, id, name, bucket, notifications, description)
        self.let_send(role)
