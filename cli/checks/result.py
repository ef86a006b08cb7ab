"""What a check returns: whether all is well, and one line that says what is, or what is wrong and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pipeline import aws

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings
    from serving.stack import Region, Stack

Status = Literal["ok", "warning", "failure"]


class CheckResult(NamedTuple):
    """The status of a check, and its line."""

    status: Status
    line: str


def ok(line: str) -> CheckResult:
    """Return that all is well."""
    return CheckResult("ok", line)


def warning(line: str) -> CheckResult:
    """Return that a run may go wrong, or that something is not known. The line has the remedy."""
    return CheckResult("warning", line)


def failure(line: str) -> CheckResult:
    """Return that a run cannot succeed. The line has the remedy."""
    return CheckResult("failure", line)


def of_lines(warnings: list[str], well: str) -> CheckResult:
    """Return a warning with these lines, or ok if there are none."""
    return warning("; ".join(warnings)) if warnings else ok(well)


class NotChecked(Exception):
    """The check has nothing to look at, because of what another line says."""


@dataclass(frozen=True)
class CheckContext:
    """What the checks look at.

    Attributes:
        settings: today's settings.
        file: the settings file that is laid over config.yaml.
        region: the Region of the stack.
        account: the account's id.
        described: the stack as DescribeStacks returns it. None if it is not deployed or could not be described.
        stack: the deployed stack. None if it does not have all its outputs.
        token: the Hub token. None if it is not needed or cannot be read.
    """

    settings: Settings
    file: Path | None
    region: Region
    account: str
    described: dict[str, Any] | None = None
    stack: Stack | None = None
    token: str | None = field(default=None, repr=False)

    def client(self, service: str) -> Any:
        """Return a client of the stack's Region."""
        return aws.client(service, region_name=self.region.name)
