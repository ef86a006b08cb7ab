"""Plans a run as the deployed stack would, with the user's credentials, and counts rows, tokens and steps. It only reads."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from cli import known_runs, local_rows, tokens
from pipeline import aws, money
from pipeline.contracts.planned import PlanEvent
from pipeline.contracts.values import ContractError, parse
from pipeline.errors import Refused
from pipeline.settings import SettingsError, validate
from pipeline.source import base_model, hub, shards
from pipeline.steps import plan
from serving.stack import ROOT
from training.recipe import parse_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from cli.context import ConnectedStack
    from cli.dataset import LocalDataset
    from cli.tokens import ShownRow, TokenCount
    from pipeline.contracts.money import Expected
    from pipeline.contracts.planned import Plan
    from pipeline.settings import Settings

_TOKENIZERS = ROOT / ".local" / "plan" / "tokenizers"
"""The tokenizers of base models on the Hub, by model and commit."""


class RowCounts(NamedTuple):
    """The rows of a dataset as data prep counts them.

    Attributes:
        read: the rows that were read.
        formats: the formats of the rows.
        splits: the rows by split, and those of Bedrock's files.
        rejected: the rejected rows by reason.
        listed: the file that lists the rejected rows. None if there are none.
        warnings: what data prep warns of.
    """

    read: int
    formats: list[str]
    splits: dict[str, int]
    rejected: dict[str, int]
    listed: str | None
    warnings: list[str] = []  # noqa: RUF012 - nothing changes it


class PlannedRun(NamedTuple):
    """A run before it is started.

    Attributes:
        plan: the plan that the execution would make now.
        settings: the run's settings, without the instance types that are left out.
        rows: the rows of its dataset. None if it has none, or if they were not read.
        tokens: its tokens and steps. None as for `rows`.
        shown: rows as the model sees them.
        unread: why the rows were not read. None if they were, or if the run has no dataset.
        expected: the expected cost and time.
    """

    plan: Plan
    settings: Settings
    rows: RowCounts | None
    tokens: TokenCount | None
    shown: list[ShownRow]
    unread: str | None
    expected: Expected


def plan_run(
    connected: ConnectedStack, given: dict[str, Any], dataset: LocalDataset | None, console: Console
) -> PlannedRun:
    """Plan the run of an execution with the input `given`.

    Args:
        connected: the deployed stack.
        given: the execution's input.
        dataset: the dataset that the input names, if it is not uploaded yet.
        console: shows what is being done.

    Raises:
        SettingsError, Refused: the execution would be refused. The line is that of the execution.
        SourceUnavailable: the Hub does not answer.
    """
    with console.status("Checking the input and the account"):
        event = _event(connected, given)
        try:
            looked = plan.look(event, None if dataset is None else dataset.listed)
        except aws.AwsRefused as error:
            raise Refused(str(error)) from error
    planned, settings = looked.plan, looked.settings
    if planned.prepare is None:
        return PlannedRun(planned, settings, None, None, [], None, planned.estimate.expected)
    pieces = planned.prepare.pieces or [piece for shard in looked.shards or [] for piece in shard.pieces]
    size = sum(piece.end - piece.start for piece in pieces)
    if dataset is None and size > local_rows.MOST_REMOTE_BYTES:
        unread = (
            f"the dataset has {shards.megabytes(size)}, and at most {shards.megabytes(local_rows.MOST_REMOTE_BYTES)} are "
            "read from S3 or from the Hub"
        )
        return PlannedRun(planned, settings, None, None, [], unread, planned.estimate.expected)
    with console.status(f"Reading the dataset ({shards.megabytes(size)})"):
        token = _token(planned.prepare.request.hub_token_secret)
        paths = dataset.files if dataset else {}
        read = local_rows.reader(planned.prepare, paths, settings.access.hub_endpoint, token, aws.client("s3"))
        with local_rows.prepared_rows(planned.prepare, looked.shards, read, ROOT) as prepared:
            counts = prepared.prepared.counts
            rows = RowCounts(
                prepared.read,
                list(prepared.prepared.formats),
                {name: count for name, count in counts.items() if name != "rejected"},
                prepared.prepared.rejected,
                str(prepared.rejected) if prepared.rejected else None,
                prepared.prepared.warnings,
            )
            counted, shown = _count(
                planned, settings, event, prepared.folder / "train" / "train.jsonl", counts["train"]
            )
    expected = _expected(looked, event.stack.region, counted)
    return PlannedRun(planned, settings, rows, counted, shown, None, expected)


def _event(connected: ConnectedStack, given: dict[str, Any]) -> PlanEvent:
    """Return the event that Plan would get, with the settings and the facts of the deployed stack.

    They stand in the state machine's definition, so that the answer is right also if the user's files have changed since.
    """
    stack = connected.stack
    execution = f"{stack.state_machine.replace(':stateMachine:', ':execution:')}:plan"
    try:
        event = parse(PlanEvent, known_runs.deployed_event(connected) | {"input": given, "execution": execution})
        validate(event.settings, "the deployed settings")
    except (ContractError, SettingsError) as error:
        raise Refused(
            f"the stack {stack.name} was deployed by another version of Tuneway ({error}); run `cdk deploy`, and try again"
        ) from error
    return event


def _token(secret: str | None) -> str | None:
    return hub.hub_token(aws.client("secretsmanager"), secret) if secret else None


def _count(
    planned: Plan, settings: Settings, event: PlanEvent, train: Path, rows: int
) -> tuple[TokenCount, list[ShownRow]]:
    """Count the tokens with the tokenizer of the base model, if it can be had."""
    assert planned.train is not None
    recipe = parse_recipe(planned.train["HyperParameters"])
    encoder: Any = tokens.why_not()
    with TemporaryDirectory(prefix="tuneway-plan-") as temporary:
        if encoder is None:
            model = base_model.open_folder(
                settings, event.stack.bucket, _token(recipe.hub_token_secret), aws.client("s3")
            )
            kept = _TOKENIZERS / settings.training.base_model.replace("/", "--") / str(model.revision)
            # An upload has no commit, so it may have changed.
            folder = Path(temporary) / "tokenizer" if model.revision is None else kept
            if not folder.is_dir():
                tokens.fetch_tokenizer(model, folder)
            encoder = tokens.load_encoder(folder, settings.training.base_model)
        return tokens.count(train, rows, recipe, encoder), tokens.shown_rows(train, rows, recipe, encoder)


def _expected(looked: plan.Looked, region: str, counted: TokenCount) -> Expected:
    """Return the expected cost, with the tokens that were counted."""
    how = "counted" if counted.estimate is None else "estimated"
    assert looked.plan.prepare is not None
    records = looked.plan.prepare.request.bedrock
    return money.expected(
        looked.settings,
        looked.plan.record.prices,
        region,
        money.Tokens(counted.per_epoch, counted.rows, how, counted.trained),
        looked.pace,
        bedrock_model=records.base_model if records else None,
        parameters=looked.plan.base_model.parameters,
    )
