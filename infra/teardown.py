"""The custom resource whose deletion, first of all on `cdk destroy`, removes what runs made."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import custom_resources as cr
from constructs import Construct

from infra.functions import FunctionFactory
from infra.policies import acknowledge, allow
from infra.scope import Scope
from infra.state_machine import OWN_IDS, OWN_NAMES, StateMachine
from pipeline.names import STACK_TAG
from pipeline.settings import Settings


class Teardown(Construct):
    """CDK's Provider framework around `pipeline.teardown`: it polls for up to an hour, which one Lambda could not.

    The framework's own functions are Node functions with a managed policy: the one exception in this stack, taken for a
    well-kept library in the place of an own poller.
    """

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, machine: StateMachine, settings: Settings
    ) -> None:
        """Make the two functions and the resource."""
        super().__init__(parent, id)
        factory = FunctionFactory(self, scope, settings)
        on_event = factory.make("teardown-start", "pipeline.teardown.on_event", minutes=1)
        is_complete = factory.make("teardown", "pipeline.teardown.is_complete", minutes=15, memory_mb=512)
        _grant(is_complete, scope, bucket, machine)
        provider = cr.Provider(
            self,
            "Provider",
            on_event_handler=on_event,
            is_complete_handler=is_complete,
            query_interval=cdk.Duration.seconds(5),
            total_timeout=cdk.Duration.minutes(55),
        )
        _acknowledge_framework(provider, [on_event, is_complete])
        self.resource = cdk.CustomResource(
            self,
            "Resource",
            service_token=provider.service_token,
            resource_type="Custom::TunewayTeardown",
            properties={"Prefix": scope.prefix, "Bucket": bucket.bucket_name, "StateMachine": machine.arn},
        )


def _grant(function: lambda_.Function, scope: Scope, bucket: s3.Bucket, machine: StateMachine) -> None:
    def let(actions: list[str], resources: list[str], reason: str = "", conditions: dict[str, Any] | None = None) -> None:
        assert isinstance(function.role, iam.Role)
        allow(function.role, actions, resources, conditions, reason)

    let(["states:ListExecutions"], [machine.arn])
    let(["states:StopExecution"], [scope.arn("states", f"execution:{scope.prefix}:*")], "executions of this state machine")
    lists = ["ListTrainingJobs", "ListEndpoints", "ListEndpointConfigs", "ListModels"]
    let([f"sagemaker:{action}" for action in lists], ["*"], "lists have no resource")
    let(["bedrock:ListModelCustomizationJobs", "bedrock:ListCustomModels"], ["*"], "lists have no resource")
    jobs, configs, models = (scope.sagemaker(kind) for kind in ("training-job", "endpoint-config", "model"))
    let(["sagemaker:ListTags"], [jobs, configs, models], OWN_NAMES)
    let(["sagemaker:StopTrainingJob"], [jobs], OWN_NAMES)
    let(["sagemaker:DeleteEndpoint"], [scope.endpoint])
    let(["sagemaker:DeleteEndpointConfig"], [configs], OWN_NAMES)
    let(["sagemaker:DeleteModel"], [models], OWN_NAMES)
    bedrock = [scope.arn("bedrock", "model-customization-job/*"), scope.arn("bedrock", "custom-model/*")]
    let(["bedrock:ListTagsForResource"], bedrock, OWN_IDS)
    ours = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}}
    let(["bedrock:StopModelCustomizationJob", "bedrock:DeleteCustomModel"], bedrock, f"{OWN_IDS}; the tag decides", ours)
    let(["scheduler:DeleteSchedule"], [scope.schedule])
    log_group = scope.arn("logs", f"log-group:/aws/sagemaker/Endpoints/{scope.prefix}:*")
    let(["logs:DeleteLogGroup"], [log_group], "the form that Logs wants of a group's ARN")
    let(["s3:ListBucketVersions", "s3:ListBucketMultipartUploads"], [bucket.bucket_arn])
    objects = [bucket.arn_for_objects("*")]
    let(["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"], objects, "the bucket goes with the stack")


def _acknowledge_framework(provider: cr.Provider, functions: list[lambda_.Function]) -> None:
    why = "CDK's Provider framework: its roles and functions are its own; they call this stack's two teardown functions"
    stack = cdk.Stack.of(provider)
    for rule in ("L1", "SF1", "SF2", f"IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{BASIC}]"):
        acknowledge(provider, rule, why)
    inner = [provider.node.find_child(f"framework-{name}") for name in ("isComplete", "onTimeout")]
    for child in [*inner, *functions]:
        resource = child.node.default_child
        assert isinstance(resource, cdk.CfnElement)
        acknowledge(provider, f"IAM5[Resource::<{stack.get_logical_id(resource)}.Arn>:*]", why)


BASIC = "service-role/AWSLambdaBasicExecutionRole"
