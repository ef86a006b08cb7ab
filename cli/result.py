"""The lines at the end of an execution: what a person needs of a good one, and the step, reason and remedy of a bad one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cli.history import reason
from cli.spending import at_end
from pipeline import message, names
from pipeline.errors import visible
from pipeline.times import moment

if TYPE_CHECKING:
    from rich.console import Console

    from cli.reader import SeenRun
    from serving.stack import Stack


def lines_of_end(stack: Stack, found: SeenRun, options: str) -> list[tuple[str, str]]:
    """Return the lines: a title, which is empty if it is that of the line before, and a text.

    Args:
        stack: the stack.
        found: the execution that has ended.
        options: the options of the commands that are shown.
    """
    run = names.run_id(found.execution["executionArn"])
    lines = _success(found, run, options) if found.status == "SUCCEEDED" else _failure(found)
    lines += [("Cost", line) for line in at_end(found, time.time())]
    lines.append(("Report", f"tuneway report {run}{options} (in {names.place(stack.bucket, 'models', run)})"))
    before = ["", *(title for title, _ in lines)]
    return [("" if title == last else title, visible(text)) for (title, text), last in zip(lines, before, strict=False)]


def print_end(console: Console, stack: Stack, found: SeenRun, options: str) -> None:
    """Print the lines. A terminal wraps a text beside its title, and elsewhere each is one line.

    The arguments are those of `lines_of_end`, and the console.
    """
    lines = lines_of_end(stack, found, options)
    if not console.is_terminal:
        for title, text in lines:
            console.print(f"{f'{title}:' if title else '':<12}{text}", markup=False)
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for title, text in lines:
        table.add_row(title, Text(text))
    console.print(table)


def _success(found: SeenRun, run: str, options: str) -> list[tuple[str, str]]:
    output = found.output
    verdict = {
        "passed": "promoted, and served",
        "skipped": "not served",
        "superseded": "not served: another run's model is",
    }
    lines = [("Verdict", verdict.get(output["deployment"], str(output["deployment"]))), ("Why", output["why"])]
    again = f"tuneway serve {output.get('model_run') or run}{options}"
    if output.get("endpoint") and found.lost_endpoint:
        lines.append(("Endpoint", f"{output['endpoint']} is gone, or serves another run's model"))
    elif output.get("endpoint"):
        until = f"until {moment(output['until'])}" if output.get("until") else "without an end: delete it yourself"
        idle = (
            f", or until nobody has used it for {output['idle_minutes']} minutes" if output.get("idle_minutes") else ""
        )
        lines.append(("Endpoint", f"{output['endpoint']} {until}{idle}"))
        lines.append(("Ask it", f"tuneway ask FILE{options}, or tuneway chat{options}"))
        if call := output.get("call"):
            lines.append(("OpenAI", f"base URL {call['base_url']}"))
    if output.get("bedrock"):
        lines.append(("Bedrock", str(output["bedrock"])))
    lines.append(("Model", f"{output['model']}, served again by {again}"))
    lines += [("Warning", str(line)) for line in output.get("warnings") or ()]
    return lines


def _failure(found: SeenRun) -> list[tuple[str, str]]:
    described, row = found.execution, found.history.current
    error = (found.status == "FAILED" and described.get("error")) or found.status
    cause = reason(None, described.get("cause"))
    return [
        ("Verdict", f"the run has {'been stopped' if found.status == 'ABORTED' else 'failed'}"),
        ("Step", row.name if row else "none was entered"),
        ("Reason", f"{error}: {cause or 'no reason was given'}"),
        ("What to do", message.remedy(error, cause)),
    ]
