"""The Lambda functions. Each has its own role, log group and published version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs

from infra.package import is_built, pack, wheels
from infra.policies import acknowledge, allow, make_role
from pipeline.settings import Settings, SettingsError

if TYPE_CHECKING:
    from constructs import Construct

    from infra.scope import Scope

A_RUN = "a run's id is its own, and known when it starts"
A_KEY = "a baseline's key is made of its run's settings"
OWN_NAMES = "every resource that a run creates is named after the run"
OWN_VERSIONS = "the versions of the stack's own group"
OWN_EXECUTIONS = "executions of this state machine"
OWN_IDS = "Bedrock gives jobs and models ids of its own: there is no name to scope by"

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


def code(package: str, settings: Settings) -> lambda_.Code:
    """Return the zip of `package`: its wheels and the product's own folders.

    Raises:
        SettingsError: the wheels are not there yet, or were made for other pins.
    """
    if not is_built(package, settings):
        functions = settings.functions
        raise SettingsError(
            f"functions: no wheels for Python {functions.python} on {functions.architecture} in "
            f"{wheels(package, settings)}, or no chart library in node_modules; "
            "run `make setup` (with SETTINGS=FILE for another settings file)"
        )
    path, content = pack(package, settings)
    return lambda_.Code.from_asset(str(path), asset_hash=content)


class FunctionFactory:
    """Makes functions that differ only in handler, package, environment, memory and timeout."""

    def __init__(self, scope: Scope, settings: Settings) -> None:
        """Make the runtime, the architecture and the principal that all functions of a stack share."""
        self._scope = scope
        self._settings = settings
        functions = settings.functions
        self._runtime = lambda_.Runtime(f"python{functions.python}", lambda_.RuntimeFamily.PYTHON)
        self._architecture = lambda_.Architecture.custom(functions.architecture)
        # Without a condition, because no page of AWS says that Lambda sets aws:SourceArn or aws:SourceAccount when it
        # assumes an execution role. IAM itself refuses a role that is passed to another account.
        self._principal = iam.ServicePrincipal("lambda.amazonaws.com")
        self._code: dict[str, lambda_.Code] = {}

    def make(
        self,
        parent: Construct,
        name: str,
        handler: str,
        minutes: int,
        memory_mb: int = 256,
        package: str = "pipeline",
        environment: dict[str, str] | None = None,
    ) -> lambda_.Function:
        """Make the function `PREFIX-name`, whose role may so far only write the function's own log.

        Args:
            parent: the construct that the function belongs to.
            name: end of the function's name.
            handler: module and function.
            minutes: the timeout.
            memory_mb: the memory.
            package: the package of `infra.package` with its code.
            environment: environment variables.
        """
        function_name = f"{self._scope.prefix}-{name}"
        group = logs.LogGroup(
            parent,
            f"{_title(name)}Logs",
            log_group_name=f"/aws/lambda/{function_name}",
            retention=logs.RetentionDays[_RETENTION[self._settings.functions.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = make_role(
            parent,
            f"{_title(name)}Role",
            self._principal,
            f"Tuneway's {name} function",
        )
        # The group exists already. A function that may create it would bring it back after the stack is gone.
        allow(
            role,
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            [self._scope.arn("logs", f"log-group:/aws/lambda/{function_name}:*")],
            reason="the group's own streams",
        )
        if package not in self._code:
            self._code[package] = code(package, self._settings)
        function = lambda_.Function(
            parent,
            _title(name),
            function_name=function_name,
            code=self._code[package],
            handler=handler,
            runtime=self._runtime,
            architecture=self._architecture,
            memory_size=memory_mb,
            timeout=cdk.Duration.minutes(minutes),
            environment=environment or {},
            role=role,
            log_group=group,
            # A running execution goes on with the version that its definition names, even after a deploy.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
        )
        reason = "functions.python is a setting; its newest value is the newest that the tests run on"
        acknowledge(function, {"L1": reason})
        return function


def published_version(function: lambda_.Function) -> str:
    """Return the ARN of the version that this deploy publishes."""
    arn: str = function.current_version.function_arn
    return arn


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))
