"""Shows the long steps around an execution: their names, how long they have taken, and what they print meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

QUIET_SECONDS = 9.0
"""The most seconds without a line where the output is no terminal."""

_TAIL = 4096
_SHOWN = 60
"""The most characters of the log's last line that are shown."""


@contextmanager
def step(console: Console, name: str, log: Path | None = None) -> Iterator[None]:
    """Show that a step goes on, and at its end whether it failed, and how long it took.

    Args:
        console: where to show it.
        name: the step's name.
        log: a file whose last line says what the step does now.
    """
    start, result = time.time(), "[red]failed[/red]"
    over = threading.Event()
    shows = threading.Thread(target=_show, args=(console, name, log, start, over), daemon=True)
    shows.start()
    try:
        yield
        result = "done"
    finally:
        over.set()
        shows.join()
        console.print(f"[bold]{name}[/bold] {result} [dim]({time.time() - start:.1f} s)[/dim]")


def _show(console: Console, name: str, log: Path | None, start: float, over: threading.Event) -> None:
    def text() -> str:
        line = last_line(log) if log else ""
        return f"{name} [dim]{time.time() - start:.0f} s{f'  {escape(line)}' if line else ''}[/dim]"

    if not console.is_terminal:
        while not over.wait(QUIET_SECONDS):
            console.print(text())
        return
    with console.status(text()) as status:
        while not over.wait(1):
            status.update(text())


def last_line(log: Path) -> str:
    """Return the last line of a log, cut; empty if there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    line = "".join(character for character in lines[-1] if character.isprintable()) if lines else ""
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
