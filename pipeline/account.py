"""Checks before a run whether the account allows it: Bedrock's models, the quotas, and the secret with the Hub token.

Plan and `tuneway doctor` call these functions.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pipeline import aws, quotas
from pipeline.catalogue import IMPORTED_MODELS_QUOTA, JUDGES
from pipeline.endpoints import describe_endpoint
from pipeline.settings import SettingsError

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel
    from pipeline.settings import Settings


class NotAllowed(SettingsError):
    """The account does not allow the run. The line says what is missing, where, and what to do."""


def check_base_model(base_model: BaseModel, region: str) -> None:
    """Check that the account can customize the base model now.

    Raises:
        NotAllowed: Bedrock does not know the model, or does not customize it any more.
        aws.AwsRefused: the account may not use Bedrock.
    """
    client = aws.client("bedrock", region_name=region)
    try:
        details = client.get_foundation_model(modelIdentifier=base_model.id)["modelDetails"]
    except ClientError as error:
        code, message = aws.code(error), error.response["Error"]["Message"]
        if code == "AccessDeniedException":
            raise _denied(region, message) from error
        if code not in ("ResourceNotFoundException", "ValidationException", "UnknownOperationException"):
            raise
        raise NotAllowed(
            f"bedrock.base_model: Bedrock does not know {base_model.id} in {region} ({message}); choose another one or set "
            "bedrock.mode to off"
        ) from error
    status = details.get("modelLifecycle", {}).get("status")
    if status == "LEGACY":
        raise NotAllowed(
            f"bedrock.base_model: {base_model.id} is Legacy in {region}, and Bedrock refuses new customization jobs on a "
            "Legacy model; choose another one of the catalogue or set bedrock.mode to off"
        )
    if "FINE_TUNING" not in details.get("customizationsSupported", []):
        raise NotAllowed(
            f"bedrock.base_model: {base_model.id} cannot be fine-tuned in {region}; choose another one of the catalogue or "
            "set bedrock.mode to off"
        )


_NO_JUDGE = (
    "ask the account's administrator for access to it, or choose another judge_model and deploy; without it, a run goes on and "
    "has no win rate"
)


def check_judge(settings: Settings, region: str) -> list[str]:
    """Return a warning if Bedrock does not offer the judge model to this account. Its failure never ends a run."""
    model = settings.training.evaluation.judge_model
    if model is None:
        return []
    foundation = JUDGES[model].foundation_model
    client = aws.client("bedrock", region_name=region)
    try:
        details = client.get_foundation_model(modelIdentifier=foundation)["modelDetails"]
    except ClientError as error:
        if aws.is_busy(error):
            raise
        return [
            f"training.evaluation.judge_model: Bedrock does not show {foundation} to this account in {region} "
            f"({aws.code(error)}); {_NO_JUDGE}"
        ]
    if details.get("modelLifecycle", {}).get("status") == "LEGACY":
        return [
            f"training.evaluation.judge_model: {foundation} is Legacy in {region}, and Bedrock may refuse to call it; "
            f"{_NO_JUDGE}"
        ]
    return []


def check_imports(region: str) -> list[str]:
    """Check that the account can have one more imported model. Return a warning if the quota cannot be read.

    A run deletes the model of an earlier run only when its own has answered. So both exist for a while.

    Raises:
        NotAllowed: the quota does not allow one more.
        aws.AwsRefused: the account may not use Bedrock.
    """
    try:
        there = len(aws.all_of(aws.client("bedrock", region_name=region), "list_imported_models", "modelSummaries"))
    except ClientError as error:
        if aws.code(error) == "AccessDeniedException":
            raise _denied(region, error.response["Error"]["Message"]) from error
        raise
    name = f"quota 'Imported models per account' ({IMPORTED_MODELS_QUOTA})"
    quota = quotas.of_code("bedrock", IMPORTED_MODELS_QUOTA, region)
    if quota is None:
        return [f"{name} could not be read; Bedrock refuses the import if it is too small"]
    if there + 1 > quota:
        raise NotAllowed(
            f"bedrock.mode: {name} is {quota:g} in this account and region, and there are {there} imported models; delete one "
            "in the Bedrock console, request an increase in the Service Quotas console "
            f"({quotas.console('bedrock', region, IMPORTED_MODELS_QUOTA)}), or set bedrock.mode to off"
        )
    return []


def _denied(region: str, message: str) -> aws.AwsRefused:
    # Not a refusal yet: a new role needs time to reach all of AWS, and the state machine tries again for seconds.
    return aws.AwsRefused(
        f"bedrock.mode: this account may not use Bedrock in {region} ({message}); allow it, or set bedrock.mode to off"
    )


def within_quotas(
    settings: Settings, endpoint: str | None, region: str, *, trains: bool = True
) -> tuple[Settings, list[str]]:
    """Drop the instance types that the account's quotas do not allow.

    AWS does not document how SageMaker treats a list in which one quota is too small. One vendor's guide says that it refuses
    the whole list (Deepgram, "Deploy Deepgram on Amazon SageMaker"). So no request names such a type. An unknown quota is only
    a warning. An update of an endpoint needs its old and its new instances for a while, because SageMaker starts the new fleet
    before it stops the old one (API reference, UpdateEndpoint).

    Args:
        settings: the run's settings.
        endpoint: the endpoint's name. None if the stack is not deployed, so that it has no endpoint.
        region: the stack's Region.
        trains: whether the run trains. If not, it serves the model of an earlier run.

    Returns:
        The settings with the other types, and a warning for each dropped type.

    Raises:
        NotAllowed: the quotas allow no type of a list.
    """
    kind = "spot training job" if settings.training.spot else "training job"
    checks = [("training", f"for {kind} usage", dict[str, int]())] if trains else []
    if settings.endpoint.enabled:
        running_instances = _running_instances(endpoint, settings.endpoint.instance_types, region) if endpoint else {}
        checks.append(("endpoint", "for endpoint usage", running_instances))
    found = quotas.of_instances(
        [f"{name} {usage}" for part, usage, _ in checks for name in getattr(settings, part).instance_types], region
    )
    warnings = []
    for part, usage, running in checks:
        section = getattr(settings, part)
        lacking = {}
        for name in section.instance_types:
            quota, in_use = f"{name} {usage}", running.get(name, 0)
            needed = section.instance_count + in_use
            if quota not in found:
                warnings.append(
                    f"quota '{quota}' could not be read; SageMaker refuses the job or endpoint if it is too small"
                )
            elif found[quota].value < needed:
                why = (
                    f", because endpoint {endpoint} keeps its {in_use} while an update starts others" if in_use else ""
                )
                limit = f"quota '{quota}' is {found[quota].value:g} in this account and region"
                lacking[name] = f"{limit}, and this run needs {needed}{why}"
        usable = [name for name in section.instance_types if name not in lacking]
        if not usable:
            pages = " ".join(quotas.console("sagemaker", region, found[f"{name} {usage}"].code) for name in lacking)
            raise NotAllowed(
                f"{'; '.join(lacking.values())}: request an increase in the Service Quotas console ({pages}), or choose "
                f"another type in {part}.instance_types"
            )
        warnings += [f"{line}: {name} is left out of {part}.instance_types" for name, line in lacking.items()]
        settings = settings.model_copy(update={part: section.model_copy(update={"instance_types": usable})})
    return settings, warnings


def _running_instances(endpoint: str, types: list[str], region: str) -> dict[str, int]:
    """Return by type how many instances the endpoint keeps until an update of it is complete.

    Args:
        endpoint: the endpoint's name.
        types: the types that the run wants. If the endpoint's own types cannot be known, each of these may be one of them.
        region: the stack's Region.
    """
    client = aws.client("sagemaker", region_name=region)
    found = describe_endpoint(client, endpoint)
    if found["EndpointStatus"] in ("Absent", "Failed", "Deleting"):
        return {}
    config = str(found.get("EndpointConfigName"))
    served = found.get("ProductionVariants", [])
    if not config.startswith(f"{endpoint}-"):
        # Somebody has put the endpoint on a config that is not the stack's. The role may not describe such a config.
        return dict.fromkeys(types, sum(variant.get("CurrentInstanceCount", 0) for variant in served))
    try:
        variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        if not aws.is_absent(error):
            raise
        return {}  # SageMaker cannot update the endpoint, so Deploy deletes it first.
    running = Counter[str]()
    for variant in variants:
        now: dict[str, Any] = next((one for one in served if one["VariantName"] == variant["VariantName"]), {})
        # Somebody may have changed the count since, or made a config without instances.
        count = now.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
        if "InstanceType" in variant:
            running[variant["InstanceType"]] += count
        # A list of types: SageMaker shows which of them the variant has as soon as it serves.
        for pool in now.get("InstancePools") or variant.get("InstancePools", []):
            running[pool["InstanceType"]] += pool.get("CurrentInstanceCount", count)
    return dict(running)


def check_token(settings: Settings, section: str, region: str) -> str | None:
    """Return the ARN of the secret with the Hub token, if the section's model or dataset is gated.

    It checks only that the secret exists.
    """
    field, name, gated = {
        "training": ("training.base_model", settings.training.base_model, settings.training.gated),
        "dataset": ("dataset.source", settings.dataset.source, settings.dataset.gated),
    }[section]
    if not gated:
        return None
    secret = settings.access.hub_token_secret
    try:
        arn: str = aws.client("secretsmanager", region_name=region).describe_secret(SecretId=secret)["ARN"]
    except ClientError as error:
        if aws.code(error) != "ResourceNotFoundException":
            raise
        raise NotAllowed(
            f"{field}: {name} is gated and the secret {secret} does not exist; accept the licence on the Hub, then make the "
            f"secret with `aws secretsmanager create-secret --region {region} --name {secret} --secret-string YOUR_HUB_TOKEN`"
        ) from error
    return arn
