"""`tuneway stop`: stops a run, and waits until its jobs have ended."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import ending, known_runs
from cli.context import SettingsFile, Yes, confirm, connect
from cli.known_runs import KnownRun
from pipeline.errors import Refused
from pipeline.times import moment


def stop(
    execution: Annotated[str | None, typer.Argument(help=f"{known_runs.NAMES}; else the one that runs.")] = None,
    yes: Yes = False,
    settings: SettingsFile = None,
) -> None:
    """Stop a run, and wait for its cleanup: its jobs are stopped, and an endpoint that was half made is deleted.

    The endpoint that served before serves its model again.
    """
    connected = connect(settings)
    run = choose(known_runs.listed(connected), execution)
    if run is None:
        typer.echo("no execution runs")
        return
    if run.status == "RUNNING":
        confirm(f"Stop {run.name} (run {run.run}), which was started at {moment(run.began)}?", yes=yes)
        ending.stop_execution(connected, run, "tuneway stop")
    again = f"`tuneway stop {run.name}{connected.options}`"
    goes_on = f"the execution is stopped, and its cleanup goes on by itself; {again} follows it again"
    with ending.kept_going(goes_on):
        ended = ending.follow_cleanup(connected, run)
    typer.echo(f"Serving: {ended.serving or 'the execution runs again, because somebody has redriven it'}")
    typer.echo(f"Left: {'; '.join(ended.left) or 'nothing of this run is running'}")
    if ended.left:
        raise typer.Exit(1)


def choose(runs: list[KnownRun], given: str | None) -> KnownRun | None:
    """Return the run to stop: the named one, or the only one that runs; None if none runs.

    Raises:
        Refused: there is no such run, it has ended by itself, or several run.
    """
    if given is None:
        running = [run for run in runs if run.status == "RUNNING"]
        if len(running) > 1:
            raise Refused(f"several executions run; name one: {', '.join(run.name for run in running)}")
        return running[0] if running else None
    run = known_runs.named(runs, given)
    # The cleanup of one that was stopped lately may still go on, and can be followed again.
    if run.status not in ("RUNNING", "ABORTED"):
        status = "has ended" if run.status is None else f"is {run.status}"
        raise Refused(f"run {run.run} {status}, so there is nothing to stop; use `tuneway down` to delete the endpoint")
    return run
