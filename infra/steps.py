"""The functions that the run's state machine calls: one table, whose rows also name the grants of each function's role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import judge_state
from infra.functions import A_KEY, A_RUN, OWN_EXECUTIONS, OWN_IDS, OWN_NAMES, OWN_VERSIONS, published_version
from infra.policies import allow, allow_pass
from infra.storage import allow_key
from pipeline import names
from pipeline.catalogue import BASE_MODELS, IMPORT_REGIONS, REGIONS
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
        grant: grants the function's role the actions of the step.
        minutes: how long one call may run.
        memory_mb: the function's memory.
        package: the package of `infra.package` with the function's code.
    """

    handler: str
    grant: Callable[[Grants], None]
    minutes: int = 1
    memory_mb: int = 256
    package: str = "pipeline"


class Grants:
    """The role of a step's function, and the parts of the stack that the step uses."""

    def __init__(
        self, function: lambda_.Function, scope: Scope, bucket: s3.Bucket, roles: ServiceRoles, settings: Settings
    ) -> None:
        """Take the function whose role gets the grants."""
        role = function.role
        assert isinstance(role, iam.Role)
        self.role = role
        self.scope, self.bucket, self.roles, self.settings = scope, bucket, roles, settings
        self.datasets = [f"arn:{scope.partition}:s3:::{name}" for name in settings.access.dataset_buckets]
        self.hub_token = scope.secret(settings.access.hub_token_secret)

    def allow(self, actions: list[str], resources: list[str], reason: str = "") -> None:
        """Let the step do `actions` on `resources`. `infra.policies.allow` explains the arguments."""
        allow(self.role, actions, resources, reason=reason)

    def allow_key(self, actions: list[str]) -> None:
        """Let the step use the bucket's key, if it has one."""
        allow_key(self.role, self.bucket, actions)

    def allow_list(self, prefixes: list[str]) -> None:
        """Let the step list the stack's bucket below `prefixes`."""
        allow(self.role, ["s3:ListBucket"], [self.bucket.bucket_arn], {"StringLike": {"s3:prefix": prefixes}})

    def bedrock(self, kind: str) -> str:
        """Return the ARN pattern of all resources of a kind in Bedrock (`custom-model`, ...)."""
        return self.scope.arn("bedrock", f"{kind}/*")

    def allow_tagged(self, actions: list[str], resources: list[str]) -> None:
        """Let the step do `actions` on those of Bedrock's `resources` that have the stack's tag."""
        own = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": self.scope.prefix}}
        allow(self.role, actions, resources, own, f"{OWN_IDS}; the tag decides")

    def allow_bedrock_tags(self, resources: list[str]) -> None:
        """Let the step give this stack's tag to `resources` of Bedrock that have not another stack's.

        So it cannot take over another stack's model.
        """
        conditions = {
            "StringEquals": {f"aws:RequestTag/{STACK_TAG}": self.scope.prefix},
            "StringEqualsIfExists": {f"aws:ResourceTag/{STACK_TAG}": self.scope.prefix},
        }
        allow(self.role, ["bedrock:TagResource"], resources, conditions, OWN_IDS)

    def objects(self, folder: names.Folder, name: str = "*") -> str:
        """Return the ARN pattern of the objects that `name` matches in the folders of all runs."""
        arn: str = self.bucket.arn_for_objects(f"{names.prefix(folder, '*')}{name}")
        return arn


def _plan(grants: Grants) -> None:
    scope = grants.scope
    grants.allow(["s3:PutObject"], [grants.objects("code"), grants.objects("shards", names.SHARD_LIST)], A_RUN)
    models = grants.bucket.arn_for_objects("uploads/models/*")
    grants.allow(["s3:GetObject"], [models], "the user's own base models, in any folder")
    grants.allow_key(["Decrypt", "GenerateDataKey"])
    # Plan lists datasets and base models, looks for a baseline, and finds an earlier run whose model is served again.
    grants.allow_list(["uploads/*", f"{names.prefix('baselines', '*')}*", f"{names.MODELS}*"])
    grants.allow(["s3:GetObject"], [grants.objects("models", names.RECORD)], A_RUN)
    grants.allow(["s3:GetObject"], [grants.objects("models", "*/output/model/*")], A_RUN)
    if grants.datasets:
        grants.allow(["s3:ListBucket"], grants.datasets)
    bedrock = f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/*"
    grants.allow(["bedrock:GetFoundationModel"], [bedrock], "a run may name any base model")
    quotas = ["servicequotas:ListServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas"]
    grants.allow(quotas, ["*"], "the actions have no resource")
    grants.allow(["pricing:GetProducts"], ["*"], "the action has no resource")
    if scope.region in IMPORT_REGIONS:
        grants.allow(["bedrock:ListImportedModels"], ["*"], "the action has no resource")
    grants.allow(["sagemaker:DescribeEndpoint"], [scope.endpoint])
    grants.allow(["sagemaker:DescribeEndpointConfig"], [scope.sagemaker("endpoint-config")], OWN_NAMES)
    # A secret that does not exist has no six characters at its end, so Plan asks for the bare name. The answer must be
    # "not found" and not "access denied".
    missing = scope.arn("secretsmanager", f"secret:{grants.settings.access.hub_token_secret}")
    grants.allow(["secretsmanager:DescribeSecret"], [missing, grants.hub_token])
    grants.allow(["secretsmanager:GetSecretValue"], [grants.hub_token])


def _read_dataset(grants: Grants) -> None:
    sources = [grants.bucket.arn_for_objects("uploads/*"), *(f"{arn}/*" for arn in grants.datasets)]
    grants.allow(["s3:GetObject"], sources, "the user's own objects, where config.yaml says they are")
    if grants.datasets:
        grants.allow(["s3:ListBucket"], grants.datasets)
    grants.allow(["secretsmanager:GetSecretValue"], [grants.hub_token])


def _write_data(grants: Grants, folder: names.Folder) -> None:
    grants.allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [grants.objects(folder)], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])


_UPLOADS, _REPORTS = "uploads/*", f"{names.prefix('shards', '*')}*"
"""The prefixes that are listed to know whether an upload or a shard's report exists (`data_prep.sources.exists`)."""


def _data_prep(grants: Grants) -> None:
    _read_dataset(grants)
    _write_data(grants, "data")
    grants.allow_list([_UPLOADS])


def _shard_data(grants: Grants) -> None:
    _read_dataset(grants)
    _write_data(grants, "shards")
    grants.allow_list([_UPLOADS, _REPORTS])


def _merge_data(grants: Grants) -> None:
    _write_data(grants, "data")
    grants.allow_list([_REPORTS])
    grants.allow(["s3:GetObject"], [grants.objects("shards")], A_RUN)


def _read_job_logs(grants: Grants) -> None:
    """Let the step read the logs of the stack's training jobs. The log group belongs to the account."""
    group = grants.scope.arn("logs", f"log-group:{names.TRAINING_LOGS}")
    grants.allow(["logs:DescribeLogStreams"], [f"{group}:*"], "CloudWatch Logs checks the group's ARN with its streams")
    grants.allow(["logs:GetLogEvents"], [f"{group}:log-stream:{grants.scope.prefix}-*"], OWN_NAMES)


def _train(grants: Grants) -> None:
    scope = grants.scope
    jobs = scope.sagemaker("training-job")
    actions = ["Create", "Describe", "Stop"]
    grants.allow([f"sagemaker:{action}TrainingJob" for action in actions], [jobs], OWN_NAMES)
    grants.allow(["sagemaker:AddTags", "sagemaker:ListTags"], [jobs], OWN_NAMES)
    _read_job_logs(grants)
    allow_pass(grants.role, grants.roles.training, "sagemaker.amazonaws.com")


def _assess(grants: Grants) -> None:
    results = [
        grants.objects("models", f"*/tuneway/{name}.json") for name in ("evaluation", "left_out", "metrics", "baseline")
    ]
    grants.allow(["s3:GetObject"], results, A_RUN)
    grants.allow(["s3:PutObject"], [grants.objects("baselines", "baseline.json")], A_KEY)
    grants.allow(["s3:PutObject"], [grants.objects("models", names.RECORD)], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])


def _judge(grants: Grants) -> None:
    model = grants.settings.training.evaluation.judge_model
    if model is None:
        return
    grants.allow(["s3:GetObject"], [grants.objects("models", "*/tuneway/answers.jsonl")], A_RUN)
    # The verdicts of an earlier call, which are not asked for again.
    grants.allow(["s3:GetObject", "s3:PutObject"], [grants.objects("models", names.JUDGE)], A_RUN)
    grants.allow_list([f"{names.prefix('models', '*')}{names.JUDGE}"])
    grants.allow_key(["Decrypt", "GenerateDataKey"])
    grants.allow(["bedrock:InvokeModel"], judge_state.models(grants.scope, model))


def _register_model(grants: Grants) -> None:
    scope = grants.scope
    group, versions = scope.model_package_group, scope.model_packages
    grants.allow(["sagemaker:CreateModelPackageGroup", "sagemaker:AddTags"], [group])
    # The Service Authorization Reference names both resources, and not which of them a version in a group needs.
    grants.allow(["sagemaker:CreateModelPackage"], [group, versions], OWN_VERSIONS)
    grants.allow(["sagemaker:ListModelPackages", "sagemaker:UpdateModelPackage"], [versions], OWN_VERSIONS)
    # AWS's policy AmazonSageMakerModelRegistryFullAccess has these two, and s3:GetObject for the models.
    grants.allow(["ecr:BatchGetImage", "ecr:DescribeImages"], [grants.roles.serving_repository])
    grants.allow(["s3:GetObject"], [grants.objects("models", "*/output/model/*")], A_RUN)
    grants.allow_list([f"{names.MODELS}*"])
    grants.allow(["s3:GetObject"], [grants.objects("data", "manifest.json")], A_RUN)
    grants.allow(["s3:PutObject"], [grants.objects("models", names.RECORD)], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])


def _bases(scope: Scope) -> list[str]:
    """Return the ARNs of the base models that can be customized in the stack's region."""
    return [
        f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/{model.id}"
        for model in BASE_MODELS.values()
        if model.region == scope.region
    ]


def _customize(grants: Grants) -> None:
    bases = _bases(grants.scope)
    if not bases:
        return
    jobs, models = grants.bedrock("model-customization-job"), grants.bedrock("custom-model")
    grants.allow(["bedrock:CreateModelCustomizationJob"], [*bases, models, jobs], OWN_IDS)
    grants.allow(["bedrock:GetModelCustomizationJob", "bedrock:ListTagsForResource"], [jobs], OWN_IDS)
    grants.allow_bedrock_tags([models, jobs])
    grants.allow_tagged(["bedrock:StopModelCustomizationJob"], [jobs])
    allow_pass(grants.role, grants.roles.bedrock, "bedrock.amazonaws.com")


def _import_model(grants: Grants) -> None:
    if grants.scope.region not in IMPORT_REGIONS:
        return
    jobs, models = grants.bedrock("model-import-job"), grants.bedrock("imported-model")
    made = {"StringEquals": {f"aws:RequestTag/{STACK_TAG}": grants.scope.prefix}}
    allow(grants.role, ["bedrock:CreateModelImportJob"], ["*"], made, "the action has no resource; the tag decides")
    grants.allow(["bedrock:GetModelImportJob", "bedrock:ListTagsForResource"], [jobs], OWN_IDS)
    grants.allow_bedrock_tags([models, jobs])
    allow_pass(grants.role, grants.roles.bedrock_import, "bedrock.amazonaws.com")


def _deploy_custom_model(grants: Grants) -> None:
    if not _bases(grants.scope):
        return
    models, deployments = grants.bedrock("custom-model"), grants.bedrock("custom-model-deployment")
    # IAM asks for both tags of a call: that of the model, which exists, and that of the deployment in the request.
    own = {
        "StringEquals": {
            f"aws:RequestTag/{STACK_TAG}": grants.scope.prefix,
            f"aws:ResourceTag/{STACK_TAG}": grants.scope.prefix,
        }
    }
    allow(grants.role, ["bedrock:CreateCustomModelDeployment"], [models], own, f"{OWN_IDS}; the tags decide")
    grants.allow(["bedrock:GetCustomModelDeployment", "bedrock:ListTagsForResource"], [deployments], OWN_IDS)
    grants.allow_bedrock_tags([deployments])
    grants.allow_tagged(["bedrock:UpdateCustomModelDeployment"], [models, deployments])
    grants.allow_tagged(["bedrock:DeleteCustomModelDeployment"], [deployments])


def _ask_bedrock(grants: Grants) -> None:
    grants.allow(["s3:GetObject"], [grants.objects("models", "*/tuneway/evaluation.json")], A_RUN)
    grants.allow(["s3:PutObject"], [grants.objects("models", names.BEDROCK_SAMPLES)], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])
    if grants.scope.region in REGIONS:
        deployments, imported = grants.bedrock("custom-model-deployment"), grants.bedrock("imported-model")
        # Converse is authorized by InvokeModel (API reference, Converse).
        grants.allow_tagged(["bedrock:InvokeModel"], [deployments, imported])
        grants.allow_tagged(["bedrock:GetImportedModel"], [imported])


def _retire_models(grants: Grants) -> None:
    scope = grants.scope
    if scope.region not in REGIONS:
        return
    grants.allow(["states:ListExecutions"], [scope.arn("states", f"stateMachine:{scope.prefix}")])
    kinds = ["CustomModels", "CustomModelDeployments", "ProvisionedModelThroughputs", "ImportedModels"]
    grants.allow([f"bedrock:List{kind}" for kind in kinds], ["*"], "the list actions have no resource")
    models, imported = grants.bedrock("custom-model"), grants.bedrock("imported-model")
    grants.allow(["bedrock:ListTagsForResource"], [models, imported], OWN_IDS)
    grants.allow_tagged(["bedrock:DeleteCustomModel"], [models])
    grants.allow_tagged(["bedrock:DeleteImportedModel"], [imported])


def _deploy(grants: Grants) -> None:
    scope = grants.scope
    grants.allow(["sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint", "sagemaker:AddTags"], [scope.endpoint])
    models, configs = scope.sagemaker("model"), scope.sagemaker("endpoint-config")
    grants.allow(["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], [scope.endpoint, configs], OWN_NAMES)
    grants.allow(["sagemaker:CreateModel", "sagemaker:DescribeModel"], [models], OWN_NAMES)
    grants.allow(["sagemaker:CreateEndpointConfig", "sagemaker:DescribeEndpointConfig"], [configs], OWN_NAMES)
    grants.allow(["sagemaker:AddTags"], [models, configs], OWN_NAMES)
    allow_pass(grants.role, grants.roles.model, "sagemaker.amazonaws.com")
    grants.allow(["scheduler:CreateSchedule", "scheduler:UpdateSchedule"], [scope.schedule])
    allow_pass(grants.role, grants.roles.expiry, "scheduler.amazonaws.com")


def _smoke_test(grants: Grants) -> None:
    grants.allow(["s3:GetObject"], [grants.objects("models", "*/tuneway/evaluation.json")], A_RUN)
    grants.allow(["s3:PutObject"], [grants.objects("models", names.SAMPLES)], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])
    actions = ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint", "sagemaker:AddTags"]
    grants.allow(actions, [grants.scope.endpoint])
    # The schedule that looks for use begins when the endpoint has passed. A run may also want none.
    actions = [f"scheduler:{action}Schedule" for action in ("Create", "Update", "Delete")]
    grants.allow(actions, [grants.scope.idle_schedule])
    allow_pass(grants.role, grants.roles.idle, "scheduler.amazonaws.com")


def _record(grants: Grants) -> None:
    grants.allow(["s3:PutObject"], [grants.objects("models", names.RECORD)], A_RUN)
    grants.allow_key(["GenerateDataKey"])


def _report(grants: Grants) -> None:
    scope = grants.scope
    executions = scope.arn("states", f"execution:{scope.prefix}:*")
    grants.allow(["states:DescribeExecution", "states:GetExecutionHistory"], [executions], OWN_EXECUTIONS)
    files = [names.RECORD, names.SAMPLES, names.BEDROCK_SAMPLES]
    files += [names.JUDGE] if grants.settings.training.evaluation.judge_model else []
    files += [f"*/tuneway/{name}.json" for name in ("evaluation", "metrics", "recipe")]
    read = [*(grants.objects("models", name) for name in files), grants.objects("data", "manifest.json")]
    grants.allow(["s3:GetObject"], read, A_RUN)
    written = [names.REPORT, f"*/output/model/{names.CARD}"]
    grants.allow(["s3:PutObject"], [grants.objects("models", name) for name in written], A_RUN)
    grants.allow_key(["Decrypt", "GenerateDataKey"])
    grants.allow(["sagemaker:DescribeTrainingJob"], [scope.sagemaker("training-job")], OWN_NAMES)
    _read_job_logs(grants)


# 1,769 MB are one whole vCPU (Lambda developer guide, "Configure Lambda function memory").
_whole_cpu = partial(StepFunction, minutes=15, memory_mb=1769, package="data_prep")

STEPS: dict[str, StepFunction] = {
    # The memory is for reading a tokenizer.json. Gemma 3's has 33 MB, and takes 200 MB when it is parsed.
    "plan": StepFunction("pipeline.steps.plan.handler", _plan, minutes=5, memory_mb=1024),
    "data_prep": _whole_cpu("data_prep.handler.handler", _data_prep),
    "shard_data": _whole_cpu("data_prep.handler.shard", _shard_data),
    "merge_data": _whole_cpu("data_prep.handler.merge", _merge_data),
    "train": StepFunction("pipeline.steps.train.handler", _train),
    "judge": StepFunction("pipeline.steps.judge.handler", _judge, minutes=15, memory_mb=512),
    "assess": StepFunction("pipeline.steps.assess.handler", _assess),
    "register_model": StepFunction("pipeline.steps.register_model.handler", _register_model),
    "customize": StepFunction("pipeline.steps.customize.handler", _customize),
    "import_model": StepFunction("pipeline.steps.import_model.handler", _import_model),
    "deploy_custom_model": StepFunction("pipeline.steps.deploy_custom_model.handler", _deploy_custom_model),
    "ask_bedrock": StepFunction("pipeline.steps.ask_bedrock.handler", _ask_bedrock, minutes=5),
    "retire_models": StepFunction("pipeline.steps.retire_models.handler", _retire_models),
    "deploy": StepFunction("pipeline.steps.deploy.handler", _deploy),
    "smoke_test": StepFunction("pipeline.steps.smoke_test.handler", _smoke_test, minutes=5),
    "record": StepFunction("pipeline.steps.record.handler", _record),
    # The memory is for the history of a long run, whose events are read at once, and for the page.
    "report": StepFunction("report.handler.handler", _report, minutes=5, memory_mb=512),
}
"""The functions by the names that the definition uses. A function's own name is the same, with hyphens."""


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
        """ARNs of the versions that this deploy publishes. The definition calls these."""

    def any_version_of(self, name: str) -> str:
        """Return the ARN pattern of all versions of one function."""
        return f"{self._functions[name].function_arn}:*"

    @property
    def any_version(self) -> list[str]:
        """ARN patterns of all versions. A running execution goes on with those of its own definition, even after a deploy."""
        return [f"{function.function_arn}:*" for function in self._functions.values()]
