"""The grants that the proof's life cannot show to be needed, each with its reason and the reason's source.

The proof fails if a grant was not needed and is not listed here. It also fails if an entry is no grant of the stack, or was
needed after all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unused:
    """Grants of one role that stay although no decision of the life needed them. `str(grant)` makes their names."""

    role: str
    grants: tuple[str, ...]
    reason: str
    source: str


_ENDPOINT = "arn:aws:sagemaker:REGION:ACCOUNT:endpoint/PREFIX"
_JOB = "arn:aws:bedrock:REGION:ACCOUNT:model-customization-job/*"
_OURS = "aws:ResourceTag/tuneway:stack StringEquals PREFIX"
_FUNCTION = "arn:aws:lambda:REGION:ACCOUNT:function"
_FRAMEWORK = (
    "CDK's Provider framework grants both roles both functions and their versions, and may read a function that was not "
    "active yet; the grants are the library's own"
)
_FRAMEWORK_SOURCE = "aws-cdk-lib, custom-resources/lib/provider-framework/provider.ts and runtime/outbound.ts"

_WRITERS = {"DataPrep": "data", "ShardData": "shards", "MergeData": "data"}

UNUSED: tuple[Unused, ...] = (
    *(
        Unused(
            f"Functions/{name}Role",
            (f"s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/{folder}/*/*",),
            "an upload in parts that breaks off is aborted; else its parts would bill until the bucket's rule deletes them",
            "S3 User Guide, Multipart upload API and permissions",
        )
        for name, folder in _WRITERS.items()
    ),
    Unused(
        "Functions/DataPrepRole",
        ("s3:ListBucket on arn:aws:s3:::BUCKET if s3:prefix StringLike uploads/*",),
        "data prep must know whether an upload was deleted after Plan listed it, or is denied; none is deleted in this life",
        "S3 API Reference, GetObject, Permissions",
    ),
    Unused(
        "Functions/DeployRole",
        (f"sagemaker:DeleteEndpoint on {_ENDPOINT}",),
        "an endpoint that failed can only be deleted; no endpoint of this life fails",
        "SageMaker API Reference, DescribeEndpoint, EndpointStatus",
    ),
    Unused(
        "Functions/PlanRole",
        ("pricing:GetProducts on *",),
        "Plan asks the Price List only for prices that its table lacks, and goes on without them; it has those of this life",
        "pipeline/money/price_list.py",
    ),
    Unused(
        "Functions/TrainRole",
        ("sagemaker:StopTrainingJob on arn:aws:sagemaker:REGION:ACCOUNT:training-job/PREFIX-*",),
        "if a run has two jobs, the younger is stopped; that happens only if a call of an aborted attempt comes too late",
        "pipeline/jobs.py",
    ),
    Unused(
        "Functions/JudgeRole",
        ("s3:GetObject on arn:aws:s3:::BUCKET/models/*/judge.json",),
        "a second call of the function reads the verdicts that the first has paid for; no call of this life is the second",
        "pipeline/steps/judge.py",
    ),
    Unused(
        "Functions/CustomizeRole",
        (f"bedrock:StopModelCustomizationJob on {_JOB} if {_OURS}",),
        "a job that is not completed within bedrock.timeout_hours is stopped; that is an hour at least",
        "pipeline/steps/customize.py",
    ),
    Unused(
        "Functions/DeployCustomModelRole",
        (
            f"bedrock:DeleteCustomModelDeployment on arn:aws:bedrock:REGION:ACCOUNT:custom-model-deployment/* if {_OURS}",
        ),
        "a deployment whose creation failed can only be deleted; none of this life fails",
        "Bedrock API Reference, GetCustomModelDeployment, status",
    ),
    Unused(
        "Roles/Bedrock",
        ("s3:GetObject on arn:aws:s3:::BUCKET/bedrock/*/*",),
        "AWS's policy for the output folder has it; local AWS only writes to that folder",
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
        (
            f"bedrock:ListTagsForResource on {_JOB}",
            f"bedrock:StopModelCustomizationJob on {_JOB} if {_OURS}",
            "bedrock:ListTagsForResource on arn:aws:bedrock:REGION:ACCOUNT:model-import-job/*",
        ),
        "a Bedrock job that runs when the stack is destroyed is stopped or waited for if it has the stack's tag; in this life "
        "a training job runs then",
        "Service Authorization Reference, Amazon Bedrock",
    ),
    Unused(
        "Teardown/TeardownRole",
        ("states:StopExecution on arn:aws:states:REGION:ACCOUNT:execution:PREFIX-cleanup:*",),
        "a cleanup that runs when the stack is destroyed is stopped; none runs then in this life",
        "Service Authorization Reference, AWS Step Functions",
    ),
    Unused(
        "Teardown/TeardownRole",
        ("s3:GetObject on arn:aws:s3:::BUCKET/models/*/run.json",),
        "if Bedrock cannot be asked, the records of the runs say whether one has used it; in this life it can be asked",
        "pipeline/bedrock_teardown.py",
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
