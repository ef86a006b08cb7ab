"""`tuneway serve`: serves the model of an earlier run again, without a training."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import known_runs, serving_now
from cli.context import ConnectedStack, SettingsFile, Yes, confirm, connect
from cli.start import start
from pipeline import earlier_run, scores
from pipeline.earlier_run import LAST, NEVERTHELESS, TRAIN_ONE, EarlierRun, Wanted
from pipeline.errors import Refused, visible
from pipeline.times import moment

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject


def serve(
    run: Annotated[str, typer.Argument(help=f"{known_runs.NAMES}; or last: the newest promoted model.")] = LAST,
    not_promoted: Annotated[
        bool, typer.Option("--not-promoted", help="Serve the model also if its scores do not promote it.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start, and do not watch.")] = False,
    yes: Yes = False,
    settings: SettingsFile = None,
) -> None:
    """Serve the model of an earlier run again. It takes minutes, because nothing is trained.

    It says what the endpoint costs per hour and until when, and asks before it starts.
    """
    connected = connect(settings)
    found, run_input = _find(connected, run, not_promoted=not_promoted)
    for line in offer(connected, found, datetime.now(UTC)):
        typer.echo(line)
    confirm("Serve it?", yes=yes)
    start(connected, run_input, detach=detach)


def _find(connected: ConnectedStack, given: str, *, not_promoted: bool) -> tuple[EarlierRun, JsonObject]:
    """Return the earlier run, and the input of the execution that serves it."""
    run = given
    if given != LAST:
        run = known_runs.named(known_runs.listed(connected), given).run
    others: JsonObject = {"endpoint": {"promote": "always"}} if not_promoted else {}
    deployed = known_runs.deployed_event(connected)["settings"]
    try:
        found = earlier_run.find(Wanted(run, others), deployed, connected.stack.bucket)
    except Refused as error:
        line = str(error).replace(NEVERTHELESS, "add --not-promoted to serve it nevertheless")
        line = line.replace(TRAIN_ONE, "start one with `tuneway run`")
        raise Refused(line.removeprefix("execution input: serve: ")) from error
    return found, {"serve": found.serve.run if given == LAST else run, **others}


def offer(connected: ConnectedStack, found: EarlierRun, now: datetime) -> list[str]:
    """Return the lines that say what is served, what it costs, and until when."""
    endpoint, serve = found.settings.endpoint, found.serve
    key = scores.deciding(serve.scores)
    base, tuned = (serve.scores.get(name, {}).get(key, {}).get("mean") for name in ("base", "tuned"))
    score = f", {scores.NAMES[key]} {tuned:.1f} (its base {base:.1f})" if base is not None and tuned is not None else ""
    hour = serving_now.per_hour(endpoint.instance_types, endpoint.instance_count, connected.stack.region)
    instances = serving_now.instances_words(endpoint.instance_types, endpoint.instance_count, hour)
    lines = [
        f"Model: run {serve.run}, tuned from {visible(found.base_model.partition('@')[0])}{score}",
        f"Endpoint: {connected.stack.endpoint}, {instances}",
    ]
    life, idle = endpoint.time_to_live_minutes, endpoint.idle_minutes
    if life is None:
        end = "End: none (endpoint.time_to_live_minutes is null): it bills until somebody deletes it"
    else:
        minutes = life + endpoint.startup_timeout_minutes
        cost = "" if hour is None else f", {hour * minutes / 60:.2f} dollars by then"
        end = f"End: {moment(now + timedelta(minutes=minutes))} at the latest{cost}"
    if idle is not None:
        end += f"; or earlier, when nobody has used it for {idle} minutes"
    lines.append(end)
    if serving := serving_now.look(connected.stack):
        lines.append(f"Now: {serving.name} is {serving.line()}; it is updated without a pause")
    return lines
