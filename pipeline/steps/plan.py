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
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pipeline import (
    account,
    aws,
    bedrock,
    earlier_run,
    judging,
    money,
    names,
    record,
    requests,
    training_code,
)
from pipeline.contracts.money import EndpointInstances
from pipeline.contracts.planned import Plan, PlanEvent, PlannedBaseModel, PlannedDataset, Refusal
from pipeline.contracts.values import as_json
from pipeline.errors import Refused
from pipeline.settings import Settings, SettingsError, with_run_input
from pipeline.source import base_model, figures, hub, listing, shards
from pipeline.source.preparation import preparation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contracts.data import Shard, ShardList
    from pipeline.contracts.planned import RegisterPlan, RunRecord, StackFacts
    from pipeline.money import EarlierPace
    from pipeline.source.splits import File

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


@aws.handler(PlanEvent)
def handler(event: PlanEvent) -> Plan | Refusal:
    """Plan one run.

    Raises:
        SourceUnavailable: the Hub does not answer.
    """
    try:
        looked = look(event)
    except (SettingsError, Refused) as refusal:
        logger.warning("refused: %s", refusal)
        return Refusal(str(refusal))
    plan = looked.plan
    if plan.prepare:
        if looked.shards and plan.prepare.shards:
            _write_shards(plan.prepare.shards, looked.shards)
        _copy_code(event.stack.bucket, names.prefix("code", plan.run))
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


class Looked(NamedTuple):
    """A run as it is planned. Nothing has been written yet.

    Attributes:
        plan: the plan.
        settings: the run's settings, without the instance types that are left out.
        shards: the shards of the dataset, if one function is not enough.
        pace: the pace of an earlier run on the same base model, if there is one.
    """

    plan: Plan
    settings: Settings
    shards: list[Shard] | None = None
    pace: EarlierPace | None = None


def look(event: PlanEvent, uploads: Sequence[File] | None = None) -> Looked:
    """Plan one run, and only read. `tuneway plan` calls this with the user's credentials, before anything is started.

    Args:
        event: the event of Plan.
        uploads: the files of a dataset in uploads/ that the user has not uploaded yet, by their keys. None: they are there.

    Raises:
        SettingsError, Refused: the user has to mend something.
        SourceUnavailable: the Hub does not answer.
    """
    wanted = earlier_run.wanted(event.input)
    if wanted:
        return _look_serving(event, earlier_run.find(wanted, event.settings, event.stack.bucket))
    return _look(event, with_run_input(event.settings, event.input), uploads)


def _look(event: PlanEvent, requested: Settings, uploads: Sequence[File] | None) -> Looked:
    stack, run = event.stack, names.run_id(event.execution)
    settings, warnings = account.within_quotas(requested, stack.prefix, stack.region)
    bedrock_model = bedrock.check(settings, stack.region)
    importing = settings.bedrock.mode == "import"
    if bedrock_model:
        account.check_base_model(bedrock_model, stack.region)
        warnings += bedrock.call_warnings(bedrock_model)
    if importing:
        warnings += [*account.check_imports(stack.region), money.wake_warning(stack.region)]
    bedrock.check_judge(settings, stack.region)
    warnings += account.check_judge(settings, stack.region)
    train_secret, data_secret = (
        account.check_token(settings, section, stack.region) for section in ("training", "dataset")
    )
    base = base_model.look(settings, stack.bucket, _token(train_secret), aws.client("s3"))
    if importing:
        warnings += bedrock.check_import(settings.training.base_model, stack.region, base.files.config)
    settings, gpu_memory, left_out = base_model.within_memory(settings, base.files)
    source = listing.look(settings, stack.bucket, _token(data_secret), aws.client("s3"), uploads)
    sharded = shards.shard(source.files, settings.dataset.shard_mb)
    prepare = preparation(settings, run, bedrock_model, stack, source, data_secret, sharded)
    baseline = _find_baseline(stack.bucket, requests.baseline_key(settings), settings.storage.expire_days)
    model = bedrock_model.id if bedrock_model else None
    prices, why_not = money.look_up(stack.region, _types(settings))
    parameters = base.files.parameters
    tokens, pace = figures.look(settings, source, stack.bucket, aws.client("s3"))
    expected = money.expected(settings, prices, stack.region, tokens, pace, bedrock_model=model, parameters=parameters)
    estimate = money.estimate(settings, prices, expected, model, stack.region, parameters)
    money.check_plan(estimate, settings, why_not)
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
    begun = record.begin(
        requested,  # with the instance types that Plan has left out
        event.settings,
        stack,
        run,
        event.execution,
        planned_model,
        planned_dataset.licence,
        customization.request["baseModelIdentifier"] if customization else None,
        estimate,
        prices,
        _fleet(settings),
        dataset_key=figures.dataset_key(settings, source),
    )
    plan = Plan(
        run=run,
        name=f"{stack.prefix}-{run}",
        warnings=warnings + base.files.warnings + left_out + source.warnings + money.warnings(estimate, why_not),
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
        record=begun,
        register=_register(settings, stack, planned_dataset, begun) if settings.model_registry else None,
        judge=judging.plan(settings),
    )
    return Looked(plan, settings, sharded, pace)


def _register(settings: Settings, stack: StackFacts, dataset: PlannedDataset, begun: RunRecord) -> RegisterPlan:
    source = f"{dataset.name}@{dataset.revision}" if dataset.revision else dataset.name
    return requests.register(settings, stack, source, begun.licences, begun.base_model, training_code.digest())


def _types(settings: Settings, *, trains: bool = True) -> list[str]:
    """Return the instance types whose prices the run needs."""
    endpoint = settings.endpoint.instance_types if settings.endpoint.enabled else []
    return [*(settings.training.instance_types if trains else []), *endpoint]


def _fleet(settings: Settings) -> EndpointInstances | None:
    endpoint = settings.endpoint
    return EndpointInstances(endpoint.instance_types, endpoint.instance_count) if endpoint.enabled else None


def _look_serving(event: PlanEvent, earlier: earlier_run.EarlierRun) -> Looked:
    """Plan a run that serves the model of an earlier run."""
    stack, run, serve = event.stack, names.run_id(event.execution), earlier.serve
    settings, warnings = account.within_quotas(earlier.settings, stack.prefix, stack.region, trains=False)
    key = serve.model.removeprefix(f"s3://{stack.bucket}/")
    length = settings.endpoint.max_model_len
    files = base_model.look_at_tuned(key, f"the model of run {serve.run}", length, stack.bucket, aws.client("s3"))
    settings, gpu_memory, left_out = base_model.within_memory(settings, files, trains=False)
    prices, why_not = money.look_up(stack.region, _types(settings, trains=False))
    expected = money.expected(settings, prices, stack.region, None, None, trains=False)
    estimate = money.estimate(settings, prices, expected, None, stack.region, trains=False)
    money.check_plan(estimate, settings, why_not)
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
    plan = Plan(
        run=run,
        name=f"{stack.prefix}-{run}",
        warnings=warnings + files.warnings + left_out + money.warnings(estimate, why_not),
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
            prices,
            _fleet(settings),
            serve.run,
        )._replace(instruction=earlier.instruction, formats=earlier.formats),
        serve=serve,
    )
    return Looked(plan, settings)


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
    for name, content in training_code.files().items():
        s3.put_object(Bucket=bucket, Key=f"{prefix}training/{name}", Body=content)
