"""The Plan step: checks and resolves everything that can be known before the run costs money.

It overrides the deployed settings by the execution's input, and checks them and the account. It examines the base model's
files. It lists the dataset's files, and cuts them into shards if they are many or large. It copies the training code to the
run's own prefix, and builds the requests of both jobs and of the endpoint. Later states only read its result.

An execution whose input has `serve` trains nothing. For it, Plan finds the model of an earlier run, and checks only whether
the endpoint can serve it (`pipeline.earlier_run`).

If the user has to mend something, Plan returns a refusal of one line, which ends the execution. It raises AWS's own errors,
and the state machine retries it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import account, aws, bedrock, cost, earlier_run, names, openai_route, record, requests
from pipeline.account import NotAllowed
from pipeline.contracts.planned import HowToCall, Plan, PlanEvent, PlannedBaseModel, PlannedDataset, Refusal
from pipeline.contracts.values import as_json
from pipeline.endpoints import describe_endpoint
from pipeline.errors import Refused
from pipeline.settings import Settings, SettingsError, with_run_input
from pipeline.source import base_model, hub, listing, shards
from pipeline.source.preparation import preparation

if TYPE_CHECKING:
    from pipeline.contracts.data import Shard, ShardList
    from pipeline.contracts.planned import StackFacts

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

QUOTAS_PER_PAGE = 100
"""The largest page that ListServiceQuotas returns (service model)."""

CODE = Path(__file__).resolve().parents[2] / "training"
"""The training code, which this function's package contains."""


@aws.handler(PlanEvent)
def handler(event: PlanEvent) -> Plan | Refusal:
    """Plan one run.

    Raises:
        SourceUnavailable: the Hub does not answer.
    """
    try:
        wanted = earlier_run.wanted(event.input)
        if wanted:
            plan = _plan_serving(event, earlier_run.find(wanted, event.settings, event.stack.bucket))
        else:
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
        "data": plan.prepare and plan.prepare.path,
        "serve": plan.serve,
    }
    logger.info("planned: %s", json.dumps(as_json(shown)))
    return plan


def _plan(event: PlanEvent, requested: Settings) -> Plan:
    stack, run = event.stack, names.run_id(event.execution)
    settings, warnings = _within_quotas(requested, stack.prefix)
    bedrock_model = bedrock.check(settings, stack.region)
    importing = settings.bedrock.mode == "import"
    if bedrock_model:
        account.check_base_model(bedrock_model, stack.region)
        warnings += bedrock.call_warnings(bedrock_model)
    if importing:
        warnings += [*account.check_imports(stack.region), cost.wake_warning(stack.region)]
    train_secret, data_secret = (_check_token(settings, section, stack.region) for section in ("training", "dataset"))
    base = base_model.look(settings, stack.bucket, _token(train_secret), aws.client("s3"))
    if importing:
        warnings += bedrock.check_import(settings.training.base_model, stack.region, base.files.config)
    settings, gpu_memory, left_out = base_model.within_memory(settings, base.files)
    source = listing.look(settings, stack.bucket, _token(data_secret), aws.client("s3"))
    sharded = shards.shard(source.files, settings.dataset.shard_mb)
    prepare = preparation(settings, run, bedrock_model, stack, source, data_secret, sharded)
    if sharded and prepare.shards:
        _write_shards(prepare.shards, sharded)
    baseline = _find_baseline(stack.bucket, requests.baseline_key(settings), settings.storage.expire_days)
    _copy_code(stack.bucket, names.prefix("code", run))
    estimate = cost.estimate(settings, bedrock_model.id if bedrock_model else None, stack.region, base.files.parameters)
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
        customize=customization,
        import_model=requests.import_model(settings, run, stack) if importing else None,
        keep_models=settings.bedrock.keep_models,
        deploy=requests.deploy(settings, run, stack) if settings.endpoint.enabled else None,
        call=_call(settings, stack) if settings.endpoint.enabled else None,
        record=record.begin(
            requested,  # with the instance types that Plan has left out
            event.settings,
            stack,
            run,
            event.execution,
            planned_model,
            planned_dataset.licence,
            customization.request["baseModelIdentifier"] if customization else None,
            estimate,
        ),
    )


def _call(settings: Settings, stack: StackFacts) -> HowToCall:
    longest = settings.training.evaluation.max_new_tokens
    return openai_route.how_to_call(
        stack.prefix, stack.caller_role, stack.region, settings.dataset.instruction, longest
    )


def _plan_serving(event: PlanEvent, earlier: earlier_run.EarlierRun) -> Plan:
    """Plan a run that serves the model of an earlier run."""
    stack, run, serve = event.stack, names.run_id(event.execution), earlier.serve
    settings, warnings = _within_quotas(earlier.settings, stack.prefix, trains=False)
    key = serve.model.removeprefix(f"s3://{stack.bucket}/")
    length = settings.endpoint.max_model_len
    files = base_model.look_at_tuned(key, f"the model of run {serve.run}", length, stack.bucket, aws.client("s3"))
    settings, gpu_memory, left_out = base_model.within_memory(settings, files, trains=False)
    estimate = cost.estimate(settings, None, stack.region, trains=False)
    name, _, revision = earlier.base_model.partition("@")
    planned_model = PlannedBaseModel(
        name=name,
        revision=revision,
        licence=earlier.licences["base_model"],
        gated=None,
        parameters=files.parameters,
        gpu_memory_gb=gpu_memory,
    )
    licence = earlier.licences["dataset"]
    return Plan(
        run=run,
        name=f"{stack.prefix}-{run}",
        warnings=warnings + files.warnings + left_out + cost.warnings(estimate),
        base_model=planned_model,
        dataset=None,
        estimate=estimate,
        prepare=None,
        train=None,
        assess=None,
        customize=None,
        import_model=None,
        keep_models=settings.bedrock.keep_models,
        deploy=requests.deploy(settings, run, stack),
        call=_call(settings, stack),
        record=record.begin(
            earlier.settings,
            event.settings,
            stack,
            run,
            event.execution,
            planned_model,
            licence,
            None,
            estimate,
            serve.run,
        ),
        serve=serve,
    )


def _within_quotas(settings: Settings, endpoint: str, *, trains: bool = True) -> tuple[Settings, list[str]]:
    """Drop the instance types that the account's quotas do not allow.

    AWS does not document how SageMaker treats a list in which one quota is too small. One vendor's guide says that it refuses
    the whole list (Deepgram, "Deploy Deepgram on Amazon SageMaker"). So no request names such a type. An unknown quota is only
    a warning. An update of an endpoint needs its old and its new instances for a while, because SageMaker starts the new fleet
    before it stops the old one (API reference, UpdateEndpoint).

    Args:
        settings: the run's settings.
        endpoint: the endpoint's name.
        trains: whether the run trains. If not, it serves the model of an earlier run.

    Returns:
        The settings with the other types, and a warning for each dropped type.

    Raises:
        NotAllowed: the quotas allow no type of a list.
    """
    kind = "spot training job" if settings.training.spot else "training job"
    checks = [("training", f"for {kind} usage", dict[str, int]())] if trains else []
    if settings.endpoint.enabled:
        running_instances = _running_instances(endpoint, settings.endpoint.instance_types)
        checks.append(("endpoint", "for endpoint usage", running_instances))
    quotas = _quotas(
        [f"{name} {usage}" for part, usage, _ in checks for name in getattr(settings, part).instance_types]
    )
    warnings = []
    for part, usage, running in checks:
        section = getattr(settings, part)
        lacking = {}
        for name in section.instance_types:
            quota, in_use = f"{name} {usage}", running.get(name, 0)
            needed = section.instance_count + in_use
            if quota not in quotas:
                warnings.append(
                    f"quota '{quota}' could not be read; SageMaker refuses the job or endpoint if it is too small"
                )
            elif quotas[quota] < needed:
                why = (
                    f", because endpoint {endpoint} keeps its {in_use} while an update starts others" if in_use else ""
                )
                limit = f"quota '{quota}' is {quotas[quota]:g} in this account and region"
                lacking[name] = f"{limit}, and this run needs {needed}{why}"
        usable = [name for name in section.instance_types if name not in lacking]
        if not usable:
            raise NotAllowed(
                f"{'; '.join(lacking.values())}: request an increase in the Service Quotas console (Amazon SageMaker), or "
                f"choose another type in {part}.instance_types"
            )
        warnings += [f"{line}: {name} is left out of {part}.instance_types" for name, line in lacking.items()]
        settings = settings.model_copy(update={part: section.model_copy(update={"instance_types": usable})})
    return settings, warnings


def _running_instances(endpoint: str, types: list[str]) -> dict[str, int]:
    """Return by type how many instances the endpoint keeps until an update of it is complete.

    Args:
        endpoint: the endpoint's name.
        types: the types that the run wants. If the endpoint's own types cannot be known, each of these may be one of them.
    """
    client = aws.client("sagemaker")
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


def _quotas(names_wanted: list[str]) -> dict[str, float]:
    """Return the values of quotas by their names, as far as Service Quotas returns them now.

    Quota codes differ by instance type, and no page lists them. So quotas are found by name: first the applied ones
    (ListServiceQuotas leaves out quotas that were never changed), then AWS's defaults.
    """
    client = aws.client("service-quotas")
    found: dict[str, float] = {}
    try:
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            # SageMaker's list is long, and Service Quotas throttles early.
            pages = client.get_paginator(operation).paginate(
                ServiceCode="sagemaker", PaginationConfig={"PageSize": QUOTAS_PER_PAGE}
            )
            for page in pages:
                for quota in page["Quotas"]:
                    if quota["QuotaName"] in names_wanted:
                        found.setdefault(quota["QuotaName"], quota["Value"])
            if len(found) == len(names_wanted):
                break
    except (ClientError, BotoCoreError) as error:
        # The quotas only give an early warning, because SageMaker checks them again. So no run waits for Service Quotas.
        if not aws.is_busy(error):
            raise
        logger.warning("quotas are not known: %s", error)
    return found


def _check_token(settings: Settings, section: str, region: str) -> str | None:
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
        arn: str = aws.client("secretsmanager").describe_secret(SecretId=secret)["ARN"]
    except ClientError as error:
        if aws.code(error) != "ResourceNotFoundException":
            raise
        raise NotAllowed(
            f"{field}: {name} is gated and the secret {secret} does not exist; accept the licence on the Hub, then make the "
            f"secret with `aws secretsmanager create-secret --region {region} --name {secret} --secret-string YOUR_HUB_TOKEN`"
        ) from error
    return arn


def _token(secret: str | None) -> str | None:
    return hub.hub_token(aws.client("secretsmanager"), secret) if secret else None


def _write_shards(listed: ShardList, sharded: list[Shard]) -> None:
    """Write the list of shards to S3, where the state machine's Map reads it. A state's input is too small for it."""
    aws.client("s3").put_object(Bucket=listed.bucket, Key=listed.key, Body=json.dumps(as_json(sharded)).encode())


def _find_baseline(bucket: str, key: str, expire_days: int | None) -> str | None:
    """Return the S3 prefix of an earlier run's baseline, if it does not expire before the last redrive of this run."""
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
