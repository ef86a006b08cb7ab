"""The custom resource that `cdk destroy` deletes first. Its deletion removes the resources that runs have made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import custom_resources as cr
from constructs import Construct

from infra.functions import A_RUN, OWN_IDS, OWN_NAMES, OWN_VERSIONS
from infra.policies import acknowledge, acknowledge_wildcards, allow, make_role
from infra.storage import allow_key
from pipeline import names
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from infra.cleanup import Cleanup
    from infra.functions import FunctionFactory
    from infra.scope import Scope
    from infra.state_machine import StateMachine
    from pipeline.settings import Settings


class Teardown(Construct):
    """CDK's Provider framework around `pipeline.steps.teardown`. It polls for up to an hour, longer than a function may run.

    The framework's own functions are Node functions, the one exception in this stack: they are a well-kept library, used
    in place of a poller of our own. They get roles and a log group that this stack makes. The framework's own roles would
    leave three log groups after destroy, and have a managed policy that lets a late function make them again.
    """

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        bucket: s3.Bucket,
        functions: FunctionFactory,
        machine: StateMachine,
        cleanup: Cleanup,
        settings: Settings,
    ) -> None:
        """Make the two functions and the resource."""
        super().__init__(parent, id)
        on_event = functions.make(self, "teardown-start", "pipeline.steps.teardown.on_event", minutes=1)
        is_complete = functions.make(self, "teardown", "pipeline.steps.teardown.is_complete", minutes=15, memory_mb=512)
        _grant(is_complete, scope, bucket, machine, cleanup)
        log_group = logs.LogGroup(
            self,
            "FrameworkLogs",
            log_group_name=f"/aws/lambda/{scope.prefix}-teardown-framework",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        provider = cr.Provider(
            self,
            "Provider",
            log_group=log_group,
            framework_on_event_role=self._framework_role("Start", log_group),
            framework_complete_and_timeout_role=self._framework_role("Poll", log_group),
            disable_waiter_state_machine_logging=True,
            on_event_handler=on_event,
            is_complete_handler=is_complete,
            query_interval=cdk.Duration.seconds(2),
            total_timeout=cdk.Duration.minutes(55),
        )
        # CloudFormation itself would name it without the stack's name, and no policy on the stack's names could have it.
        waiter = provider.node.find_child("waiter-state-machine").node.default_child
        assert isinstance(waiter, cdk.CfnResource)
        waiter.add_property_override("StateMachineName", f"{scope.prefix}-teardown-waiter")
        _acknowledge_framework(self, provider, [on_event, is_complete])
        keep_models = "true" if settings.stack.on_destroy == "keep_models" else "false"
        self.resource = cdk.CustomResource(
            self,
            "Resource",
            service_token=provider.service_token,
            resource_type="Custom::TunewayTeardown",
            properties={
                "Prefix": scope.prefix,
                "Bucket": bucket.bucket_name,
                "Rule": cleanup.rule_name,
                "StateMachines": f"{machine.arn},{cleanup.arn}",
                "KeepModels": keep_models,
                "BedrockEnabled": "false" if settings.bedrock.mode == "off" else "true",
            },
        )
        # CloudFormation deletes it at the same time as the teardown. Local AWS deletes one resource after the other. Of two
        # that do not depend on each other, it first deletes the one whose name sorts last. So this one is called Users.
        cdk.CustomResource(
            self,
            "Users",
            service_token=provider.service_token,
            resource_type=names.MODEL_USERS,
            properties={"Prefix": scope.prefix, "KeepModels": keep_models},
        )

    def _framework_role(self, name: str, log_group: logs.LogGroup) -> iam.Role:
        lambda_service = iam.ServicePrincipal("lambda.amazonaws.com")
        role = make_role(self, f"Framework{name}Role", lambda_service, f"Tuneway's teardown framework ({name.lower()})")
        # The ARN attribute of a log group ends in :*, so it covers the group's streams.
        actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
        allow(role, actions, [log_group.log_group_arn], reason="the group's own streams")
        return role


def _grant(
    function: lambda_.Function, scope: Scope, bucket: s3.Bucket, machine: StateMachine, cleanup: Cleanup
) -> None:
    role = function.role
    assert isinstance(role, iam.Role)

    def let(
        actions: list[str], resources: list[str], reason: str = "", conditions: dict[str, Any] | None = None
    ) -> None:
        allow(role, actions, resources, conditions, reason)

    let(["events:DisableRule"], [scope.arn("events", f"rule/{cleanup.rule_name}")])
    let(["states:ListExecutions"], [machine.arn, cleanup.arn])
    executions = [scope.arn("states", f"execution:{name}:*") for name in (scope.prefix, f"{scope.prefix}-cleanup")]
    let(["states:StopExecution"], executions, "executions of these state machines")
    lists = ["ListTrainingJobs", "ListEndpoints", "ListEndpointConfigs", "ListModels", "ListModelPackageGroups"]
    let([f"sagemaker:{action}" for action in lists], ["*"], "the list actions have no resource")
    kinds = [
        "ModelCustomizationJobs",
        "ModelImportJobs",
        "CustomModels",
        "CustomModelDeployments",
        "ProvisionedModelThroughputs",
        "ImportedModels",
    ]
    let([f"bedrock:List{kind}" for kind in kinds], ["*"], "the list actions have no resource")
    jobs, configs, models = (scope.sagemaker(kind) for kind in ("training-job", "endpoint-config", "model"))
    let(["sagemaker:ListTags"], [jobs, configs, models], OWN_NAMES)
    let(["sagemaker:StopTrainingJob"], [jobs], OWN_NAMES)
    let(["sagemaker:DeleteEndpoint"], [scope.endpoint])
    let(["sagemaker:DeleteEndpointConfig"], [configs], OWN_NAMES)
    let(["sagemaker:DeleteModel"], [models], OWN_NAMES)
    group, versions = scope.model_package_group, scope.model_packages
    let(["sagemaker:ListTags", "sagemaker:DeleteModelPackageGroup"], [group])
    let(["sagemaker:ListModelPackages", "sagemaker:DeleteModelPackage"], [versions], OWN_VERSIONS)
    bedrock = {
        "bedrock:StopModelCustomizationJob": scope.arn("bedrock", "model-customization-job/*"),
        "bedrock:DeleteCustomModel": scope.arn("bedrock", "custom-model/*"),
        "bedrock:DeleteCustomModelDeployment": scope.arn("bedrock", "custom-model-deployment/*"),
        "bedrock:DeleteProvisionedModelThroughput": scope.arn("bedrock", "provisioned-model/*"),
        "bedrock:DeleteImportedModel": scope.arn("bedrock", "imported-model/*"),
    }
    imports = scope.arn("bedrock", "model-import-job/*")
    let(["bedrock:ListTagsForResource"], [*bedrock.values(), imports], OWN_IDS)
    tagged = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}}
    for action, resource in bedrock.items():
        let([action], [resource], f"{OWN_IDS}; the tag decides", tagged)
    let(["scheduler:DeleteSchedule"], [scope.schedule, scope.idle_schedule])
    log_group = scope.arn("logs", f"log-group:/aws/sagemaker/Endpoints/{scope.prefix}")
    let(["logs:DeleteLogGroup"], [f"{log_group}:*"], "CloudWatch Logs checks the group's ARN with its streams")
    # The policy's actions: before the bucket is emptied, it is closed to functions of stopped executions that still write.
    actions = ["s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:GetBucketPolicy", "s3:PutBucketPolicy"]
    let(actions, [bucket.bucket_arn])
    objects = [bucket.arn_for_objects("*")]
    let(
        ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"],
        objects,
        "the bucket goes with the stack",
    )
    # It reads the records to know whether a run has used Bedrock, if Bedrock itself cannot be asked.
    let(["s3:GetObject"], [bucket.arn_for_objects(f"{names.MODELS}*/{names.RECORD}")], A_RUN)
    allow_key(role, bucket, ["Decrypt"])


def _acknowledge_framework(parent: Construct, provider: cr.Provider, functions: list[lambda_.Function]) -> None:
    reason = (
        "CDK's Provider framework: its functions and poller are its own; they call this stack's two teardown functions"
    )
    acknowledge(provider, dict.fromkeys(("L1", "SF1", "SF2"), reason))
    for name in ("isComplete", "onTimeout"):
        inner = provider.node.find_child(f"framework-{name}")
        assert isinstance(inner, lambda_.Function)
        functions = [*functions, inner]
    acknowledge_wildcards(parent, [f"{function.function_arn}:*" for function in functions], reason)
