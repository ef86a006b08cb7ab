"""The grants that a role needs to make network interfaces in the user's VPC, which the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from infra.policies import allow

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from infra.scope import Scope
    from pipeline.settings import Settings

_DESCRIBE = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
INTERFACES = "an interface gets its id when the service makes it"


def allow_interfaces(
    role: iam.Role,
    scope: Scope,
    settings: Settings,
    bedrock: Literal["model-customization-job", "model-import-job"] | None = None,
) -> None:
    """Let `role` make and delete interfaces in the subnets of the settings. Grant nothing if the settings have no subnets.

    The actions are those of the SageMaker AI developer guide ("CreateTrainingJob API" and "CreateModel API: Execution Role
    Permissions"). They are scoped by the resources and condition keys of the Service Authorization Reference. Bedrock tags
    its interfaces, and its whole policies are those of its user guide, "Attach VPC permissions to a model customization role"
    and "Attach VPC permissions to a custom model import role". `bedrock` is the kind of its job.
    """
    network = settings.network
    if not network.subnets:
        return
    subnets = [scope.arn("ec2", f"subnet/{subnet}") for subnet in network.subnets]
    groups = [scope.arn("ec2", f"security-group/{group}") for group in network.security_groups]
    interfaces = [scope.arn("ec2", "network-interface/*")]
    created: dict[str, Any] | None = None
    existing: dict[str, Any] = {"ArnEquals": {"ec2:Subnet": subnets}}
    if bedrock:
        job = scope.arn("bedrock", f"{bedrock}/*")
        job_tag = f"Bedrock{bedrock.title().replace('-', '')}Arn"
        created = {
            "StringEquals": {"aws:RequestTag/BedrockManaged": "true"},
            "ArnEquals": {f"aws:RequestTag/{job_tag}": job},
        }
        existing = {
            "StringEquals": {"ec2:ResourceTag/BedrockManaged": "true"},
            "ArnEquals": {"ec2:Subnet": subnets, f"ec2:ResourceTag/{job_tag}": job},
        }
        tags = {
            "StringEquals": {"ec2:CreateAction": "CreateNetworkInterface"},
            "ForAllValues:StringEquals": {"aws:TagKeys": ["BedrockManaged", job_tag]},
        }
        allow(role, ["ec2:CreateTags"], interfaces, tags, reason=INTERFACES)
    allow(role, [f"ec2:Describe{kind}" for kind in _DESCRIBE], ["*"], reason="the actions have no resource")
    allow(role, ["ec2:CreateNetworkInterface"], interfaces, created, reason=INTERFACES)
    allow(role, ["ec2:CreateNetworkInterface"], [*subnets, *groups])
    others = ["CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission"]
    allow(role, [f"ec2:{action}" for action in others], interfaces, existing, reason=INTERFACES)
