"""`tuneway report`: downloads the page of a run, and opens it in the browser."""

from __future__ import annotations

import webbrowser
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cli import known_runs
from cli.context import SettingsFile, connect
from cli.known_runs import NO_RUNS, KnownRun
from pipeline import names
from pipeline.errors import Refused
from serving.stack import ROOT

FOLDER = ROOT / ".local" / "reports"
"""The folder for the pages. Git ignores it."""

CLEANUP = timedelta(minutes=10)
"""The time after a run's end in which its cleanup may still write the page. It waits a minute for calls that are under way."""


def report(
    run: Annotated[str | None, typer.Argument(help=f"{known_runs.NAMES}; else the newest that has a page.")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only download the page, and print its path.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Download the page that tells the whole story of a run, and open it in the browser."""
    connected = connect(settings)
    chosen = choose(known_runs.listed(connected), run)
    path = FOLDER / connected.stack.name / f"{chosen.run}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    key = names.prefix("models", chosen.run) + names.REPORT
    connected.client("s3").download_file(connected.stack.bucket, key, str(path))
    typer.echo(path)
    if not no_open and not webbrowser.open(path.as_uri()):
        typer.echo("there is no browser on this machine; open the file on another one", err=True)


def choose(runs: list[KnownRun], given: str | None) -> KnownRun:
    """Return the run whose page is shown: the named one, or the newest one that has a page.

    Raises:
        Refused: there is no such run, or it has no page.
    """
    if given is None:
        if not runs:
            raise Refused(NO_RUNS)
        chosen = next((run for run in runs if run.page), None)
        if chosen is None:
            raise Refused(f"no run has a page yet; wait until run {runs[0].run} has ended")
        if chosen is not runs[0]:
            typer.echo(f"the newest run, {runs[0].run}, has no page yet; this is the page of {chosen.run}", err=True)
        return chosen
    chosen = known_runs.named(runs, given)
    if chosen.page:
        return chosen
    if chosen.status == "RUNNING":
        raise Refused(f"run {chosen.run} has no page yet; wait until it has ended")
    if chosen.ended and datetime.now(UTC) - chosen.ended < CLEANUP:
        raise Refused(f"run {chosen.run} has no page yet; wait some minutes, because its cleanup writes one")
    having = [run.run for run in runs if run.page][: known_runs.MOST_NAMED]
    others = f"name one that has: {', '.join(having)}" if having else "use `tuneway runs`, which shows its scores"
    raise Refused(f"run {chosen.run} has left no page; {others}")
