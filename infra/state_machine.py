"""The state machine and its role."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.data_states import SHARD_DATA
from infra.definition import definition
from infra.functions import A_RUN, OWN_EXECUTIONS
from infra.policies import acknowledge, allow, make_role, state_machines
from infra.storage import allow_key
from pipeline import names
from pipeline.contracts.planned import StackFacts

if TYPE_CHECKING:
    from infra.images import Images
    from infra.notifications import Notifications
    from infra.roles import ServiceRoles
    from infra.scope import Scope
    from infra.steps import Steps
    from pipeline.settings import Settings


class StateMachine(Construct):
    """One Standard state machine, started with `{}`."""

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        bucket: s3.Bucket,
        roles: ServiceRoles,
        steps: Steps,
        images: Images,
        notifications: Notifications,
        settings: Settings,
    ) -> None:
        """Make the definition with the stack's own names, and grant the role the actions of its states."""
        super().__init__(parent, id)
        self.role = make_role(self, "Role", state_machines(scope), "Tuneway's state machine")
        self._grant_map(scope, bucket)
        notifications.let_publish(self.role)
        reason = "published versions, of this and earlier deploys"
        allow(self.role, ["lambda:InvokeFunction"], steps.any_version, reason=reason)
        stack = StackFacts(
            prefix=scope.prefix,
            bucket=bucket.bucket_name,
            region=scope.region,
            training_role=roles.training.role_arn,
            model_role=roles.model.role_arn,
            bedrock_role=roles.bedrock.role_arn,
            import_role=roles.bedrock_import.role_arn,
            expiry_role=roles.expiry.role_arn,
            caller_role=roles.caller.role_arn,
            expiry_failed=scope.expiry_failed,
            idle_function=scope.idle_function,
            idle_role=roles.idle.role_arn,
            idle_failed=scope.idle_failed,
            training_image=images.training,
            serving_image=images.serving,
            topic=notifications.topic.topic_arn,
            tags=settings.stack.tags,
        )
        body = definition(stack, settings.model_dump(mode="json"), steps.versions)
        machine = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=scope.prefix,
            # Not Stack.to_json_string, which loses every null on its way to jsii: a null has a meaning in the definition.
            definition_body=sfn.DefinitionBody.from_string(json.dumps(body)),
            role=self.role,
        )
        machine.node.add_dependency(self.role)
        reasons = {
            "SF1": "the execution history holds every event for 90 days; log delivery would need account-wide grants",
            "SF2": "a run is one sequence of jobs of minutes to hours: its history is its trace",
        }
        acknowledge(machine, reasons)
        self.arn = machine.state_machine_arn

    def _grant_map(self, scope: Scope, bucket: s3.Bucket) -> None:
        """Grant the actions of the Distributed Map (developer guide, "IAM policies for using Distributed Map states").

        Its Map Run starts executions of this same state machine, and looks at how they end. It stops them when it is stopped
        itself, and redrives those that were stopped. The state machine's ARN is made from its name, because a reference would
        be a circle.
        """
        allow(self.role, ["states:StartExecution"], [scope.arn("states", f"stateMachine:{scope.prefix}")])
        executions = scope.arn("states", f"execution:{scope.prefix}:*")
        allow(self.role, ["states:DescribeExecution", "states:StopExecution"], [executions], reason=OWN_EXECUTIONS)
        children = scope.arn("states", f"execution:{scope.prefix}/{SHARD_DATA}:*")
        allow(self.role, ["states:RedriveExecution"], [children], reason=OWN_EXECUTIONS)
        shards = bucket.arn_for_objects(f"{names.prefix('shards', '*')}{names.SHARD_LIST}")
        allow(self.role, ["s3:GetObject"], [shards], reason=A_RUN)
        allow_key(self.role, bucket, ["Decrypt"])
