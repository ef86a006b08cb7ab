"""The entry point of `tuneway`. Each command is in the module of its name."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cli import runs
from cli.ask import ask
from cli.chat import chat
from cli.doctor import doctor
from cli.down import down
from cli.errors import one_line
from cli.plan import plan
from cli.report import report
from cli.run import run
from cli.serve import serve
from cli.stop import stop
from cli.watch import watch

ORDER = ("doctor", "plan", "run", "watch", "runs", "report", "serve", "ask", "chat", "stop", "down")
"""The commands in the order in which a user needs them. Typer would show those with subcommands last."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    name="tuneway",
    help="Tune, serve and ask your own model. `tuneway COMMAND --help` explains a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(doctor)
app.command()(plan)
app.command()(run)
app.command()(watch)
app.add_typer(runs.app, name="runs")
app.command()(report)
app.command()(serve)
app.command()(ask)
app.command()(chat)
app.command()(stop)
app.command()(down)


@app.callback()
def _commands() -> None:
    """Keep `tuneway` a group of commands."""


def main() -> None:
    """Run the command line."""
    with one_line():
        app(prog_name="tuneway")
