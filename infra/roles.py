"""The roles that AWS services assume for a run, and the one that calls the model. Each principal has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.images import Images
from infra.network import allow_interfaces
from infra.policies import allow, make_role, schedules
from infra.storage import allow_key
from pipeline import names
from pipeline.catalogue import REGIONS
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from infra.scope import Scope
    from pipeline.settings import Settings

OWN_RUN = "a run's id is its own"


class ServiceRoles(Construct):
    """Roles of the training job, the model, Bedrock's two kinds of jobs, the endpoint's two schedules and its callers."""

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, settings: Settings, images: Images
    ) -> None:
        """Make the roles. They may touch resources of this stack only, except those that the comments name."""
        super().__init__(parent, id)
        # The conditions of each trust policy are copied from the service's guide. SageMaker's are in "Cross-service confused
        # deputy prevention" of its developer guide, which leaves aws:SourceAccount out.
        jobs = {"ArnLike": {"aws:SourceArn": scope.arn("sagemaker", "training-job/*")}}
        self.training = make_role(
            self,
            "Training",
            iam.ServicePrincipal("sagemaker.amazonaws.com", conditions=jobs),
            "Tuneway's training job",
        )
        # The job lists and reads its channels, and writes its output, in parts if it is large. A run may name any base model
        # below uploads/models/, so the job may read that folder. Of the other uploads, it may read only the wheels that it
        # installs.
        checkpoints = f"{names.prefix('checkpoints', '*')}*"
        inputs = [f"{names.prefix(folder, '*')}*" for folder in ("code", "data", "baselines")]
        inputs += [checkpoints, "uploads/models/*"]
        if settings.network.wheels:
            inputs.append(f"{settings.network.wheels}*")
        _read(self.training, bucket, inputs)
        models = f"{names.prefix('models', '*')}*"
        outputs = [bucket.arn_for_objects(key) for key in (models, checkpoints)]
        allow(self.training, ["s3:PutObject"], outputs, reason=OWN_RUN)
        # When the job deletes an old checkpoint, SageMaker deletes it in S3 (developer guide, "Checkpoints in Amazon
        # SageMaker AI").
        allow(self.training, ["s3:DeleteObject"], outputs[1:], reason=OWN_RUN)
        allow_key(self.training, bucket, ["Decrypt", "Encrypt", "GenerateDataKey"])
        # The grant is for the volume of an instance type that has no disks of its own.
        allow_key(self.training, bucket, ["CreateGrant"], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
        allow_interfaces(self.training, scope, settings)
        _pull(self.training, scope, images.training)
        _write_logs(self.training, scope, names.TRAINING_LOGS)
        allow(
            self.training,
            ["secretsmanager:GetSecretValue"],
            [scope.secret(settings.access.hub_token_secret)],
        )

        # Word for word from the guide: for real-time inference "the asterisk does not stand for wildcard and should not be
        # changed".
        hosting = {"ArnLike": {"aws:SourceArn": scope.arn("sagemaker", "*")}}
        self.model = make_role(
            self, "Model", iam.ServicePrincipal("sagemaker.amazonaws.com", conditions=hosting), "Tuneway's endpoint"
        )
        _read(self.model, bucket, [models])
        allow_key(self.model, bucket, ["Decrypt"])
        allow_interfaces(self.model, scope, settings)
        _pull(self.model, scope, images.serving)
        self.serving_repository = _repository(scope, images.serving)
        """ARN of the repository of the image that serves the model."""
        _write_logs(self.model, scope, f"/aws/sagemaker/Endpoints/{scope.prefix}")

        # Bedrock user guide, "Create a service role for model customization".
        customization = _bedrock(scope, "model-customization-job")
        self.bedrock = make_role(self, "Bedrock", customization, "Tuneway's Bedrock customization job")
        output = f"{names.prefix('bedrock', '*')}*"
        _read(self.bedrock, bucket, [f"{names.prefix('data', '*')}bedrock/*", output])
        allow(self.bedrock, ["s3:PutObject"], [bucket.arn_for_objects(output)], reason=OWN_RUN)
        # Bedrock user guide, "Encryption of custom models". Bedrock itself uses the model through the grant.
        allow_key(self.bedrock, bucket, ["Decrypt", "GenerateDataKey", "DescribeKey"])
        allow_key(self.bedrock, bucket, ["CreateGrant"], _via_bedrock(scope))
        allow_interfaces(self.bedrock, scope, settings, "model-customization-job")

        # Bedrock user guide, "Create a service role for importing pre-trained models".
        importing = _bedrock(scope, "model-import-job")
        self.bedrock_import = make_role(self, "Import", importing, "Tuneway's Bedrock import job")
        _read(self.bedrock_import, bucket, [models])
        # Bedrock user guide, "Encryption of imported models": the grant is as of a custom model.
        allow_key(self.bedrock_import, bucket, ["Decrypt", "GenerateDataKey", "DescribeKey"])
        allow_key(self.bedrock_import, bucket, ["CreateGrant"], _via_bedrock(scope))
        allow_interfaces(self.bedrock_import, scope, settings, "model-import-job")

        about = "Deletes Tuneway's endpoint when its time is over"
        self.expiry = make_role(self, "Expiry", schedules(scope), about)
        allow(self.expiry, ["sagemaker:DeleteEndpoint"], [scope.endpoint])
        # infra/idle.py has its grants.
        self.idle = make_role(
            self, "Idle", schedules(scope), "Calls the function that looks for use of Tuneway's endpoint"
        )
        self.caller = _caller(self, scope, bucket)


def _caller(roles: Construct, scope: Scope, bucket: s3.Bucket) -> iam.Role:
    """Return the role of those who call the model.

    Whoever calls the endpoint signs a token, which carries the whole authority of the signer. So they sign as this role
    (SageMaker developer guide, "Invoke endpoints with OpenAI-compatible APIs"). The account's own policies say who may assume
    it.
    """
    caller = make_role(roles, "Caller", iam.AccountPrincipal(scope.account), "Calls Tuneway's model")
    allow(caller, ["sagemaker:InvokeEndpoint"], [scope.endpoint])
    allow(caller, ["sagemaker:CallWithBearerToken"], ["*"], reason="the action has no resource")
    if scope.region in REGIONS:
        # API reference, ConverseStream: "This operation requires permission for the
        # bedrock:InvokeModelWithResponseStream action."
        served = [scope.arn("bedrock", f"{kind}/*") for kind in ("custom-model-deployment", "imported-model")]
        own = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}}
        reason = "the ids of Bedrock's models are not known; the tag decides"
        allow(caller, ["bedrock:InvokeModelWithResponseStream"], served, own, reason)
        # Bedrock user guide, "Encryption of custom models": who invokes the model needs kms:Decrypt.
        allow_key(caller, bucket, ["Decrypt"], _via_bedrock(scope))
    return caller


def _bedrock(scope: Scope, job: str) -> iam.ServicePrincipal:
    """Return Bedrock as the principal, only for this account's jobs of one kind."""
    conditions = {
        "StringEquals": {"aws:SourceAccount": scope.account},
        "ArnEquals": {"aws:SourceArn": scope.arn("bedrock", f"{job}/*")},
    }
    return iam.ServicePrincipal("bedrock.amazonaws.com", conditions=conditions)


def _via_bedrock(scope: Scope) -> dict[str, Any]:
    """Return the condition that Bedrock of this Region makes the request to KMS."""
    return {"StringEquals": {"kms:ViaService": f"bedrock.{scope.region}.amazonaws.com"}}


def _read(role: iam.Role, bucket: s3.Bucket, keys: list[str]) -> None:
    """Let `role` list and read the objects that the patterns `keys` match. Each pattern ends in `/*`.

    A service may list a folder without its last slash, and `checkpoints/*/*` would deny the list of `checkpoints/RUN`.
    """
    allow(role, ["s3:GetObject"], [bucket.arn_for_objects(key) for key in keys], reason=OWN_RUN)
    folders = [key.removesuffix("/*") for key in keys]
    # `checkpoints/*` also matches everything below the folder; `uploads/models` does not.
    below = [f"{folder}/*" for folder in folders if not folder.endswith("*")]
    allow(role, ["s3:ListBucket"], [bucket.bucket_arn], {"StringLike": {"s3:prefix": folders + below}})


def _pull(role: iam.Role, scope: Scope, uri: str) -> None:
    allow(
        role,
        ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        [_repository(scope, uri)],
    )
    allow(role, ["ecr:GetAuthorizationToken"], ["*"], reason="the action has no resource")


def _repository(scope: Scope, uri: str) -> str:
    account, repository = Images.repository(uri)
    return f"arn:{scope.partition}:ecr:{scope.region}:{account}:repository/{repository}"


def _write_logs(role: iam.Role, scope: Scope, group: str) -> None:
    # SageMaker creates group and stream with the role that the job or model runs under (developer guide, "SageMaker roles").
    allow(
        role,
        ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
        [scope.arn("logs", f"log-group:{group}:*")],
        reason="the group's own streams",
    )
    allow(role, ["cloudwatch:PutMetricData"], ["*"], reason="the action has no resource")
