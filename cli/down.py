"""`tuneway down`: stops and deletes what bills now. The stack, its data and its models stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from botocore.exceptions import BotoCoreError, ClientError

from cli import ending, known_runs, serving_now
from cli.context import ConnectedStack, SettingsFile, Yes, confirm, connect
from pipeline import aws, catalogue, money
from pipeline.custom_models import CustomModels
from pipeline.steps.teardown import TeardownPass
from pipeline.times import moment

if TYPE_CHECKING:
    from cli.known_runs import KnownRun
    from cli.serving_now import EndpointNow

GIGABYTE = 1e9


class BedrockModels(NamedTuple):
    """The stack's models in Bedrock.

    Attributes:
        names: their kinds and names.
        usd_per_month: the cost of their storage; None if a price or the number of units is not known.
        throughputs: a line for each Provisioned Throughput of one of them, with the command that deletes it.
        unknown: why Bedrock could not be asked, or None.
    """

    names: list[str]
    usd_per_month: float | None
    throughputs: list[str]
    unknown: str | None


class Bills(NamedTuple):
    """What costs money now."""

    runs: list[KnownRun]
    jobs: list[str]
    endpoint: EndpointNow | None
    models: BedrockModels
    objects: int
    gigabytes: float


def down(
    models: Annotated[
        bool, typer.Option("--models", help="Delete the models in Bedrock, too, and the deployment of one.")
    ] = False,
    yes: Yes = False,
    settings: SettingsFile = None,
) -> None:
    """Stop and delete what bills by the hour: running executions, their jobs, and the endpoint. The stack stays.

    With --models, the stack's models in Bedrock go, too. The models in the bucket stay, and can be served again.
    """
    connected = connect(settings)
    bills = look(connected)
    goes = _goes(bills, models=models)
    if goes:
        typer.echo("This is stopped or deleted:")
        for line in goes:
            typer.echo(f"  {line}")
        confirm("Go on?", yes=yes)
        with ending.kept_going(
            "what is already being stopped or deleted ends by itself; run the same command again for the rest"
        ):
            left = _end(connected, bills, models=models)
        for thing in left:
            typer.echo(f"{thing}: still there; run the same command again later", err=True)
        bills = look(connected)
    else:
        left = []
    for line in still_bills(bills):
        typer.echo(line)
    if left:
        raise typer.Exit(1)


def look(connected: ConnectedStack) -> Bills:
    """Return what costs money now."""
    running = [run for run in known_runs.listed(connected) if run.status == "RUNNING"]
    client, prefix = connected.client("sagemaker"), connected.stack.endpoint
    jobs = [
        f"training job {job['TrainingJobName']}"
        for job in aws.all_of(
            client, "list_training_jobs", "TrainingJobSummaries", NameContains=prefix, StatusEquals="InProgress"
        )
    ]
    sizes = [
        entry["Size"]
        # Also the old versions, which stay for 30 days (infra.storage).
        for entry in aws.all_of(
            connected.client("s3"), "list_object_versions", "Versions", Bucket=connected.stack.bucket
        )
    ]
    models, bedrock_jobs = _bedrock(connected)
    return Bills(
        running, jobs + bedrock_jobs, serving_now.look(connected.stack), models, len(sizes), sum(sizes) / GIGABYTE
    )


def _bedrock(connected: ConnectedStack) -> tuple[BedrockModels, list[str]]:
    """Return the stack's models in Bedrock, and its customization jobs that run."""
    if connected.stack.region not in catalogue.REGIONS:
        return BedrockModels([], 0, [], None), []
    bedrock = CustomModels(connected.stack.endpoint)
    try:
        custom = [
            one for one in bedrock.listed("list_custom_models", "modelSummaries") if bedrock.is_ours(one["modelArn"])
        ]
        imported = [
            one for one in bedrock.listed("list_imported_models", "modelSummaries") if bedrock.is_ours(one["modelArn"])
        ]
        throughputs = [
            f"Provisioned Throughput of custom model {model['modelName']}: {user.words.partition(' ')[2]}; `{user.command}`"
            for model in custom
            for user in bedrock.users(model["modelArn"])
            if user.words.startswith("Provisioned")
        ]
        units = [_units(bedrock.client, one["modelArn"]) for one in imported]
        jobs = [
            f"customization job {job['jobName']}"
            for job in bedrock.listed(
                "list_model_customization_jobs", "modelCustomizationJobSummaries", statusEquals="InProgress"
            )
            if bedrock.is_ours(job["jobArn"])
        ]
    except (ClientError, BotoCoreError) as error:
        if not aws.is_out_of_reach(error):
            raise
        return BedrockModels([], None, [], " ".join(str(error).split())), []
    found = [f"custom model {one['modelName']}" for one in custom]
    found += [f"imported model {one['modelName']}" for one in imported]
    count = len(custom) + sum(unit or 0 for unit in units)
    month = None if None in units else count * money.BEDROCK_MODEL_STORAGE_PER_MONTH
    return BedrockModels(found, month, throughputs, None), jobs


def _units(client: Any, model: str) -> int | None:
    """Return the custom model units of a copy of an imported model, by which Bedrock bills its storage."""
    found = client.get_imported_model(modelIdentifier=model).get("customModelUnits", {})
    units: int | None = found.get("customModelUnitsPerModelCopy")
    return units


def _goes(bills: Bills, *, models: bool) -> list[str]:
    """Return the lines about what is stopped or deleted."""
    lines = [f"execution {run.name} (run {run.run}), which was started at {moment(run.began)}" for run in bills.runs]
    lines += bills.jobs
    if bills.endpoint:
        lines.append(f"endpoint {bills.endpoint.name}: {bills.endpoint.line()}")
    if models and bills.models.names:
        lines.append("the deployment of a custom model in Bedrock, if there is one")
        lines += bills.models.names
    return lines


def _end(connected: ConnectedStack, bills: Bills, *, models: bool) -> list[str]:
    """Stop and delete. Return what is still there when the command has waited long enough."""
    stack = connected.stack
    left = []
    for run in bills.runs:
        ending.stop_execution(connected, run, "tuneway down")
    for run in bills.runs:
        left += ending.follow_cleanup(connected, run).left
    teardown = TeardownPass(
        {
            "Prefix": stack.endpoint,
            "Bucket": stack.bucket,
            "Rule": f"{stack.endpoint}-ended",
            "StateMachines": stack.state_machine,
            "KeepModels": "false",
            "BedrockEnabled": "false" if connected.settings.bedrock.mode == "off" else "true",
        }
    )
    bedrock = teardown.bedrock
    # Jobs that no running execution waits for: those of an execution that somebody has ended while its cleanup was broken.
    left += ending.until_gone("waiting until the jobs have stopped", "stopped", teardown.training_jobs)
    left += ending.until_gone("waiting until Bedrock's jobs have stopped", "stopped", bedrock.customization_jobs)
    still = ending.until_gone(
        "waiting until the endpoint is gone", "gone", lambda: [f"endpoint {name}" for name in teardown.endpoint()]
    )
    if not still:
        # Last, as when nobody uses the endpoint (pipeline.steps.idle): until it is gone, they are its safety net.
        teardown.endpoint_schedules()
    left += still
    if models:
        if bills.models.names:
            left += ending.until_gone("waiting until Bedrock's deployment is gone", "gone", bedrock.deployment)
        uses = CustomModels(stack.endpoint).foreign_uses() if bills.models.names else []
        for line in uses:
            typer.echo(f"{line}; it may still be needed, so the model stays", err=True)
        if uses:
            left += [*bedrock.custom_models(), *bedrock.imported_models()]
        else:
            left += ending.until_gone("waiting until Bedrock's models are gone", "gone", bedrock.custom_models)
            left += ending.until_gone("waiting until Bedrock's models are gone", "gone", bedrock.imported_models)
    return left


def still_bills(bills: Bills) -> list[str]:
    """Return the lines about what costs money and stays."""
    lines = [f"execution {run.name}" for run in bills.runs] + bills.jobs
    if bills.endpoint:
        lines.append(f"endpoint {bills.endpoint.name}: {bills.endpoint.line()}")
    lines += bills.models.throughputs
    models = bills.models
    if models.unknown:
        lines.append(f"models in Bedrock, if there are any: it cannot be asked ({models.unknown})")
    if models.names:
        month = (
            "a price that is not known here" if models.usd_per_month is None else f"{models.usd_per_month:.2f} dollars"
        )
        lines.append(f"{', '.join(models.names)} in Bedrock: {month} per month; `tuneway down --models` deletes them")
    if bills.objects:
        objects = f"{bills.objects} object{'s' * (bills.objects != 1)}"
        lines.append(
            f"{objects} in the bucket, {bills.gigabytes:.2f} GB (models, records and data): a price that is not known here; "
            "`cdk destroy` deletes them"
        )
    return ["Still bills:", *(f"  {line}" for line in lines)] if lines else ["Still bills: nothing"]
