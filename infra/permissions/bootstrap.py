"""What those need who run the CDK CLI: the person, and the bootstrap's role for deployments, which the person assumes.

That role may change and delete every stack of the account (DeploymentActionRole in the CDK CLI's bootstrap-template.yaml). A
stack keeps the role of its last operation, and CloudFormation "uses this role even if the users don't have permission to pass
it" (API reference, RoleARN of UpdateStack). So whoever deploys this stack could change one of the shared bootstrap as its
administrator. A permissions boundary leaves the role this stack alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.permissions.documents import Statement, policy

if TYPE_CHECKING:
    from infra.permissions.names import Place

_CHANGES = (
    "ContinueUpdateRollback",
    "CreateChangeSet",
    "CreateStack",
    "DeleteChangeSet",
    "DeleteStack",
    "ExecuteChangeSet",
    "RollbackStack",
    "UpdateStack",
    "UpdateTerminationProtection",
)


def deployer(place: Place) -> dict[str, Any]:
    """Return what a person needs who runs `cdk deploy`, `cdk diff` and `cdk destroy`: the bootstrap's roles do the rest.

    The bootstrap's role for lookups is not among them. It may read the whole account, and the app looks nothing up. Without
    it, `cdk diff` and the explanation of a failure read the stack as the person.
    """
    roles = tuple(_role(place, kind) for kind in ("deploy", "file-publishing"))
    return policy([Statement(("sts:AssumeRole",), roles), *_reads(place)])


def deployer_boundary(place: Place) -> dict[str, Any]:
    """Return the permissions boundary of the bootstrap's role for deployments."""
    changes = tuple(f"cloudformation:{action}" for action in _CHANGES)
    bucket = f"arn:{place.partition}:s3:::cdk-{place.qualifier}-assets-{place.account}-{place.region}"
    to_cloudformation = {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
    # A key of KMS encrypts the bucket (StagingBucket in bootstrap-template.yaml), and CloudFormation reads the template there
    # as the role.
    keys = f"arn:{place.partition}:kms:{place.region}:{place.account}:key/*"
    via_s3 = {"StringEquals": {"kms:ViaService": f"s3.{place.region}.amazonaws.com"}}
    return policy(
        [
            *_reads(place),
            Statement(changes, (_stacks(place, place.stack),)),
            Statement(("iam:PassRole",), (_role(place, "cfn-exec"),), to_cloudformation),
            Statement(("s3:GetBucket*", "s3:GetObject*", "s3:List*"), (bucket, f"{bucket}/*")),
            Statement(("kms:Decrypt",), (keys,), via_s3),
        ]
    )


def _reads(place: Place) -> list[Statement]:
    """Return the reads of the stack, and of the bootstrap's version. The CDK CLI looks for the shared bootstrap, too."""
    reads = tuple(f"cloudformation:{verb}*" for verb in ("Describe", "Get", "List"))
    version = f"parameter/cdk-bootstrap/{place.qualifier}/version"
    parameter = f"arn:{place.partition}:ssm:{place.region}:{place.account}:{version}"
    return [
        Statement(reads, (_stacks(place, place.stack),)),
        Statement(("cloudformation:DescribeStacks",), (_stacks(place, "CDKToolkit"),)),
        Statement(("ssm:GetParameter", "ssm:GetParameters"), (parameter,)),
    ]


def _stacks(place: Place, name: str) -> str:
    """Return the ARN pattern of a stack, which ends in an id."""
    return f"arn:{place.partition}:cloudformation:{place.region}:{place.account}:stack/{name}/*"


def _role(place: Place, kind: str) -> str:
    """Return the ARN of one of the bootstrap's roles."""
    return f"arn:{place.partition}:iam::{place.account}:role/cdk-{place.qualifier}-{kind}-role-{place.account}-{place.region}"
