"""The checks of the account: who the credentials are, the Region, the bootstrap, the quotas, and Bedrock."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from cli.checks.result import CheckContext, CheckResult, failure, of_lines, ok, warning
from pipeline import account, aws, bedrock, quotas
from pipeline.errors import Refused
from serving.stack import DEFAULT_REGION, ROOT, Region, find_region

if TYPE_CHECKING:
    from pipeline.settings import Settings

BOOTSTRAP_VERSION = 6
"""The oldest bootstrap that the stack's template and assets ask for: `requiresBootstrapStackVersion` in the manifest of the
assembly (aws-cdk-lib 2.275.0, MIN_BOOTSTRAP_STACK_VERSION of DefaultStackSynthesizer). A test compares it with a synth."""

_QUALIFIER = "hnb659fds"
"""The qualifier of a bootstrap without one of its own (DEFAULT_QUALIFIER of DefaultStackSynthesizer)."""


def credentials(region: str) -> tuple[CheckResult, str]:
    """Ask AWS who the credentials are. Return the result, and the account's id.

    Raises:
        botocore.exceptions.ClientError: AWS refuses them.
        botocore.exceptions.BotoCoreError: there are none, or AWS is out of reach.
    """
    who = aws.client("sts", region_name=region).get_caller_identity()
    found = boto3.Session().get_credentials()
    origin = f" (botocore's provider {found.method})" if found else ""
    return ok(f"{who['Arn']} in account {who['Account']}{origin}"), str(who["Account"])


def region(settings: Settings) -> tuple[CheckResult, Region]:
    """Check that the Region exists, and that something names it. Raises Refused."""
    found, session = find_region(settings), boto3.Session()
    known = [
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("sagemaker", partition_name=partition)
    ]
    if found.name not in known:
        close = difflib.get_close_matches(found.name, known, n=1)
        raise Refused(
            f"SageMaker has no Region {found.name} (from {found.origin}); set stack.region in config.yaml, or AWS_REGION, to "
            f"{f'{close[0]}, if you meant that' if close else 'one that it has, such as us-west-2'}"
        )
    if found.origin == DEFAULT_REGION:
        # Without any Region the CDK CLI takes us-east-1 (its AwsCliCompatible.region), and hands it to the app.
        return warning(
            f"{found.name}, because no setting, variable or profile names a Region, but `cdk deploy` would then take "
            "us-east-1; set stack.region in config.yaml, or AWS_REGION"
        ), found
    return ok(f"{found.name} (from {found.origin})"), found


def bootstrap(checked: CheckContext) -> CheckResult:
    """Check that the account is bootstrapped in the Region, by a CDK that is new enough."""
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    own = checked.settings.stack.qualifier
    name = f"/cdk-bootstrap/{own or context.get('@aws-cdk/core:bootstrapQualifier', _QUALIFIER)}/version"
    command = f"`cdk bootstrap aws://{checked.account}/{checked.region.name}`"
    if own:  # Its bootstrap has a toolkit stack of its own, and policies that the page names.
        command = f"the commands of docs/people.md for stack.qualifier: {own}"
    try:
        version = int(checked.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if aws.code(error) != "ParameterNotFound":
            raise
        return failure(
            f"this account is not bootstrapped in {checked.region.name} (there is no parameter {name}); run {command} once"
        )
    if version < BOOTSTRAP_VERSION:
        return failure(
            f"the bootstrap has version {version}, and the stack needs {BOOTSTRAP_VERSION}; run {command} again"
        )
    return ok(f"version {version} (needed: {BOOTSTRAP_VERSION})")


def instance_quotas(checked: CheckContext) -> CheckResult:
    """Check the quotas of the instances, as Plan does. Raises NotAllowed."""
    endpoint = checked.stack.endpoint if checked.stack else None
    fit, warnings = account.within_quotas(checked.settings, endpoint, checked.region.name)
    lines = [*warnings, f"look at {quotas.console('sagemaker', checked.region.name)}"] if warnings else []
    enough = f"enough for a training job on {' or '.join(fit.training.instance_types)}"
    served = f", and for an endpoint on {' or '.join(fit.endpoint.instance_types)}" if fit.endpoint.enabled else ""
    return of_lines(lines, enough + served)


def bedrock_model(checked: CheckContext) -> CheckResult:
    """Check that Bedrock customizes the base model or imports one more, and has the judge. Raises SettingsError, AwsRefused."""
    settings, region = checked.settings, checked.region.name
    base = bedrock.check(settings, region)
    bedrock.check_judge(settings, region)
    judge = account.check_judge(settings, region)
    if base:
        account.check_base_model(base, region)
        return of_lines([*bedrock.call_warnings(base), *judge], f"{base.id} can be customized in {region}")
    if settings.bedrock.mode == "import":
        lines = account.check_imports(region)
        page = quotas.console("bedrock", region)
        lines = [*lines, f"look at {page}"] if lines else []
        return of_lines([*lines, *judge], f"one more model can be imported in {region}")
    used = settings.training.evaluation.judge_model
    return of_lines(judge, f"{used} may judge (bedrock.mode is off)") if used else ok("not used (bedrock.mode is off)")
