"""`tuneway runs` lists the stack's runs, and `tuneway runs compare` puts some of them side by side."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from cli import known_runs, serving_now
from cli.context import Json, SettingsFile, connect, console, print_json
from cli.known_runs import NO_RUNS, RunDetails
from cli.serving_now import EndpointNow
from pipeline import scores
from pipeline.contracts.values import JsonObject
from pipeline.errors import Refused, visible
from pipeline.money.words import NOT_KNOWN, dollars
from pipeline.times import duration, moment

SHOWN = 20
"""How many runs `tuneway runs` shows without --all. Each costs two or three calls."""

FEWEST, MOST = 2, 5
"""How many runs can be compared. More do not fit side by side into a terminal."""

_COLOURS = {"RUNNING": "cyan", "SUCCEEDED": "green", "PENDING_REDRIVE": "cyan"}

app = typer.Typer(help="List the stack's runs, or compare some of them.", invoke_without_command=True)


@app.callback()
def runs(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help=f"Show all runs, and not only the newest {SHOWN}.")] = False,
    as_json: Json = False,
    settings: SettingsFile = None,
) -> None:
    """List the stack's runs, the newest first.

    `tuneway runs compare A B` compares runs.
    """
    context.obj = settings
    if context.invoked_subcommand:
        return
    connected = connect(settings)
    found = known_runs.listed(connected)
    shown = found if every else found[:SHOWN]
    rows = known_runs.details(connected, shown)
    endpoint = serving_now.look(connected.stack)
    if as_json:
        print_json([_as_json(row, endpoint) for row in rows])
        return
    if not rows:
        typer.echo(NO_RUNS)
        return
    _print(rows, endpoint)
    if len(shown) < len(found):
        typer.echo(f"{len(found) - len(shown)} older runs are not shown; --all shows them", err=True)


@app.command()
def compare(
    context: typer.Context,
    run: Annotated[list[str], typer.Argument(help="Two to five runs: ids, names of executions, or their beginnings.")],
    as_json: Json = False,
    settings: SettingsFile = None,
) -> None:
    """Compare two to five runs: the settings that differ, the scores with their 95% intervals, and the cost."""
    if not FEWEST <= len(run) <= MOST:
        raise Refused(f"{len(run)} run{'s' * (len(run) != 1)} cannot be compared; name {FEWEST} to {MOST}")
    connected = connect(settings or context.obj)
    found = known_runs.listed(connected)
    chosen = [known_runs.named(found, one) for one in run]
    if len({one.run for one in chosen}) < len(chosen):
        raise Refused("two of the names are the same run; name different runs")
    rows = known_runs.details(connected, chosen)
    if as_json:
        print_json(_compared_json(rows))
        return
    _print_compared(rows)


def _print(rows: list[RunDetails], endpoint: EndpointNow | None) -> None:
    if not console.is_terminal:
        _print_tabs(
            ("run", "started", "took", "status", "dataset", "base model", "result", "cost", "serving"),
            [[_plain(cell) for cell in _cells(row, endpoint)] for row in rows],
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Run", no_wrap=True)
    table.add_column("Started", no_wrap=True)
    table.add_column("Dataset and base model", ratio=4, overflow="fold")
    table.add_column("Result", ratio=5, overflow="fold")
    table.add_column("Dollars", justify="right")
    table.expand = True
    for row in rows:
        run, began, took, status, dataset, base, result, cost, serving = _cells(row, endpoint)
        end = Text(result)
        if serving:
            end.append(f"\n{serving}", "bold")
        table.add_row(
            Text.assemble(run, "\n", (status, _COLOURS.get(status, "red" if row.known.status else ""))),
            Text.assemble(began, "\n", (took, "dim")),
            Text.assemble(dataset, "\n", (base, "dim")),
            end,
            cost,
        )
    console.print(table, soft_wrap=False)


def _print_tabs(head: tuple[str, ...], rows: list[list[str]]) -> None:
    """Print lines with tabs between the cells, for other programs, and for widths that nobody knows."""
    for line in (head, *rows):
        typer.echo("\t".join(line))


def _plain(text: str) -> str:
    return " ".join(visible(text.replace("\n", " ")).split()) or "-"


def _cells(row: RunDetails, endpoint: EndpointNow | None) -> tuple[str, ...]:
    known, record = row.known, row.record
    took = duration((known.ended - known.began).total_seconds()) if known.ended else ""
    return (
        known.run,
        moment(known.began),
        took,
        known.status or "ended",
        visible(dataset(row) or "dataset unknown"),
        visible(base_model(row) or "base model unknown"),
        visible(_result(row)),
        cost(record),
        _serving(row, endpoint),
    )


def dataset(row: RunDetails) -> str | None:
    """Return the dataset of a run, or what it served; None if it is not known."""
    if served := served_run(row):
        return f"the model of run {served}"
    source = (row.settings or {}).get("dataset", {}).get("source") or row.changed.get("dataset.source")
    return None if source is None else str(source)


def served_run(row: RunDetails) -> str | None:
    """Return the earlier run whose model the run serves; None if it makes its own."""
    of = row.record.get("model_run")
    if of and of != row.known.run:
        return str(of)
    serve = row.changed.get("serve")
    return None if serve is None else str(serve)


def base_model(row: RunDetails) -> str | None:
    """Return the base model of a run, without its revision; None if it is not known."""
    if row.record:
        return str(row.record["base_model"]).partition("@")[0]
    if served_run(row):
        return None
    found = (row.settings or {}).get("training", {}).get("base_model") or row.changed.get("training.base_model")
    return None if found is None else str(found)


def _result(row: RunDetails) -> str:
    """Return the scores of a run, or why it ended badly."""
    if row.reason:
        return row.reason if len(row.reason) <= 160 else f"{row.reason[:157]}..."
    known = row.record.get("scores")
    if not known:
        return "no scores yet" if row.known.status == "RUNNING" else "no scores"
    key = scores.deciding(known)
    found = f"{scores.NAMES[key]} {known['tuned'][key]['mean']:.1f}, {_difference(known, key)} against its base"
    found = f"{found}, {'promoted' if row.record['promoted'] else 'not promoted'}"
    version = row.record.get("model_package")
    return f"{found}, version {version.rpartition('/')[2]} in the Model Registry" if version else found


def _difference(known: JsonObject | None, key: str) -> str:
    if not known or key not in known["difference"]:
        return "-"
    found = known["difference"][key]
    return f"{found['mean']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f})"


def cost(record: JsonObject) -> str:
    """Return what a run has cost by its record, in dollars, or that nobody knows it."""
    total = record.get("spent", {}).get("total")
    return dollars(total)


def _serving(row: RunDetails, endpoint: EndpointNow | None) -> str:
    if endpoint is None or endpoint.run != row.known.run:
        return ""
    if endpoint.status != "InService":
        return f"endpoint {endpoint.status}"
    return f"serves {endpoint.end()}"


def _as_json(row: RunDetails, endpoint: EndpointNow | None) -> JsonObject:
    known, record = row.known, row.record
    mine = endpoint is not None and endpoint.run == known.run
    return {
        "run": known.run,
        "execution": known.execution,
        "status": known.status,
        "started": known.began.isoformat(),
        "ended": known.ended.isoformat() if known.ended else None,
        "dataset": None if served_run(row) else dataset(row),
        "serves_model_of": served_run(row),
        "base_model": base_model(row),
        "settings": row.changed,
        "scores": record.get("scores"),
        "promoted": record.get("promoted"),
        "model_package": record.get("model_package"),
        "reason": row.reason,
        "spent": record.get("spent"),
        "serving": {
            "endpoint": endpoint.name,
            "status": endpoint.status,
            "usd_per_hour": endpoint.usd_per_hour,
            "until": endpoint.until.isoformat() if endpoint.until else None,
        }
        if mine and endpoint
        else None,
        "report": known.page,
    }


def differing(rows: list[RunDetails]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, by dotted name, with the value of each run.

    If nobody knows any more with which settings the stack of one of them was deployed, only the settings that a run changed are
    compared, and the others have None.
    """
    if all(row.settings is not None for row in rows):
        every = [known_runs.flat(row.settings or {}) for row in rows]
    else:
        every = [row.changed for row in rows]
    names = dict.fromkeys(name for found in every for name in found)
    values = {name: [found.get(name) for found in every] for name in names}
    return {name: found for name, found in values.items() if any(one != found[0] for one in found)}


def _compared_json(rows: list[RunDetails]) -> JsonObject:
    return {
        "runs": [_as_json(row, None) | {"serving": None} for row in rows],
        "settings": differing(rows),
        "settings_complete": all(row.settings is not None for row in rows),
    }


def _compared(rows: list[RunDetails]) -> list[tuple[str, list[str]]]:
    """Return the lines of a comparison: a title, and the cell of each run. Lines without cells are headings."""
    lines: list[tuple[str, list[str]]] = [
        ("started", [moment(row.known.began) for row in rows]),
        ("status", [row.known.status or "ended" for row in rows]),
        ("dataset", [dataset(row) or "unknown" for row in rows]),
        ("base model", [base_model(row) or "unknown" for row in rows]),
        ("Settings that differ", []),
    ]
    complete = all(row.settings is not None for row in rows)
    lines += [
        (
            name,
            [
                _value(one) if complete or name in row.changed else "as deployed"
                for row, one in zip(rows, values, strict=True)
            ],
        )
        for name, values in differing(rows).items()
    ] or [("none", [])]
    lines.append(("Scores (95% interval)", []))
    known = [row.record.get("scores") for row in rows]
    lines.append(("held-out rows", [f"{found['rows']}" if found else "-" for found in known]))
    # The scores that decide come first.
    deciding = {scores.deciding(found) for found in known if found}
    keys = {key for found in known if found for key in scores.present(found)}
    for key in sorted(scores.NAMES.keys() & keys, key=lambda key: (key not in deciding, list(scores.NAMES).index(key))):
        title = scores.NAMES[key]
        lines.append((title, [_interval(found, "tuned", key) for found in known]))
        lines.append((f"{title} of the base", [_interval(found, "base", key) for found in known]))
        lines.append((f"{title}, difference", [_difference(found, key) for found in known]))
    lines.append(("promoted", [{True: "yes", False: "no"}.get(row.record.get("promoted", ""), "-") for row in rows]))
    if any(row.record.get("model_package") for row in rows):
        lines.append(("Model Registry", [str(row.record.get("model_package") or "-") for row in rows]))
    lines.append(("Cost in dollars", []))
    for part in ("training", "bedrock", "endpoint", "judge"):
        cells = [_part(row.record, part) for row in rows]
        if part != "judge" or any(cell != "-" for cell in cells):
            lines.append((part, cells))
    lines.append(("total", [cost(row.record) for row in rows]))
    return lines


def _interval(known: JsonObject | None, model: str, key: str) -> str:
    if not known or key not in known[model]:
        return "-"
    found = known[model][key]
    return f"{found['mean']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def _part(record: JsonObject, name: str) -> str:
    """Return what a part of a run has cost, with its basis."""
    found = next((part for part in record.get("spent", {}).get("parts", ()) if part["part"] == name), None)
    if found is None:
        return "-" if record else NOT_KNOWN
    return f"{dollars(found['usd'])} ({found['basis']})"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_compared(rows: list[RunDetails]) -> None:
    lines = _compared(rows)
    if console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", overflow="fold")
        for row in rows:
            table.add_column(row.known.run, overflow="fold")
        for title, cells in lines:
            if cells or title == "none":
                table.add_row(Text(title), *(Text(visible(cell)) for cell in cells))
            else:
                table.add_section()
                table.add_row(Text(title, "bold"))
        console.print(table, soft_wrap=False)
    else:
        _print_tabs(("", *(row.known.run for row in rows)), [[title, *map(_plain, cells)] for title, cells in lines])
    unknown = [row.known.run for row in rows if row.settings is None]
    if unknown:
        typer.echo(
            f"Step Functions no longer knows the execution of {', '.join(unknown)}, so this compares only the settings that a "
            "run changed",
            err=True,
        )
