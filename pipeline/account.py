"""What Plan asks Bedrock and Service Quotas about the account, before a run makes a model in Bedrock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws
from pipeline.catalogue import IMPORTED_MODELS_QUOTA
from pipeline.settings import SettingsError

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


class NotAllowed(SettingsError):
    """The account does not allow the run. The line says what is missing, where, and what to do."""


def check_base_model(base_model: BaseModel, region: str) -> None:
    """Check that the account can customize the base model now.

    Raises:
        NotAllowed: Bedrock does not know the model, or does not customize it any more.
        aws.AwsRefused: the account may not use Bedrock.
    """
    client = aws.client("bedrock")
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


def check_imports(region: str) -> list[str]:
    """Check that the account can have one more imported model. Return a warning if the quota cannot be read.

    A run deletes the model of an earlier run only when its own has answered. So both exist for a while.

    Raises:
        NotAllowed: the quota does not allow one more.
        aws.AwsRefused: the account may not use Bedrock.
    """
    try:
        there = len(aws.all_of(aws.client("bedrock"), "list_imported_models", "modelSummaries"))
    except ClientError as error:
        if aws.code(error) == "AccessDeniedException":
            raise _denied(region, error.response["Error"]["Message"]) from error
        raise
    name = f"quota 'Imported models per account' ({IMPORTED_MODELS_QUOTA})"
    quota = _quota("bedrock", IMPORTED_MODELS_QUOTA)
    if quota is None:
        return [f"{name} could not be read; Bedrock refuses the import if it is too small"]
    if there + 1 > quota:
        raise NotAllowed(
            f"bedrock.mode: {name} is {quota:g} in this account and region, and there are {there} imported models; delete one "
            "in the Bedrock console, request an increase in the Service Quotas console (Amazon Bedrock), or set bedrock.mode "
            "to off"
        )
    return []


def _denied(region: str, message: str) -> aws.AwsRefused:
    # Not a refusal yet: a new role needs time to reach all of AWS, and the state machine tries again for seconds.
    return aws.AwsRefused(
        f"bedrock.mode: this account may not use Bedrock in {region} ({message}); allow it, or set bedrock.mode to off"
    )


def _quota(service: str, code: str) -> float | None:
    """Return the value of a quota, as far as Service Quotas returns it now: the applied value, else AWS's default.

    ListServiceQuotas leaves out quotas that were never changed.
    """
    client = aws.client("service-quotas")
    try:
        for operation, filters in (
            ("list_service_quotas", {"QuotaCode": code}),
            ("list_aws_default_service_quotas", {}),
        ):
            for quota in aws.all_of(client, operation, "Quotas", ServiceCode=service, **filters):
                if quota["QuotaCode"] == code:
                    return float(quota["Value"])
    except (ClientError, BotoCoreError) as error:
        # The quota only gives an early warning, because Bedrock checks it again. So no run waits for Service Quotas.
        if not aws.is_busy(error):
            raise
        logger.warning("quota %s is not known: %s", code, error)
    return None
