"""The grants that the proof's life cannot show to be needed, each with its reason and where that reason is documented.

The proof fails on a grant that was not needed and does not stand here, and on an entry that is no grant of the stack or was
needed after all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unused:
    """Grants of one role, as `str(grant)` names them, that stay although no decision of the life needed them."""

    role: str
    grants: tuple[str, ...]
    reason: str
    source: str


_ENDPOINT = "arn:aws:sagemaker:REGION:ACCOUNT:endpoint/PREFIX"
_JOB = "arn:aws:bedrock:REGION:ACCOUNT:model-customization-job/*"
_OURS = "aws:ResourceTag/tuneway:stack StringEquals PREFIX"
_FUNCTION = "arn:aws:lambda:REGION:ACCOUNT:function"
_FRAMEWORK = (
    "CDK's Provider framework grants both functions, each with its versions, to both roles, and reads a function that was "
    "not active yet; the grants are the library's own"
)
_FRAMEWORK_SOURCE = "aws-cdk-lib, custom-resources/lib/provider-framework/provider.ts and runtime/outbound.ts"

_WRITERS = {"DataPrep": "data", "ShardData": "shards", "MergeData": "data"}

UNUSED: tuple[Unused, ...] = (
    *(
        Unused(
            f"Functions/{name}Role",
            (f"s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/{folder}/*/*",),
            "an upload in parts that breaks off is aborted, so that its parts do not bill until the bucket's rule ends them",
            "S3 User Guide, Multipart upload API and permissions",
        )
        for name, folder in _WRITERS.items()
    ),
    Unused(
        "Functions/DataPrepRole",
        ("s3:ListBucket on arn:aws:s3:::BUCKET if s3:prefix StringLike uploads/*",),
        "an upload that has gone since Plan listed it is told from one that is denied; none goes in this life",
        "S3 API Reference, GetObject, Permissions",
    ),
    Unused(
        "Functions/DeployRole",
        (f"sagemaker:DeleteEndpoint on {_ENDPOINT}",),
        "an endpoint that failed can only be deleted; no endpoint of this life fails",
        "SageMaker API Reference, DescribeEndpoint, EndpointStatus",
    ),
    Unused(
        "Functions/TrainRole",
        ("sagemaker:StopTrainingJob on arn:aws:sagemaker:REGION:ACCOUNT:training-job/PREFIX-*",),
        "of two jobs of one run the younger is stopped; it takes a call of an aborted attempt that comes too late",
        "pipeline/jobs.py",
    ),
    Unused(
        "Functions/CustomizeRole",
        (f"bedrock:StopModelCustomizationJob on {_JOB} if {_OURS}",),
        "a job that is not completed within bedrock.timeout_hours, an hour at least, is stopped",
        "pipeline/steps/customize.py",
    ),
    Unused(
        "Roles/Bedrock",
        ("s3:GetObject on arn:aws:s3:::BUCKET/bedrock/*/*",),
        "AWS's policy for the output folder has it; local AWS only writes there",
        "Bedrock User Guide, Create a service role for model customization",
    ),
    Unused(
        "Functions/PlanRole",
        ("s3:GetObject on arn:aws:s3:::BUCKET/uploads/models/*",),
        "a run may name a base model of the user's own below this folder; none of this life does",
        "docs/architecture.md",
    ),
    Unused(
        "Roles/Training",
        ("s3:GetObject on arn:aws:s3:::BUCKET/uploads/models/*",),
        "a run may name a base model of the user's own below this folder; none of this life does",
        "docs/architecture.md",
    ),
    Unused(
        "Teardown/TeardownRole",
        (f"bedrock:ListTagsForResource on {_JOB}", f"bedrock:StopModelCustomizationJob on {_JOB} if {_OURS}"),
        "a customization job that runs when the stack is destroyed is stopped, if its tag says that it is the stack's; in this "
        "life a training job runs then",
        "Service Authorization Reference, Amazon Bedrock",
    ),
    Unused(
        "Teardown/TeardownRole",
        ("states:StopExecution on arn:aws:states:REGION:ACCOUNT:execution:PREFIX-cleanup:*",),
        "a cleanup that is under way when the stack is destroyed is stopped; none is in this life",
        "Service Authorization Reference, AWS Step Functions",
    ),
    Unused(
        "Teardown/TeardownRole",
        ("s3:GetObject on arn:aws:s3:::BUCKET/models/*/run.json",),
        "where Bedrock cannot be asked, the records of the runs tell whether one has used it; in this life it can be asked",
        "pipeline/steps/teardown.py",
    ),
    Unused(
        "Teardown/FrameworkPollRole",
        (
            f"lambda:GetFunction on {_FUNCTION}:PREFIX-teardown",
            f"lambda:GetFunction on {_FUNCTION}:PREFIX-teardown-start",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown:*",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown-start",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown-start:*",
        ),
        _FRAMEWORK,
        _FRAMEWORK_SOURCE,
    ),
    Unused(
        "Teardown/FrameworkStartRole",
        (
            f"lambda:GetFunction on {_FUNCTION}:PREFIX-teardown",
            f"lambda:GetFunction on {_FUNCTION}:PREFIX-teardown-start",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown:*",
            f"lambda:InvokeFunction on {_FUNCTION}:PREFIX-teardown-start:*",
        ),
        _FRAMEWORK,
        _FRAMEWORK_SOURCE,
    ),
    Unused(
        "Teardown/Provider/waiter-state-machine/Role",
        (
            f"lambda:InvokeFunction on {_FUNCTION}:Teardown/Provider/framework-isComplete:*",
            f"lambda:InvokeFunction on {_FUNCTION}:Teardown/Provider/framework-onTimeout",
            f"lambda:InvokeFunction on {_FUNCTION}:Teardown/Provider/framework-onTimeout:*",
        ),
        "as the framework's other grants; onTimeout is called when a teardown takes longer than 55 minutes",
        "aws-cdk-lib, custom-resources/lib/provider-framework/waiter-state-machine.ts",
    ),
)
