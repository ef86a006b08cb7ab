"""Shows a planned run: rows as the model sees them, the numbers, the time, and the price. Also as JSON."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from pipeline.contracts.values import as_json
from pipeline.errors import visible
from pipeline.money.words import dollars
from pipeline.times import about, duration

if TYPE_CHECKING:
    from rich.console import Console

    from cli.planned import PlannedRun
    from cli.tokens import ShownRow, TokenCount
    from pipeline.contracts.money import Estimate, Expected
    from pipeline.contracts.planned import Plan
    from pipeline.settings import Settings

LEARNED = "bold green"
MARKS = (">>>", "<<<")
"""What stands around the learned text where there are no colours."""

MOST_CONTEXT = 700
"""The most characters of a row's context that are shown. The middle of a longer one is left out."""

MOST_LEARNED = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Every control character but tab and line feed."""

_SHOWN_REASONS = 6
_NAME = 12
"""The width of a name before its line."""
_PARTS = ("training", "bedrock", "endpoint", "judge", "total")


def show(run: PlannedRun, console: Console, dataset: str | None = None) -> None:
    """Print a planned run. The last lines are the price, after which a question may follow.

    Args:
        run: the planned run.
        console: the console.
        dataset: the user's own file or folder, as the user named it. None: the dataset is in the account or on the Hub.
    """
    if run.shown:
        _show_rows(run.shown, console)
    for name, lines in facts(run, dataset):
        for number, line in enumerate(lines):
            _line(console, "" if number else name, line)
    for warning in _warnings(run):
        _line(console, "warning", warning, "bold yellow")
    console.print()
    console.print(_prices(run.plan.estimate, run.expected))
    console.print()
    _line(console, "expected", f"{run.expected.assumption}.")
    _line(console, "prices", f"of {run.plan.estimate.prices_as_of}, before tax")
    console.print()


def _warnings(run: PlannedRun) -> list[str]:
    return [*run.plan.warnings, *(run.rows.warnings if run.rows else [])]


def _line(console: Console, name: str, line: str, style: str = "bold") -> None:
    """Print a line behind a name. If it is too long for the terminal, its next lines begin below its first one.

    A path stays in one piece, so that it can be copied.
    """
    room = max(20, console.width - _NAME)
    for number, part in enumerate(textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)):
        console.print(Text.assemble((("" if number else name).ljust(_NAME), style), part))


def _show_rows(rows: list[ShownRow], console: Console) -> None:
    coloured = console.color_system is not None and not console.no_color
    legend = Text("Rows of the training split, ")
    legend.append(
        "as the model sees them"
        if rows[0].tokens
        else "without the model's template, which needs the tokenizer (`make preview`)"
    )
    legend.append(". Learned is the text ")
    legend.append("in this colour" if coloured else f"between {MARKS[0]} and {MARKS[1]}", LEARNED if coloured else "")
    _paragraph(console, legend.append("."))
    for row in rows:
        tokens = "" if row.tokens is None else f": {row.tokens} tokens, {row.learned_tokens} of them learned"
        console.print()
        console.print(Text(f"Row {row.number:,}{tokens}", "bold"))
        _paragraph(console, text_of(row, coloured=coloured), "  ")
    console.print()


def _paragraph(console: Console, text: Text, indent: str = "") -> None:
    for line in text.wrap(console, max(20, console.width - len(indent))):
        line.rstrip()
        console.print(Text(indent) + line)


def text_of(row: ShownRow, *, coloured: bool) -> Text:
    """Return a row with its learned text in colour, or between marks."""
    text = Text()
    for number, part in enumerate(row.parts):
        if number % 2 == 0:
            text.append(_harmless(_cut(part, MOST_CONTEXT)))
            continue
        learned = _harmless(_cut(part.rstrip("\n"), MOST_LEARNED))
        text.append(learned, LEARNED) if coloured else text.append(f"{MARKS[0]}{learned}{MARKS[1]}")
    return text


def _harmless(text: str) -> str:
    """Return a text of a dataset with escapes in the place of characters that could command the terminal."""
    return _CONTROL.sub(lambda found: visible(found[0]), text)


def _cut(text: str, most: int) -> str:
    """Return a text without its middle if it has more than `most` characters."""
    if len(text) <= most:
        return text
    start, end = most * 2 // 3, most // 3
    return f"{text[:start]} [... {len(text) - start - end:,} characters ...] {text[-end:]}"


def facts(run: PlannedRun, dataset: str | None = None) -> list[tuple[str, list[str]]]:
    """Return the facts of a planned run: a name and lines of text each. Arguments are those of `show`."""
    plan, settings = run.plan, run.settings
    model, endpoint = plan.base_model, settings.endpoint
    found: list[tuple[str, list[str]]] = []
    if plan.serve:
        found.append(("serves", [f"the model of run {plan.serve.run}; nothing is trained"]))
    else:
        found.append(("dataset", _dataset(run, dataset)))
        if run.tokens:
            found.append(("training", _tokens(run.tokens, settings)))
    revision = f" at {model.revision[:12]}" if model.revision else ""
    licence = f", licence {model.licence}" if model.licence else ""
    found.append(("base model", [f"{model.name}{revision}, {model.parameters / 1e6:,.0f} million parameters{licence}"]))
    if plan.train:
        found.append(("instances", [_training_instances(settings)]))
        found.append(("Bedrock", [_bedrock(run)]))
    minutes = _minutes_at_most(plan)
    until = (
        "it has no end (endpoint.time_to_live_minutes is null)"
        if minutes is None
        else f"it is deleted {duration(minutes * 60)} after its start at the latest"
    )
    served = f"{_instances(endpoint.instance_types, endpoint.instance_count)}; {until}"
    found.append(("endpoint", [served if plan.deploy else "none (endpoint.enabled is false)"]))
    if plan.assess:
        found.append(("judging", [_judging(settings)]))
    if plan.train:
        seconds, most = run.expected.training_seconds, settings.training.max_runtime_minutes
        expected = "not known" if seconds is None else about(seconds)
        found.append(
            ("time", [f"{expected} for the training job, at most {duration(most * 60)}; other steps come on top"])
        )
    if settings.max_cost is not None:
        found.append(("max_cost", [f"{dollars(settings.max_cost)} dollars"]))
    return found


def _judging(settings: Settings) -> str:
    evaluation, promote = settings.training.evaluation, settings.endpoint.promote
    metrics = ", ".join(evaluation.metrics)
    rule = "promoted whatever they say" if promote == "always" else f"promoted by {evaluation.promote_by}"
    judge = (
        f", and by {evaluation.judge_model} on at most {evaluation.judge_rows} of its rows"
        if evaluation.judge_model
        else ""
    )
    return f"by {metrics} on the test split{judge}; {rule} (endpoint.promote: {promote})"


def _minutes_at_most(plan: Plan) -> int | None:
    """Return the minutes from the start of the endpoint to its end at the latest; None if it has no end, or is not made."""
    return plan.deploy.expiry.minutes if plan.deploy and plan.deploy.expiry else None


def _training_instances(settings: Settings) -> str:
    spot = ", as spot capacity" if settings.training.spot else ""
    return f"{_instances(settings.training.instance_types, settings.training.instance_count)} for training{spot}"


def _bedrock(run: PlannedRun) -> str:
    request = run.plan.prepare.request.bedrock if run.plan.prepare else None
    if request:
        splits = run.rows.splits if run.rows else {}
        records = f" with {splits['bedrock_train'] + splits['bedrock_validation']:,} records" if splits else ""
        return f"customizes {request.base_model}{records}"
    return "imports the tuned model" if run.plan.import_model else "makes nothing (bedrock.mode is off)"


def _instances(types: list[str], count: int) -> str:
    first, *others = types
    return f"{count} x {first}" + (f", else {' or '.join(others)}" if others else "")


def _dataset(run: PlannedRun, own: str | None) -> list[str]:
    """Return the lines about the rows of the dataset, and the rejected ones with their reasons."""
    rows, planned = run.rows, run.plan.dataset
    source = own or (planned.name if planned else "")
    if rows is None:
        return [f"{source}: rows, tokens and steps are not known, because {run.unread}"]
    reasons = sorted(rows.rejected.items(), key=lambda item: -item[1])
    rejected = f"{sum(rows.rejected.values()):,} of them rejected" if reasons else "none of them rejected"
    read_as = f" as {' and '.join(rows.formats)}" if rows.formats else ""
    lines = [f"{source}: {_count(rows.read, 'row')} read{read_as}, {rejected}"]
    lines += [f"  {count:,}: {reason}" for reason, count in reasons[:_SHOWN_REASONS]]
    if more := reasons[_SHOWN_REASONS:]:
        lines.append(f"  {sum(count for _, count in more):,}: {len(more)} other reasons")
    if rows.listed:
        lines.append(f"  each of them is listed in {rows.listed}")
    splits = rows.splits
    lines.append(f"{splits['train']:,} rows to train, {splits['validation']:,} to validate, {splits['test']:,} to test")
    return lines


def _tokens(tokens: TokenCount, settings: Settings) -> list[str]:
    """Return the lines about tokens and steps."""
    most = settings.training.max_steps
    ended = tokens.steps == most and tokens.steps * tokens.rows_per_step < settings.training.epochs * tokens.rows
    epochs = _count(settings.training.epochs, "epoch")
    why = (
        f"; training.max_steps ends it before {epochs} {'is' if settings.training.epochs == 1 else 'are'} over"
        if ended
        else ""
    )
    roughly = "about " if tokens.estimate else ""
    learned = "" if tokens.learned is None else f", {tokens.learned:,} of them learned"
    lines = [
        f"{roughly}{_count(tokens.steps, 'step')} of {_count(tokens.rows_per_step, 'row')} each, {roughly}"
        f"{tokens.trained:,} tokens in all{why}",
        f"an epoch is {_count(tokens.rows, 'row')} with {roughly}{tokens.per_epoch:,} tokens{learned}; the longest row has "
        f"{tokens.longest:,}",
    ]
    if tokens.cut:
        lines.append(
            f"{roughly}{_count(tokens.cut, 'row')} longer than training.max_length, whose first turns the job cuts off"
        )
    if tokens.left_out:
        lines.append(
            f"{roughly}{_count(tokens.left_out, 'row')} longer than training.max_length, which the job leaves out"
        )
    return [*lines, f"estimated: {tokens.estimate}"] if tokens.estimate else lines


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _prices(most: Estimate, expected: Expected) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("dollars", style="bold")
    table.add_column("expected", justify="right")
    table.add_column("at most", justify="right")
    for part in _PARTS:
        if part == "judge" and not most.judge:
            continue
        style = "bold" if part == "total" else ""
        table.add_row(part, dollars(getattr(expected, part)), dollars(getattr(most, part)), style=style)
    return table


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
            "minutes_at_most": _minutes_at_most(plan),
        },
        "expected": as_json(run.expected),
        "at_most": {part: getattr(plan.estimate, part) for part in _PARTS},
        "prices_as_of": plan.estimate.prices_as_of,
        "judging": plan.assess
        and {
            "metrics": settings.training.evaluation.metrics,
            "promote_by": settings.training.evaluation.promote_by,
            "promote": settings.endpoint.promote,
        },
        "warnings": _warnings(run),
        "shown_rows": [as_json(row) for row in run.shown],
    }
