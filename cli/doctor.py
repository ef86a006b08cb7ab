"""`tuneway doctor`: checks this machine, the account and the stack before a run. It spends nothing and changes nothing."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.checks import account, machine, sources, stack
from cli.checks.result import CheckContext, CheckResult, NotChecked, Status, failure, warning
from cli.context import Json, SettingsFile, console, print_json
from cli.errors import of_aws
from pipeline import aws
from pipeline.errors import Refused, SourceUnavailable
from pipeline.settings import SettingsError
from pipeline.source.stream import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Found = TypeVar("Found")

DEADLINE_SECONDS = 60
"""How long doctor waits for the checks. Each call gives up sooner (`pipeline.aws`)."""

AT_ONCE: dict[str, Callable[[CheckContext], CheckResult]] = {
    "bootstrap": account.bootstrap,
    "quotas": account.instance_quotas,
    "bedrock": account.bedrock_model,
    "base model": sources.model,
    "dataset": sources.dataset,
    "template": stack.changes,
    "serving": stack.serving,
}
"""The checks that need nothing of each other. They run at once, after those that all others need."""

FIRST = ("versions", "settings", "region", "credentials", "stack", "token")
"""The checks that all others need, in their order."""

COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


class Ended(Exception):
    """No further check can be made. The text says why."""


class Doctor:
    """Collects the results of the checks, by their names."""

    def __init__(self) -> None:
        """Begin without any result."""
        self.results: dict[str, CheckResult] = {}
        self.not_checked: dict[str, str] = {}

    def check(self, name: str, look: Callable[[], tuple[CheckResult, Found]], ends: str = "") -> Found | None:
        """Make a check that others need. Return what it has found, or None if it fails.

        Raises:
            Ended: it fails, and `ends` says why nothing else can be checked then.
        """
        try:
            self.results[name], found = look()
        except Exception as error:
            if isinstance(error, NotChecked):
                self.not_checked[name] = str(error)
            else:
                self.results[name] = _of_error(error)
            if ends or isinstance(error, stack.WrongRegion):
                raise Ended(ends or "it would be about the wrong Region") from error
            return None
        return found

    def check_at_once(self, checked: CheckContext) -> None:
        """Make all checks that need nothing of each other. One that hangs does not hold doctor up."""
        ended: queue.Queue[str] = queue.Queue()

        def run(name: str) -> None:
            self.check(name, lambda: (AT_ONCE[name](checked), None))
            ended.put(name)

        for name in AT_ONCE:
            threading.Thread(target=run, args=(name,), daemon=True).start()
        waiting, deadline = set(AT_ONCE), time.monotonic() + DEADLINE_SECONDS
        with Console(stderr=True).status("") as shown:
            while waiting:
                shown.update(f"Checking {', '.join(name for name in AT_ONCE if name in waiting)}")
                try:
                    waiting.remove(ended.get(timeout=max(0.0, deadline - time.monotonic())))
                except queue.Empty:
                    break
        for name in waiting:
            self.results[name] = warning(
                f"no answer within {DEADLINE_SECONDS} seconds; check the network, and try again"
            )

    @property
    def status(self) -> Status:
        """The worst status of all checks."""
        found = {result.status for result in self.results.values()}
        return "failure" if "failure" in found else "warning" if "warning" in found else "ok"

    def lines(self) -> list[tuple[str, CheckResult]]:
        """Return the checks in their order, with their results."""
        return [(name, self.results[name]) for name in (*FIRST, *AT_ONCE) if name in self.results]


def _of_error(error: Exception) -> CheckResult:
    """Return the result of a check that an error has ended. Errors that may pass by themselves are warnings."""
    if isinstance(error, (Refused, SettingsError, aws.AwsRefused, OSError)):
        return failure(str(error))
    if isinstance(error, (SourceUnavailable, Interrupted)):
        return warning(f"{error}; wait a while, and try again")
    if isinstance(error, (ClientError, BotoCoreError)):
        return warning(of_aws(error)) if aws.is_busy(error) else failure(of_aws(error))
    # A defect of one check must not hide the others.
    return failure(f"this check has a defect ({error!r}); report it to the project")


def examine(file: Path | None) -> Doctor:
    """Make all checks that can be made."""
    doctor = Doctor()
    doctor.check("versions", lambda: (machine.versions(), None))
    try:
        settings = doctor.check("settings", lambda: machine.settings(file), "the settings are wrong")
        assert settings is not None
        region = doctor.check("region", lambda: account.region(settings), "there is no such Region")
        assert region is not None
        who = doctor.check("credentials", lambda: account.credentials(region.name), "the credentials do not work")
        checked = CheckContext(settings, file, region, who or "")
        checked = doctor.check("stack", lambda: stack.find(checked)) or checked
        token = doctor.check("token", lambda: sources.hub_token(checked))
        doctor.check_at_once(replace(checked, token=token))
    except Ended as why:
        doctor.not_checked |= {name: str(why) for name in (*FIRST, *AT_ONCE) if name not in doctor.results}
    return doctor


def doctor(settings: SettingsFile = None, as_json: Json = False) -> None:
    """Check this machine, the account and the stack before a run.

    It spends nothing and changes nothing. Each line is ok, a warning or a failure, with its remedy. The exit code is 1 if
    there is a failure. Otherwise it is 0, also with warnings.
    """
    found = examine(settings)
    if as_json:
        checks = [{"check": name, "status": result.status, "line": result.line} for name, result in found.lines()]
        print_json({"status": found.status, "checks": checks, "not_checked": found.not_checked})
    else:
        _print(found)
    if found.status == "failure":
        raise typer.Exit(1)


def _print(found: Doctor) -> None:
    """Print a table to a terminal, and elsewhere one line for each check."""
    lines: list[tuple[str, str, str]] = [(result.status, name, result.line) for name, result in found.lines()]
    by_reason: dict[str, list[str]] = {}
    for name, why in found.not_checked.items():
        by_reason.setdefault(why, []).append(name)
    lines += [("-", "not checked", f"{', '.join(of)}, because {why}") for why, of in by_reason.items()]
    if not console.is_terminal:
        for status, name, line in lines:
            print(f"{status:<8} {name:<12} {line}")
        return
    table = Table.grid(padding=(0, 2))
    for status, name, line in lines:
        table.add_row(Text(status, COLOURS.get(status, "dim")), name, Text(line))
    console.print(table, soft_wrap=False)
