"""The stack, which only wires the constructs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.cleanup import Cleanup
from infra.expiry import Expiry
from infra.functions import FunctionFactory
from infra.idle import Idle
from infra.images import Images
from infra.monitoring import Monitoring
from infra.notifications import Notifications
from infra.roles import ServiceRoles
from infra.scope import Scope
from infra.state_machine import StateMachine
from infra.steps import Steps
from infra.storage import Storage
from infra.teardown import Teardown
from pipeline import bedrock, names
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from constructs import Construct

    from pipeline.settings import Settings


class TunewayStack(cdk.Stack):
    """Bucket, roles, functions, state machine and teardown of one fine-tuning pipeline."""

    def __init__(self, parent: Construct, settings: Settings, region: str) -> None:
        """Make the stack `settings.stack.name` in `region`.

        Raises:
            SettingsError: a setting that synth can already refuse, such as a region without a Bedrock base model.
        """
        qualifier = settings.stack.qualifier
        super().__init__(
            parent,
            settings.stack.name,
            description="Tuneway: fine-tunes, evaluates and serves a dialogue summarizer",
            env=cdk.Environment(region=region),
            synthesizer=cdk.DefaultStackSynthesizer(qualifier=qualifier) if qualifier else None,
            permissions_boundary=cdk.PermissionsBoundary.from_name(names.boundary(qualifier)) if qualifier else None,
        )
        bedrock.check(settings, region)
        images = Images.of(region)
        scope = Scope.of(self, region)
        for name, value in {**settings.stack.tags, STACK_TAG: scope.prefix}.items():
            # Not on the stack itself, because its own tags cannot hold its id, which is known only when it exists.
            cdk.Tags.of(self).add(name, value, exclude_resource_types=["aws:cdk:stack"])

        storage = Storage(self, "Storage", settings)
        roles = ServiceRoles(self, "Roles", scope, storage.bucket, settings, images)
        notifications = Notifications(self, "Notifications", scope, storage.bucket, settings)
        expiry = Expiry(self, "Expiry", scope, storage.bucket, roles.expiry, notifications)
        functions = FunctionFactory(scope, settings)
        idle = Idle(self, "Idle", scope, storage.bucket, roles.idle, functions, notifications)
        steps = Steps(self, "Functions", scope, storage.bucket, functions, roles, settings)
        machine = StateMachine(self, "Pipeline", scope, storage.bucket, roles, steps, images, notifications, settings)
        cleanup = Cleanup(self, "Cleanup", scope, storage.bucket, functions, steps, machine, notifications, settings)
        alarms = [expiry.alarm, idle.alarm]
        Monitoring(self, "Monitoring", scope, machine, cleanup, notifications, alarms)
        teardown = Teardown(self, "Teardown", scope, storage.bucket, functions, machine, cleanup, settings)
        # On destroy the teardown comes first, because it needs all of these to delete the resources of runs.
        teardown.resource.node.add_dependency(storage, roles, notifications, expiry, idle, steps, machine, cleanup)

        cdk.CfnOutput(
            self, "StateMachineArn", value=machine.arn, description="Start an execution of it with the input {}"
        )
        cdk.CfnOutput(self, "BucketName", value=storage.bucket.bucket_name, description="Your data goes below uploads/")
        cdk.CfnOutput(
            self,
            "TopicArn",
            value=notifications.topic.topic_arn,
            description="Subscribe to it to learn when a model serves, how a run ended, and when an endpoint ends",
        )
        cdk.CfnOutput(self, "DashboardName", value=scope.prefix, description="The CloudWatch dashboard of the runs")
        cdk.CfnOutput(self, "EndpointName", value=scope.prefix, description="The endpoint that serves the tuned model")
        cdk.CfnOutput(
            self,
            "CallerRoleArn",
            value=roles.caller.role_arn,
            description="Assume it to call the tuned model, and to do nothing else",
        )
