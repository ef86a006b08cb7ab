"""Shows a planned run: rows as the model sees them, the numbers, the time, and the price. Also as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.contracts.values import as_json

if TYPE_CHECKING:
    from rich.console import Console

    from cli.planned import PlannedRun
    from cli.tokens import ShownRow, TokenCount
    from pipeline.contracts.money import Estimate, Expected

LEARNED = "bold green"
MARKS = (">>>", "<<<")
"""What stands around the learned text where there are no colours."""

MOST_CONTEXT = 700
"""The most characters of a row's context that are shown. The middle of a longer one is left out."""

MOST_LEARNED = 2000
_SHOWN_REASONS = 6
_PARTS = ("training", "bedrock", "endpoint", "total")


def show(run: PlannedRun, console: Console) -> None:
    """Print a planned run. The last lines are the price, above which a question may follow."""
    if run.shown:
        _show_rows(run.shown, console)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(run):
        table.add_row(name, Text(value))
    console.print(table, soft_wrap=False)
    for line in run.plan.warnings:
        console.print(Text.assemble(("warning ", "yellow"), line), soft_wrap=False)
    console.print()
    console.print(_prices(run.plan.estimate, run.expected), soft_wrap=False)
    console.print(Text(f"Expected: {run.expected.assumption}."), style="dim", soft_wrap=False)
    console.print()


def _show_rows(rows: list[ShownRow], console: Console) -> None:
    coloured = console.color_system is not None and not console.no_color
    legend = Text("Rows of the training split, ")
    legend.append(
        "as the model sees them" if rows[0].tokens else "without the model's template, which needs the tokenizer"
    )
    legend.append(". Learned is the text ")
    legend.append("in this colour" if coloured else f"between {MARKS[0]} and {MARKS[1]}", LEARNED if coloured else "")
    console.print(legend.append("."), soft_wrap=False)
    for row in rows:
        tokens = "" if row.tokens is None else f": {row.tokens} tokens, {row.learned_tokens} of them learned"
        console.print()
        console.print(Text(f"Row {row.number:,}{tokens}", "bold"))
        console.print(Padding(text_of(row, coloured=coloured), (0, 0, 0, 2)), soft_wrap=False)
    console.print()


def text_of(row: ShownRow, *, coloured: bool) -> Text:
    """Return a row with its learned text in colour, or between marks."""
    learned = _cut(row.learned.rstrip("\n"), MOST_LEARNED)
    text = Text(_cut(row.context, MOST_CONTEXT))
    return text.append(learned, LEARNED) if coloured else text.append(f"{MARKS[0]}{learned}{MARKS[1]}")


def _cut(text: str, most: int) -> str:
    """Return a text without its middle if it has more than `most` characters."""
    if len(text) <= most:
        return text
    start, end = most * 2 // 3, most // 3
    return f"{text[:start]} [... {len(text) - start - end:,} characters ...] {text[-end:]}"


def facts(run: PlannedRun) -> list[tuple[str, str]]:
    """Return the facts of a planned run: a name and a text each."""
    plan, settings = run.plan, run.settings
    model = plan.base_model
    found = []
    if plan.serve:
        found.append(("serves", f"the model of run {plan.serve.run}, without a training"))
    else:
        found += [("dataset", line) for line in _dataset(run)]
    revision = f" at {model.revision[:12]}" if model.revision else ""
    licence = f", licence {model.licence}" if model.licence else ""
    found.append(("base model", f"{model.name}{revision}, {model.parameters / 1e6:,.0f} M parameters{licence}"))
    if plan.train:
        spot = ", spot capacity" if settings.training.spot else ""
        found.append(
            ("training", _instances(settings.training.instance_types, settings.training.instance_count) + spot)
        )
    if plan.customize and plan.prepare and plan.prepare.request.bedrock:
        found.append(("Bedrock", f"customizes {plan.prepare.request.bedrock.base_model}"))
    elif plan.import_model:
        found.append(("Bedrock", "imports the tuned model"))
    elif plan.train:
        found.append(("Bedrock", "off"))
    if plan.deploy:
        until = (
            f"deleted after {settings.endpoint.time_to_live_minutes} minutes at the latest"
            if settings.endpoint.time_to_live_minutes
            else "it has no end by itself (endpoint.time_to_live_minutes)"
        )
        endpoint = settings.endpoint
        found.append(("endpoint", f"{_instances(endpoint.instance_types, endpoint.instance_count)}; {until}"))
    else:
        found.append(("endpoint", "none (endpoint.enabled is false)"))
    if plan.train:
        seconds, most = run.expected.training_seconds, settings.training.max_runtime_minutes
        expected = "not known" if seconds is None else f"about {minutes(seconds)}"
        found.append(
            ("time", f"training job {expected}, at most {minutes(most * 60)}; Bedrock and endpoint take theirs")
        )
    return found


def minutes(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{round(seconds)} seconds"
    whole = round(seconds / 60)
    if whole < 120:
        return f"{whole} minute{'s' * (whole != 1)}"
    return f"{whole / 60:.1f} hours"


def _instances(types: list[str], count: int) -> str:
    first, *others = types
    return f"{count} x {first}" + (f", else {' or '.join(others)}" if others else "")


def _dataset(run: PlannedRun) -> list[str]:
    """Return the lines about the dataset: its rows, the rejected ones with reasons, its tokens and steps."""
    rows, tokens, dataset = run.rows, run.tokens, run.plan.dataset
    source = dataset.name if dataset else ""
    if rows is None or tokens is None:
        return [f"{source}: rows, tokens and steps are not known, because {run.unread}"]
    refused = sum(rows.rejected.values())
    listed = f", listed in {rows.listed}" if rows.listed else ""
    lines = [f"{source}: {rows.read:,} rows read, {refused:,} of them rejected{listed}"]
    reasons = sorted(rows.rejected.items(), key=lambda item: -item[1])
    lines += [f"  {count:,} {reason}" for reason, count in reasons[:_SHOWN_REASONS]]
    if more := reasons[_SHOWN_REASONS:]:
        lines.append(f"  {sum(count for _, count in more):,} for {len(more)} other reasons")
    splits = rows.splits
    lines.append(f"rows: {splits['train']:,} train, {splits['validation']:,} validation, {splits['test']:,} test")
    if splits.get("bedrock_train"):
        lines.append(
            f"records for Bedrock: {splits['bedrock_train']:,} train, {splits['bedrock_validation']:,} validation"
        )
    return lines + _tokens(tokens)


def _tokens(tokens: TokenCount) -> list[str]:
    about = "about " if tokens.estimate else ""
    learned = "" if tokens.learned is None else f", {tokens.learned:,} of them learned"
    left_out = f"; {about}{tokens.left_out:,} longer rows are left out (training.max_length)" if tokens.left_out else ""
    longest = f"the longest row has {tokens.longest:,}"
    lines = [
        f"tokens: {about}{tokens.per_epoch:,} of {tokens.rows:,} rows{learned}; {longest}{left_out}",
        f"steps: {about}{tokens.steps:,} of {tokens.rows_per_step} rows each, {about}{tokens.trained:,} tokens in all",
    ]
    return [*lines, f"These are estimates: {tokens.estimate}"] if tokens.estimate else lines


def _prices(most: Estimate, expected: Expected) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("dollars", style="bold")
    table.add_column("expected", justify="right")
    table.add_column("at most", justify="right")
    for part in _PARTS:
        style = "bold" if part == "total" else ""
        table.add_row(part, dollars(getattr(expected, part)), dollars(getattr(most, part)), style=style)
    return table


def dollars(amount: float | None) -> str:
    """Return an amount in dollars. One that is not known is never shown as 0."""
    return "not known" if amount is None else f"{amount:,.2f}"


def as_document(run: PlannedRun) -> dict[str, Any]:
    """Return a planned run as JSON values."""
    plan, settings = run.plan, run.settings
    return {
        "dataset": as_json(plan.dataset),
        "serve": as_json(plan.serve),
        "base_model": as_json(plan.base_model),
        "rows": as_json(run.rows),
        "rows_not_read_because": run.unread,
        "tokens": as_json(run.tokens),
        "training": plan.train
        and {
            "instance_types": settings.training.instance_types,
            "instance_count": settings.training.instance_count,
            "seconds_expected": run.expected.training_seconds,
            "seconds_at_most": settings.training.max_runtime_minutes * 60,
        },
        "bedrock": settings.bedrock.mode,
        "endpoint": plan.deploy
        and {
            "instance_types": settings.endpoint.instance_types,
            "instance_count": settings.endpoint.instance_count,
            "minutes_at_most": settings.endpoint.time_to_live_minutes,
        },
        "expected": as_json(run.expected),
        "at_most": {part: getattr(plan.estimate, part) for part in _PARTS},
        "prices_as_of": plan.estimate.prices_as_of,
        "warnings": plan.warnings,
        "shown_rows": [as_json(row) for row in run.shown],
    }
