"""The roles that AWS services assume for a run: one a principal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.images import Images
from infra.policies import allow, role

if TYPE_CHECKING:
    from infra.scope import Scope
    from pipeline.settings import Settings


class ServiceRoles(Construct):
    """Execution roles of the training job, the model, the Bedrock job and the expiry schedule."""

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, settings: Settings, images: Images
    ) -> None:
        """Make the four roles; everything they may touch belongs to this stack, but for what the comments name."""
        super().__init__(parent, id)
        runs = bucket.arn_for_objects("runs/*")

        self.training = role(
            self, "Training", iam.ServicePrincipal("sagemaker.amazonaws.com"), "Tuneway's training job"
        )
        # A channel is listed and read, the output written and, where it is large, in parts.
        allow(
            self.training,
            ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
            [runs],
            reason="a run's id is its own",
        )
        _list_runs(self.training, bucket)
        _pull(self.training, scope, images.training)
        _write_logs(self.training, scope, "/aws/sagemaker/TrainingJobs")
        allow(
            self.training,
            ["secretsmanager:GetSecretValue"],
            [scope.secret(settings.access.hub_token_secret)],
        )

        self.model = role(self, "Model", iam.ServicePrincipal("sagemaker.amazonaws.com"), "Tuneway's endpoint")
        allow(
            self.model, ["s3:GetObject"], [bucket.arn_for_objects("runs/*/training/*")], reason="a run's id is its own"
        )
        _list_runs(self.model, bucket)
        _pull(self.model, scope, images.serving)
        _write_logs(self.model, scope, f"/aws/sagemaker/Endpoints/{scope.prefix}")

        # The trust conditions are those of the Bedrock user guide, "Create a service role for model customization".
        self.bedrock = role(
            self,
            "Bedrock",
            iam.ServicePrincipal(
                "bedrock.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": scope.account},
                    "ArnEquals": {"aws:SourceArn": scope.arn("bedrock", "model-customization-job/*")},
                },
            ),
            "Tuneway's Bedrock customization job",
        )
        allow(
            self.bedrock,
            ["s3:GetObject"],
            [bucket.arn_for_objects("runs/*/data/bedrock/*")],
            reason="a run's id is its own",
        )
        output = bucket.arn_for_objects("runs/*/bedrock/*")
        allow(self.bedrock, ["s3:GetObject", "s3:PutObject"], [output], reason="a run's id is its own")
        _list_runs(self.bedrock, bucket)

        self.expiry = role(
            self,
            "Expiry",
            iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": scope.account}}
            ),
            "Deletes Tuneway's endpoint when its time is over",
        )
        allow(self.expiry, ["sagemaker:DeleteEndpoint"], [scope.endpoint])


def _list_runs(role: iam.Role, bucket: s3.Bucket) -> None:
    allow(role, ["s3:ListBucket"], [bucket.bucket_arn], {"StringLike": {"s3:prefix": "runs/*"}})


def _pull(role: iam.Role, scope: Scope, uri: str) -> None:
    account, repository = Images.repository(uri)
    allow(
        role,
        ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        [f"arn:{scope.partition}:ecr:{scope.region}:{account}:repository/{repository}"],
    )
    allow(role, ["ecr:GetAuthorizationToken"], ["*"], reason="the action has no resource")


def _write_logs(role: iam.Role, scope: Scope, group: str) -> None:
    # SageMaker creates group and stream with the role that the job or model runs under (developer guide, "SageMaker roles").
    allow(
        role,
        ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
        [scope.arn("logs", f"log-group:{group}"), scope.arn("logs", f"log-group:{group}:*")],
        reason="the group's own streams",
    )
    allow(role, ["cloudwatch:PutMetricData"], ["*"], reason="the action has no resource")
