"""The Lambda functions: each with its own role, log group and published version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import package
from infra.policies import acknowledge, allow, allow_pass, role
from infra.storage import allow_key
from pipeline import names, record
from pipeline.catalogue import BASE_MODELS
from pipeline.names import STACK_TAG
from pipeline.settings import Settings, SettingsError
from pipeline.steps.train import LOG_GROUP

if TYPE_CHECKING:
    from infra.roles import ServiceRoles
    from infra.scope import Scope


def code(room: str, settings: Settings) -> lambda_.Code:
    """The zip of `room`: its wheels and the product's own folders.

    Raises:
        SettingsError: the wheels are not there yet, or are those of other pins.
    """
    if not package.is_built(room, settings):
        functions = settings.functions
        raise SettingsError(
            f"functions: no wheels for Python {functions.python} on {functions.architecture} in "
            f"{package.wheels(room, settings)}; run `make setup` (with SETTINGS=FILE for another settings file)"
        )
    path, content = package.pack(room, settings)
    return lambda_.Code.from_asset(str(path), asset_hash=content)


@dataclass(frozen=True)
class Step:
    """A function that the state machine calls, by the version that was published with the definition."""

    function: lambda_.Function
    version_arn: str


class FunctionFactory:
    """Makes functions that differ in handler, memory and time only."""

    def __init__(self, parent: Construct, scope: Scope, settings: Settings) -> None:
        """Remember what all functions share."""
        self._parent = parent
        self._scope = scope
        self._settings = settings
        self._code: dict[str, lambda_.Code] = {}

    def make(
        self,
        name: str,
        handler: str,
        minutes: int,
        memory_mb: int = 256,
        room: str = "pipeline",
        environment: dict[str, str] | None = None,
    ) -> lambda_.Function:
        """One function `PREFIX-name` with a role that so far may only write its own log."""
        settings = self._settings.functions
        function_name = f"{self._scope.prefix}-{name}"
        group = logs.LogGroup(
            self._parent,
            f"{_title(name)}Logs",
            log_group_name=f"/aws/lambda/{function_name}",
            retention=logs.RetentionDays[_RETENTION[settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        function_role = role(
            self._parent,
            f"{_title(name)}Role",
            # Without a condition: no page of AWS's says that Lambda has aws:SourceArn or aws:SourceAccount when it assumes
            # an execution role. IAM itself refuses a role that is passed to another account.
            iam.ServicePrincipal("lambda.amazonaws.com"),
            f"Tuneway's {name} function",
        )
        # The group exists already: a function that may create it would bring it back after the stack is gone.
        allow(
            function_role,
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            [self._scope.arn("logs", f"log-group:/aws/lambda/{function_name}:*")],
            reason="the group's own streams",
        )
        if room not in self._code:
            self._code[room] = code(room, self._settings)
        runtime = lambda_.Runtime(f"python{settings.python}", lambda_.RuntimeFamily.PYTHON)
        function = lambda_.Function(
            self._parent,
            _title(name),
            function_name=function_name,
            code=self._code[room],
            handler=handler,
            runtime=runtime,
            architecture=lambda_.Architecture.custom(settings.architecture),
            memory_size=memory_mb,
            timeout=cdk.Duration.minutes(minutes),
            environment=environment or {},
            role=function_role,
            log_group=group,
            # A running execution goes on with the version its definition names, also after a deploy.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
        )
        acknowledge(
            function, "L1", "functions.python is a setting; its newest value is the newest that the tests run on"
        )
        return function


class Functions(Construct):
    """The steps of the state machine that are functions."""

    def __init__(
        self, parent: Construct, id: str, scope: Scope, bucket: s3.Bucket, roles: ServiceRoles, settings: Settings
    ) -> None:
        """Make the functions, each with the grants of its step."""
        super().__init__(parent, id)
        self._make = FunctionFactory(self, scope, settings).make
        self._scope, self._bucket, self._settings = scope, bucket, settings
        self._datasets = [f"arn:{scope.partition}:s3:::{name}" for name in settings.access.dataset_buckets]
        data_prep, shard_data, merge_data = self._data()
        made = {
            "plan": self._plan(),
            "data_prep": data_prep,
            "shard_data": shard_data,
            "merge_data": merge_data,
            "train": self._train(roles),
            "assess": self._assess(),
            "customize": self._customize(roles),
            "deploy": self._deploy(roles),
            "smoke_test": self._smoke_test(),
            "record": self._record(),
        }
        self.steps = {name: step(function) for name, function in made.items()}

    def _objects(self, folder: names.Folder, name: str = "*") -> str:
        """What `name` matches in the folders of all runs."""
        arn: str = self._bucket.arn_for_objects(f"{names.prefix(folder, '*')}{name}")
        return arn

    def _plan(self) -> lambda_.Function:
        scope, access = self._scope, self._settings.access
        # The memory is for reading a tokenizer.json: Gemma 3's has 33 MB, and takes 200 MB when it is parsed.
        plan = self._make("plan", "pipeline.steps.plan.handler", minutes=5, memory_mb=1024)
        written = [self._objects("code"), self._objects("shards", SHARD_LIST)]
        _allow(plan, ["s3:PutObject"], written, A_RUN)
        models = self._bucket.arn_for_objects("uploads/models/*")
        _allow(plan, ["s3:GetObject"], [models], "the user's own base models, in whatever folder")
        _allow_key(plan, self._bucket, ["Decrypt", "GenerateDataKey"])
        assert isinstance(plan.role, iam.Role)
        # It lists datasets and base models, and looks for a baseline.
        listed = ["uploads/*", f"{names.prefix('baselines', '*')}*"]
        allow(plan.role, ["s3:ListBucket"], [self._bucket.bucket_arn], {"StringLike": {"s3:prefix": listed}})
        if self._datasets:
            _allow(plan, ["s3:ListBucket"], self._datasets)
        bedrock = f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/*"
        _allow(
            plan, ["bedrock:GetFoundationModel"], [bedrock], "reads what AWS publishes of any base model a run may name"
        )
        quotas = ["servicequotas:ListServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas"]
        _allow(plan, quotas, ["*"], "the actions have no resource")
        _allow(plan, ["sagemaker:DescribeEndpoint"], [scope.endpoint])
        _allow(plan, ["sagemaker:DescribeEndpointConfig"], [scope.sagemaker("endpoint-config")], OWN_NAMES)
        # A secret that does not exist has no six characters yet: the bare name is asked for, and must be answered with
        # "not found" rather than "access denied".
        secret = scope.secret(access.hub_token_secret)
        missing = scope.arn("secretsmanager", f"secret:{access.hub_token_secret}")
        _allow(plan, ["secretsmanager:DescribeSecret"], [missing, secret])
        _allow(plan, ["secretsmanager:GetSecretValue"], [secret])
        return plan

    def _data(self) -> tuple[lambda_.Function, lambda_.Function, lambda_.Function]:
        """All of a dataset, one shard of it, and the merge of the shards: the same code."""
        environment = {"HF_ENDPOINT": self._settings.access.hub_endpoint}
        handlers = {"data-prep": "handler", "shard-data": "shard", "merge-data": "merge"}
        data_prep, shard_data, merge_data = (
            # 1,769 MB are one whole vCPU (Lambda developer guide, "Configure Lambda function memory").
            self._make(name, f"data_prep.handler.{handler}", 15, 1769, "data_prep", environment)
            for name, handler in handlers.items()
        )
        sources = [self._bucket.arn_for_objects("uploads/*"), *(f"{arn}/*" for arn in self._datasets)]
        for reader in (data_prep, shard_data):
            _allow(reader, ["s3:GetObject"], sources, "the user's own objects, where config.yaml says they are")
            if self._datasets:
                _allow(reader, ["s3:ListBucket"], self._datasets)
            secret = self._scope.secret(self._settings.access.hub_token_secret)
            _allow(reader, ["secretsmanager:GetSecretValue"], [secret])
        outputs, work = self._objects("data"), self._objects("shards")
        write = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
        for function, written in ((data_prep, outputs), (shard_data, work), (merge_data, outputs)):
            _allow(function, write, [written], A_RUN)
            _allow_key(function, self._bucket, ["Decrypt", "GenerateDataKey"])
        # What says whether an upload or a shard's report is there: `data_prep.sources.exists`.
        uploads, reports = "uploads/*", f"{names.prefix('shards', '*')}*"
        for function, listed in (
            (data_prep, [uploads]),
            (shard_data, [uploads, reports]),
            (merge_data, [reports]),
        ):
            assert isinstance(function.role, iam.Role)
            condition = {"StringLike": {"s3:prefix": listed}}
            allow(function.role, ["s3:ListBucket"], [self._bucket.bucket_arn], condition)
        _allow(merge_data, ["s3:GetObject"], [work], A_RUN)
        return data_prep, shard_data, merge_data

    def _train(self, roles: ServiceRoles) -> lambda_.Function:
        scope = self._scope
        train = self._make("train", "pipeline.steps.train.handler", minutes=1)
        jobs = scope.sagemaker("training-job")
        actions = ["Create", "Describe", "Stop"]
        _allow(train, [f"sagemaker:{action}TrainingJob" for action in actions], [jobs], OWN_NAMES)
        _allow(train, ["sagemaker:AddTags", "sagemaker:ListTags"], [jobs], OWN_NAMES)
        # The group is the account's; of its streams only those of this stack's jobs can be read.
        group = scope.arn("logs", f"log-group:{LOG_GROUP}")
        _allow(train, ["logs:DescribeLogStreams"], [f"{group}:*"], "Logs asks on the group's ARN with its streams")
        _allow(train, ["logs:GetLogEvents"], [f"{group}:log-stream:{scope.prefix}-*"], OWN_NAMES)
        assert isinstance(train.role, iam.Role)
        allow_pass(train.role, roles.training, "sagemaker.amazonaws.com")
        return train

    def _customize(self, roles: ServiceRoles) -> lambda_.Function:
        scope = self._scope
        customize = self._make("customize", "pipeline.steps.customize.handler", minutes=1)
        bases = [
            f"arn:{scope.partition}:bedrock:{scope.region}::foundation-model/{model.id}"
            for model in BASE_MODELS.values()
            if model.region == scope.region
        ]
        if not bases:
            return customize
        jobs, models = scope.arn("bedrock", "model-customization-job/*"), scope.arn("bedrock", "custom-model/*")
        _allow(customize, ["bedrock:CreateModelCustomizationJob"], [*bases, models, jobs], OWN_IDS)
        _allow(customize, ["bedrock:GetModelCustomizationJob", "bedrock:ListTagsForResource"], [jobs], OWN_IDS)
        assert isinstance(customize.role, iam.Role)
        # What is tagged gets this stack's tag and has no other stack's: no model of another stack can be made this one's.
        mine = {
            "StringEquals": {f"aws:RequestTag/{STACK_TAG}": scope.prefix},
            "StringEqualsIfExists": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix},
        }
        allow(customize.role, ["bedrock:TagResource"], [models, jobs], mine, OWN_IDS)
        ours = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": scope.prefix}}
        allow(customize.role, ["bedrock:StopModelCustomizationJob"], [jobs], ours, f"{OWN_IDS}; the tag decides")
        allow_pass(customize.role, roles.bedrock, "bedrock.amazonaws.com")
        return customize

    def _assess(self) -> lambda_.Function:
        assess = self._make("assess", "pipeline.steps.assess.handler", minutes=1)
        left = [self._objects("models", f"*/tuneway/{name}.json") for name in ("evaluation", "left_out", "baseline")]
        _allow(assess, ["s3:GetObject"], left, A_RUN)
        _allow(assess, ["s3:PutObject"], [self._objects("baselines", "baseline.json")], A_KEY)
        _allow(assess, ["s3:PutObject"], [self._objects("models", record.NAME)], A_RUN)
        _allow_key(assess, self._bucket, ["Decrypt", "GenerateDataKey"])
        return assess

    def _deploy(self, roles: ServiceRoles) -> lambda_.Function:
        scope = self._scope
        deploy = self._make("deploy", "pipeline.steps.deploy.handler", minutes=1)
        _allow(
            deploy, ["sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint", "sagemaker:AddTags"], [scope.endpoint]
        )
        models, configs = scope.sagemaker("model"), scope.sagemaker("endpoint-config")
        _allow(deploy, ["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], [scope.endpoint, configs], OWN_NAMES)
        _allow(deploy, ["sagemaker:CreateModel", "sagemaker:DescribeModel"], [models], OWN_NAMES)
        config = ["sagemaker:CreateEndpointConfig", "sagemaker:DescribeEndpointConfig"]
        _allow(deploy, config, [configs], OWN_NAMES)
        _allow(deploy, ["sagemaker:AddTags"], [models, configs], OWN_NAMES)
        assert isinstance(deploy.role, iam.Role)
        allow_pass(deploy.role, roles.model, "sagemaker.amazonaws.com")
        allow(deploy.role, ["scheduler:CreateSchedule", "scheduler:UpdateSchedule"], [scope.schedule])
        allow_pass(deploy.role, roles.expiry, "scheduler.amazonaws.com")
        return deploy

    def _smoke_test(self) -> lambda_.Function:
        smoke_test = self._make("smoke-test", "pipeline.steps.smoke_test.handler", minutes=5)
        _allow(smoke_test, ["s3:GetObject"], [self._objects("data", "test/test.jsonl")], A_RUN)
        _allow(smoke_test, ["s3:PutObject"], [self._objects("models", "smoke_test.json")], A_RUN)
        _allow_key(smoke_test, self._bucket, ["Decrypt", "GenerateDataKey"])
        actions = ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint", "sagemaker:AddTags"]
        _allow(smoke_test, actions, [self._scope.endpoint])
        return smoke_test

    def _record(self) -> lambda_.Function:
        made = self._make("record", "pipeline.record.handler", minutes=1)
        _allow(made, ["s3:PutObject"], [self._objects("models", record.NAME)], A_RUN)
        _allow_key(made, self._bucket, ["GenerateDataKey"])
        return made


SHARD_LIST = "shards.json"
"""The shards of a run, as Plan lists them and the Map reads them."""
A_RUN = "a run's id is its own, and known when it starts"
A_KEY = "a baseline's key is made of its run's settings"
OWN_NAMES = "what a run makes is named after it"
OWN_IDS = "Bedrock gives jobs and models ids of its own: there is no name to scope by"


def _allow(function: lambda_.Function, actions: list[str], resources: list[str], reason: str = "") -> None:
    assert isinstance(function.role, iam.Role)
    allow(function.role, actions, resources, reason=reason)


def _allow_key(function: lambda_.Function, bucket: s3.Bucket, actions: list[str]) -> None:
    assert isinstance(function.role, iam.Role)
    allow_key(function.role, bucket, actions)


def step(function: lambda_.Function) -> Step:
    """The function with the version that is published now."""
    return Step(function, function.current_version.function_arn)


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


_RETENTION = {
    1: "ONE_DAY",
    3: "THREE_DAYS",
    5: "FIVE_DAYS",
    7: "ONE_WEEK",
    14: "TWO_WEEKS",
    30: "ONE_MONTH",
    60: "TWO_MONTHS",
    90: "THREE_MONTHS",
    180: "SIX_MONTHS",
    365: "ONE_YEAR",
}
