"""The Plan step: everything that can be known before money is spent.

It lays the execution's input over the deployed settings, checks them and the account, looks at the base model's files, lists
the dataset's files and cuts them into shards if they are many or large, copies the training code to the run's own prefix, and
resolves the requests of both jobs and of the endpoint. Later states only read its result. What the user can mend is returned as
a refusal, one line, and ends the execution; AWS's own errors are raised, for the state machine to retry.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, bedrock, cost, names, record, requests
from pipeline.contracts.planned import CustomizePlan, Plan, PlanEvent, PlannedBaseModel, PlannedDataset, Refusal
from pipeline.contracts.values import as_json
from pipeline.endpoints import describe_endpoint
from pipeline.errors import Refused
from pipeline.settings import Settings, SettingsError, with_run_input
from pipeline.source import base_model, hub, listing, shards
from pipeline.source.preparation import preparation

if TYPE_CHECKING:
    from pipeline.catalogue import BaseModel
    from pipeline.contracts.data import Shard, ShardList

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

QUOTAS_A_PAGE = 100
"""The most that ListServiceQuotas gives (service model)."""

CODE = Path(__file__).resolve().parents[2] / "training"
"""The training code, shipped in this function's own package."""


class NotAllowed(SettingsError):
    """What the account does not allow, in one line: what is missing, where, and what to do."""


@aws.handler(PlanEvent)
def handler(event: PlanEvent) -> Plan | Refusal:
    """Plan one run.

    Raises:
        SourceUnavailable: the Hub does not answer.
    """
    try:
        plan = _plan(event, with_run_input(event.settings, event.input))
    except (SettingsError, Refused) as refusal:
        logger.warning("refused: %s", refusal)
        return Refusal(str(refusal))
    shown = {
        "run": plan.run,
        "base_model": plan.base_model,
        "dataset": plan.dataset,
        "estimate": plan.estimate,
        "warnings": plan.warnings,
        "data": plan.prepare.path,
    }
    logger.info("planned: %s", json.dumps(as_json(shown)))
    return plan


def _plan(event: PlanEvent, settings: Settings) -> Plan:
    stack, run = event.stack, names.run_id(event.execution)
    settings, warnings = _within_quotas(settings, stack.prefix)
    bedrock_model = _check_bedrock(settings, stack.region) if settings.bedrock.enabled else None
    train_secret, data_secret = (_check_token(settings, section, stack.region) for section in ("training", "dataset"))
    base = base_model.look(settings, stack.bucket, _token(train_secret), aws.client("s3"))
    settings, gpu_memory, left_out = base_model.within_memory(settings, base.files)
    source = listing.look(settings, stack.bucket, _token(data_secret), aws.client("s3"))
    cut = shards.shard(source.files, settings.dataset.shard_mb)
    prepare = preparation(settings, run, bedrock_model, stack, source, data_secret, cut)
    if cut and prepare.shards:
        _write_shards(prepare.shards, cut)
    baseline = _find_baseline(stack.bucket, requests.baseline_key(settings), settings.storage.expire_days)
    _copy_code(stack.bucket, names.prefix("code", run))
    estimate = cost.estimate(settings, bedrock_model.id if bedrock_model else None, stack.region)
    customization = requests.customize(settings, run, bedrock_model, stack) if bedrock_model else None
    planned_model = PlannedBaseModel(
        name=settings.training.base_model,
        revision=base.revision,
        licence=base.licence,
        gated=base.gated,
        parameters=base.files.parameters,
        gpu_memory_gb=gpu_memory,
    )
    planned_dataset = PlannedDataset(settings.dataset.source, source.revision, source.licence, source.gated)
    return Plan(
        run=run,
        name=f"{stack.prefix}-{run}",
        warnings=warnings + base.files.warnings + left_out + source.warnings + cost.warnings(estimate),
        base_model=planned_model,
        dataset=planned_dataset,
        estimate=estimate,
        prepare=prepare,
        train=requests.train(settings, run, train_secret, stack, baseline, base.revision),
        assess=requests.assess(settings, stack),
        customize=CustomizePlan(customization, settings.bedrock.timeout_hours) if customization else None,
        deploy=requests.deploy(settings, run, stack) if settings.endpoint.enabled else None,
        record=record.begin(
            settings,
            event.settings,
            stack,
            run,
            event.execution,
            planned_model,
            planned_dataset,
            customization["baseModelIdentifier"] if customization else None,
            estimate,
        ),
    )


def _within_quotas(settings: Settings, endpoint: str) -> tuple[Settings, list[str]]:
    """Return the settings with the instance types that the account may start, and a warning for each that it may not.

    What SageMaker does with a list in which one quota is too small is documented nowhere, and one vendor's guide says that it
    refuses the whole list (Deepgram, "Deploy Deepgram on Amazon SageMaker"): no request names such a type. An unknown quota is
    only a warning. An update of an endpoint needs its old and its new instances for a while: SageMaker starts the new fleet
    before it stops the old one (API reference, UpdateEndpoint).

    Raises:
        NotAllowed: no type of a list may be started.
    """
    kind = "spot training job" if settings.training.spot else "training job"
    checks = [("training", f"for {kind} usage", dict[str, int]())]
    if settings.endpoint.enabled:
        checks.append(("endpoint", "for endpoint usage", _kept(endpoint, settings.endpoint.instance_types)))
    quotas = _quotas(
        [f"{name} {usage}" for part, usage, _ in checks for name in getattr(settings, part).instance_types]
    )
    warnings = []
    for part, usage, kept in checks:
        section = getattr(settings, part)
        lacking = {}
        for name in section.instance_types:
            quota, held = f"{name} {usage}", kept.get(name, 0)
            needed = section.instance_count + held
            if quota not in quotas:
                warnings.append(f"quota '{quota}' could not be read; SageMaker will say if it is 0")
            elif quotas[quota] < needed:
                why = f", as endpoint {endpoint} keeps its {held} while an update starts others" if held else ""
                limit = f"quota '{quota}' is {quotas[quota]:g} in this account and region"
                lacking[name] = f"{limit}, and this run needs {needed}{why}"
        usable = [name for name in section.instance_types if name not in lacking]
        if not usable:
            raise NotAllowed(
                f"{'; '.join(lacking.values())}: request an increase in the Service Quotas console (Amazon SageMaker), or "
                f"choose another type in {part}.instance_types"
            )
        warnings += [f"{line}: {part}.instance_types is used without it" for line in lacking.values()]
        settings = settings.model_copy(update={part: section.model_copy(update={"instance_types": usable})})
    return settings, warnings


def _kept(endpoint: str, types: list[str]) -> dict[str, int]:
    """How many instances of which type the endpoint keeps until an update of it is through.

    Args:
        endpoint: its name.
        types: those that are asked for: each may be what the endpoint has, where that cannot be known.
    """
    client = aws.client("sagemaker")
    found = describe_endpoint(client, endpoint)
    if found["EndpointStatus"] in ("Absent", "Failed", "Deleting"):
        return {}
    config = str(found.get("EndpointConfigName"))
    served = found.get("ProductionVariants", [])
    if not config.startswith(f"{endpoint}-"):
        # Somebody has put it on another config, which the role may not describe.
        return dict.fromkeys(types, sum(variant.get("CurrentInstanceCount", 0) for variant in served))
    try:
        variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        if not aws.is_absent(error):
            raise
        return {}  # SageMaker cannot update it: Deploy deletes it first.
    kept = Counter[str]()
    for variant in variants:
        now: dict[str, Any] = next((one for one in served if one["VariantName"] == variant["VariantName"]), {})
        # Somebody may have changed the count since, or made a config without instances.
        count = now.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
        if "InstanceType" in variant:
            kept[variant["InstanceType"]] += count
        # A list: which of its types it has is told as soon as it serves.
        for pool in now.get("InstancePools") or variant.get("InstancePools", []):
            kept[pool["InstanceType"]] += pool.get("CurrentInstanceCount", count)
    return dict(kept)


def _quotas(names_wanted: list[str]) -> dict[str, float]:
    """Values by quota name, as far as the account knows them and Service Quotas tells them now.

    Quota codes differ by instance type and are documented nowhere as a list, so quotas are found by name: the applied
    ones first (ListServiceQuotas leaves out those that were never changed), then AWS's defaults.
    """
    client = aws.client("service-quotas")
    found: dict[str, float] = {}
    try:
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            # SageMaker's list is long, and Service Quotas is quick to throttle.
            pages = client.get_paginator(operation).paginate(
                ServiceCode="sagemaker", PaginationConfig={"PageSize": QUOTAS_A_PAGE}
            )
            for page in pages:
                for quota in page["Quotas"]:
                    if quota["QuotaName"] in names_wanted:
                        found.setdefault(quota["QuotaName"], quota["Value"])
            if len(found) == len(names_wanted):
                break
    except (ClientError, BotoCoreError) as error:
        # No run waits for a service that only gives early warning: SageMaker itself looks at the quota again.
        if not aws.is_busy(error):
            raise
        logger.warning("quotas are not known: %s", error)
    return found


def _check_bedrock(settings: Settings, region: str) -> BaseModel:
    base_model = bedrock.choose(settings, region)
    client = aws.client("bedrock")
    try:
        details = client.get_foundation_model(modelIdentifier=base_model.id)["modelDetails"]
    except ClientError as error:
        code, told = aws.code(error), error.response["Error"]["Message"]
        if code == "AccessDeniedException":
            # No refusal yet: a new role may not be known everywhere, and the state machine asks again for seconds.
            raise aws.AwsRefused(
                f"bedrock.enabled: this account may not use Bedrock in {region} ({told}); let it, or set bedrock.enabled to "
                "false"
            ) from error
        if code not in ("ResourceNotFoundException", "ValidationException", "UnknownOperationException"):
            raise
        raise NotAllowed(
            f"bedrock.base_model: Bedrock does not know {base_model.id} in {region} ({told}); choose another one or set "
            "bedrock.enabled to false"
        ) from error
    status = details.get("modelLifecycle", {}).get("status")
    if status == "LEGACY":
        raise NotAllowed(
            f"bedrock.base_model: {base_model.id} is Legacy in {region}, and Bedrock refuses new customization jobs on a "
            "Legacy model; choose another one of the catalogue or set bedrock.enabled to false"
        )
    if "FINE_TUNING" not in details.get("customizationsSupported", []):
        raise NotAllowed(
            f"bedrock.base_model: {base_model.id} cannot be fine-tuned in {region}; choose another one of the catalogue or "
            "set bedrock.enabled to false"
        )
    return base_model


def _check_token(settings: Settings, section: str, region: str) -> str | None:
    """The ARN of the secret with the Hub token, if what the section reads is gated. Only its existence is looked at."""
    field, what, gated = {
        "training": ("training.base_model", settings.training.base_model, settings.training.gated),
        "dataset": ("dataset.source", settings.dataset.source, settings.dataset.gated),
    }[section]
    if not gated:
        return None
    name = settings.access.hub_token_secret
    try:
        arn: str = aws.client("secretsmanager").describe_secret(SecretId=name)["ARN"]
    except ClientError as error:
        if aws.code(error) != "ResourceNotFoundException":
            raise
        raise NotAllowed(
            f"{field}: {what} is gated and the secret {name} does not exist; make it with "
            f"`aws secretsmanager create-secret --region {region} --name {name} --secret-string YOUR_HUB_TOKEN`, "
            "after accepting its licence on the Hub"
        ) from error
    return arn


def _token(secret: str | None) -> str | None:
    return hub.hub_token(aws.client("secretsmanager"), secret) if secret else None


def _write_shards(listed: ShardList, cut: list[Shard]) -> None:
    """List the shards where the state machine's Map reads them: in S3, for a state's input has no room for many."""
    aws.client("s3").put_object(Bucket=listed.bucket, Key=listed.key, Body=json.dumps(as_json(cut)).encode())


def _find_baseline(bucket: str, key: str, expire_days: int | None) -> str | None:
    """The S3 prefix of a baseline that an earlier run left, if the run's job can still read it at its last redrive."""
    prefix = names.prefix("baselines", key)
    found = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents", [])
    # A redrive is possible for 14 days, and a channel without objects fails the job.
    oldest = datetime.now(UTC) - timedelta(days=expire_days - 15) if expire_days else None
    if not found or (oldest and found[0]["LastModified"] < oldest):
        return None
    return names.place(bucket, "baselines", key)


def _copy_code(bucket: str, prefix: str) -> None:
    s3 = aws.client("s3")
    for path in sorted(CODE.iterdir()):
        if path.suffix in (".py", ".txt"):
            s3.put_object(Bucket=bucket, Key=f"{prefix}training/{path.name}", Body=path.read_bytes())
