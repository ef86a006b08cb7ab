"""The functions that the run's state machine calls: one table, and beside each function's row what its role may do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.functions import A_KEY, A_RUN, OWN_IDS, OWN_NAMES, published_version
from infra.policies import allow, allow_pass
from infra.storage import allow_key
from pipeline import names
from pipeline.catalogue import BASE_MODELS
from pipeline.names import STACK_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.functions import FunctionFactory
    from infra.roles import ServiceRoles
    from infra.scope import Scope
    from pipeline.settings import Settings


@dataclass(frozen=True)
class StepFunction:
    """A row of `STEPS`.

    Attributes:
        handler: module and function.
        grant: gives the function's role what the step does.
        minutes: how long one call may run.
        memory_mb: its memory.
        package: the package of `infra.package` with its code.
    """

    handler: str
    grant: Callable[[Grants], None]
    minutes: int = 1
    memory_mb: int = 256
    package: str = "pipeline"


class Grants:
    """A function's role, and what of the stack its step acts on."""

    def __init__(
        self, function: lambda_.Function, scope: Scope, bucket: s3.Bucket, roles: ServiceRoles, settings: Settings
    ) -> None:
        """Take the function that is to be granted something."""
        role = function.role
        assert isinstance(role, iam.Role)
        self.role = role
        self.scope, self.bucket, self.roles, self.settings = scope, bucket, roles, settings
        self.datasets = [f"arn:{scope.partition}:s3:::{name}" for name in settings.access.dataset_buckets]
        self.hub_token = scope.secret(settings.access.hub_token_secret)

    def allow(self, actions: list[str], resources: list[str], reason: str = "") -> None:
        """Let the step do `actions` on `resources`, as `infra.policies.allow`."""
        allow(self.role, actions, resources, reason=reason)

    def allow_key(self, actions: list[str]) -> None:
        """Let the step use the bucket's key, where it has one."""
        allow_key(self.role, self.bucket, actions)

    def allow_list(self, prefixes: list[str]) -> None:
        """Let the step list the stack's bucket below `prefixes`."""
        allow(self.role, ["s3:ListBucket"], [self.bucket.bucket_arn], {"StringLike": {"s3:prefix": prefixes}})

    def objects(self, folder: names.Folder, name: str = "*") -> str:
        """What `name` matches in the folders of all runs."""
        arn: str = self.bucket.arn_for_objects(f"{names.prefix(folder, '*')}{name}")
        return arn


def _plan(may: Grants) -> None:
    scope = may.scope
    may.allow(["s3:PutObject"], [may.objects("code"), may.objects("shards", names.SHARD_LIST)], A_RUN)
    models = may.bucket.arn_for_objects("uploads/models/*")
    may.allow(["s3:GetObject"], [models], "the user's own base models, in whatever folder")
    may.allow_key(["Decrypt", "GenerateDataKey"])
    # It lists datasets and base models, and looks for a baseline.
    may.allow_list(["uploads/*", f"{names.prefix('baselines', '*')}*"])
    if may.datasets:
        may.allow(["s3:ListBucket"], may.datasets)
    bedrock = f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/*"
    may.allow(["bedrock:GetFoundationModel"], [bedrock], "reads what AWS publishes of any base model a run may name")
    quotas = ["servicequotas:ListServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas"]
    may.allow(quotas, ["*"], "the actions have no resource")
    may.allow(["sagemaker:DescribeEndpoint"], [scope.endpoint])
    may.allow(["sagemaker:DescribeEndpointConfig"], [scope.sagemaker("endpoint-config")], OWN_NAMES)
    # A secret that does not exist has no six characters yet: the bare name is asked for, and must be answered with
    # "not found" rather than "access denied".
    missing = scope.arn("secretsmanager", f"secret:{may.settings.access.hub_token_secret}")
    may.allow(["secretsmanager:DescribeSecret"], [missing, may.hub_token])
    may.allow(["secretsmanager:GetSecretValue"], [may.hub_token])


def _read_dataset(may: Grants) -> None:
    sources = [may.bucket.arn_for_objects("uploads/*"), *(f"{arn}/*" for arn in may.datasets)]
    may.allow(["s3:GetObject"], sources, "the user's own objects, where config.yaml says they are")
    if may.datasets:
        may.allow(["s3:ListBucket"], may.datasets)
    may.allow(["secretsmanager:GetSecretValue"], [may.hub_token])


def _write_data(may: Grants, folder: names.Folder) -> None:
    may.allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [may.objects(folder)], A_RUN)
    may.allow_key(["Decrypt", "GenerateDataKey"])


_UPLOADS, _REPORTS = "uploads/*", f"{names.prefix('shards', '*')}*"
"""What is listed to know whether an upload or a shard's report is there (`data_prep.sources.exists`)."""


def _data_prep(may: Grants) -> None:
    _read_dataset(may)
    _write_data(may, "data")
    may.allow_list([_UPLOADS])


def _shard_data(may: Grants) -> None:
    _read_dataset(may)
    _write_data(may, "shards")
    may.allow_list([_UPLOADS, _REPORTS])


def _merge_data(may: Grants) -> None:
    _write_data(may, "data")
    may.allow_list([_REPORTS])
    may.allow(["s3:GetObject"], [may.objects("shards")], A_RUN)


def _train(may: Grants) -> None:
    scope = may.scope
    jobs = scope.sagemaker("training-job")
    actions = ["Create", "Describe", "Stop"]
    may.allow([f"sagemaker:{action}TrainingJob" for action in actions], [jobs], OWN_NAMES)
    may.allow(["sagemaker:AddTags", "sagemaker:ListTags"], [jobs], OWN_NAMES)
    # The group is the account's; of its streams only those of this stack's jobs can be read.
    group = scope.arn("logs", f"log-group:{names.TRAINING_LOGS}")
    may.allow(["logs:DescribeLogStreams"], [f"{group}:*"], "Logs asks on the group's ARN with its streams")
    may.allow(["logs:GetLogEvents"], [f"{group}:log-stream:{scope.prefix}-*"], OWN_NAMES)
    allow_pass(may.role, may.roles.training, "sagemaker.amazonaws.com")


def _assess(may: Grants) -> None:
    left = [may.objects("models", f"*/tuneway/{name}.json") for name in ("evaluation", "left_out", "baseline")]
    may.allow(["s3:GetObject"], left, A_RUN)
    may.allow(["s3:PutObject"], [may.objects("baselines", "baseline.json")], A_KEY)
    may.allow(["s3:PutObject"], [may.objects("models", names.RECORD)], A_RUN)
    may.allow_key(["Decrypt", "GenerateDataKey"])


def _customize(may: Grants) -> None:
    scope = may.scope
    bases = [
        f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/{model.id}"
        for model in BASE_MODELS.values()
        if model.region == scope.region
    ]
    if not bases:
        return
    jobs, models = scope.arn("bedrock", "model-customization-job/*"), scope.arn("bedrock", "custom-model/*")
    may.allow(["bedrock:CreateModelCustomizationJob"], [*bases, models, jobs], OWN_IDS)
    may.allow(["bedrock:GetModelCustomizationJob", "bedrock:ListTagsForResource"], [jobs], OWN_IDS)
    # What is tagged gets this stack's tag and has no other stack's: no model of another stack can be made this one's.
    mine = {
        "StringEquals": {f"aws:RequestTag/{STACK_TAG}": scope.prefix},
        "StringEqualsIfExists": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix},
    }
    allow(may.role, ["bedrock:TagResource"], [models, jobs], mine, OWN_IDS)
    ours = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}}
    allow(may.role, ["bedrock:StopModelCustomizationJob"], [jobs], ours, f"{OWN_IDS}; the tag decides")
    allow_pass(may.role, may.roles.bedrock, "bedrock.amazonaws.com")


def _deploy(may: Grants) -> None:
    scope = may.scope
    may.allow(["sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint", "sagemaker:AddTags"], [scope.endpoint])
    models, configs = scope.sagemaker("model"), scope.sagemaker("endpoint-config")
    may.allow(["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], [scope.endpoint, configs], OWN_NAMES)
    may.allow(["sagemaker:CreateModel", "sagemaker:DescribeModel"], [models], OWN_NAMES)
    may.allow(["sagemaker:CreateEndpointConfig", "sagemaker:DescribeEndpointConfig"], [configs], OWN_NAMES)
    may.allow(["sagemaker:AddTags"], [models, configs], OWN_NAMES)
    allow_pass(may.role, may.roles.model, "sagemaker.amazonaws.com")
    may.allow(["scheduler:CreateSchedule", "scheduler:UpdateSchedule"], [scope.schedule])
    allow_pass(may.role, may.roles.expiry, "scheduler.amazonaws.com")


def _smoke_test(may: Grants) -> None:
    may.allow(["s3:GetObject"], [may.objects("data", "test/test.jsonl")], A_RUN)
    may.allow(["s3:PutObject"], [may.objects("models", "smoke_test.json")], A_RUN)
    may.allow_key(["Decrypt", "GenerateDataKey"])
    actions = ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint", "sagemaker:AddTags"]
    may.allow(actions, [may.scope.endpoint])


def _record(may: Grants) -> None:
    may.allow(["s3:PutObject"], [may.objects("models", names.RECORD)], A_RUN)
    may.allow_key(["GenerateDataKey"])


# 1,769 MB are one whole vCPU (Lambda developer guide, "Configure Lambda function memory").
_whole_cpu = partial(StepFunction, minutes=15, memory_mb=1769, package="data_prep")

STEPS: dict[str, StepFunction] = {
    # The memory is for reading a tokenizer.json: Gemma 3's has 33 MB, and takes 200 MB when it is parsed.
    "plan": StepFunction("pipeline.steps.plan.handler", _plan, minutes=5, memory_mb=1024),
    "data_prep": _whole_cpu("data_prep.handler.handler", _data_prep),
    "shard_data": _whole_cpu("data_prep.handler.shard", _shard_data),
    "merge_data": _whole_cpu("data_prep.handler.merge", _merge_data),
    "train": StepFunction("pipeline.steps.train.handler", _train),
    "assess": StepFunction("pipeline.steps.assess.handler", _assess),
    "customize": StepFunction("pipeline.steps.customize.handler", _customize),
    "deploy": StepFunction("pipeline.steps.deploy.handler", _deploy),
    "smoke_test": StepFunction("pipeline.steps.smoke_test.handler", _smoke_test, minutes=5),
    "record": StepFunction("pipeline.steps.record.handler", _record),
}
"""By the name that the definition calls a step by. The function is called the same, with hyphens."""


class Steps(Construct):
    """The functions of `STEPS`."""

    def __init__(
        self,
        parent: Construct,
        id: str,
        scope: Scope,
        bucket: s3.Bucket,
        functions: FunctionFactory,
        roles: ServiceRoles,
        settings: Settings,
    ) -> None:
        """Make the functions, each with the grants of its step."""
        super().__init__(parent, id)
        self._functions: dict[str, lambda_.Function] = {}
        for name, row in STEPS.items():
            environment = {"HF_ENDPOINT": settings.access.hub_endpoint} if row.package == "data_prep" else None
            function = functions.make(
                self, name.replace("_", "-"), row.handler, row.minutes, row.memory_mb, row.package, environment
            )
            row.grant(Grants(function, scope, bucket, roles, settings))
            self._functions[name] = function
        self.versions = {name: published_version(function) for name, function in self._functions.items()}
        """The ARNs of the versions that are published now, which the definition calls."""

    @property
    def any_version(self) -> list[str]:
        """ARN patterns of every version: a running execution goes on with those of its definition, after a deploy, too."""
        return [f"{function.function_arn}:*" for function in self._functions.values()]
