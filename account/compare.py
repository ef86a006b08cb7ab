"""Compares two recordings by the rows of local_aws/PARITY.md: `python -m account.compare ACCOUNT [LOCAL] [--write FILE]`.

The first recording is the account's, and the second local AWS's. A difference names the rows that it may be about: those of
its service that name its operation, its member, its error or its value. A difference without a row is news.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from account.recording import read
from local_aws import parity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOCAL = Path(__file__).resolve().parent.parent / "docs" / "account" / "local.jsonl"
"""The recording of local AWS. `make test-account LOCAL=1` writes it."""

SERVICES = {
    "accessanalyzer": ("IAM",),
    "bedrock": ("Bedrock",),
    "bedrock-runtime": ("Bedrock",),
    "cloudformation": ("CloudFormation",),
    "cloudwatch": ("CloudWatch",),
    "iam": ("IAM",),
    "lambda": ("Lambda",),
    "logs": ("Lambda", "CloudWatch", "SageMaker"),
    "openai": ("SageMaker",),
    "pricing": ("Price List",),
    "s3": ("IAM",),
    "sagemaker": ("SageMaker",),
    "sagemaker-runtime": ("SageMaker",),
    "scheduler": ("EventBridge Scheduler",),
    "service-quotas": ("Service Quotas",),
    "stepfunctions": ("Step Functions",),
    "sts": ("IAM",),
}
"""botocore's name of a service -> the sections of PARITY.md that may have its rows."""

AT_A_MOMENT = {
    # Service, operation and outcome of calls whose outcome depends on the moment of a look, each with the reason.
    ("logs", "DescribeLogStreams", "400 ResourceNotFoundException"): "the group comes with the account's first job",
}

MOST_ROWS = 3
"""The most rows that a difference names."""

_HEAD = """# What AWS answered, beside local AWS

`python -m account.compare {first} {second}` wrote this page. The first recording is the account's, the second
local AWS's. [The page of the driver](../account.md) says how to read it. A row is one of
[local_aws/PARITY.md](../../local_aws/PARITY.md), by its id.
"""


class Difference(NamedTuple):
    """A difference between two recordings.

    Attributes:
        step: the step of the life.
        service: botocore's name of the service, or `openai`.
        operation: the operation.
        what: what differs.
        account: the account's side.
        local: local AWS's side.
        rows: the rows of PARITY.md that it may be about, the best first.
    """

    step: str
    service: str
    operation: str
    what: str
    account: str
    local: str
    rows: list[parity.Marker]


def differences(account: list[dict[str, Any]], local: list[dict[str, Any]]) -> list[Difference]:
    """Return how two recordings differ.

    An outcome is compared by step, and members and values by operation in the whole life: which of the optional members a
    single answer has depends on the moment of the call.
    """
    orders = list(_orders(_kind(account, "order"), _kind(local, "order")))
    members = (one for one in _members(_calls(account), _calls(local)) if not _told(one, orders))
    found = [*_outcomes(_calls(account), _calls(local)), *members, *orders]
    markers = list(parity.markers())
    return [one._replace(rows=rows(one, markers)) for one in found]


def _kind(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == kind]


def _calls(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _kind(lines, "call")


def _outcomes(account: list[dict[str, Any]], local: list[dict[str, Any]]) -> Iterator[Difference]:
    """Yield each operation of a step that ended otherwise: with another status, code or text."""

    def ends(lines: list[dict[str, Any]]) -> dict[tuple[str, str, str], set[str]]:
        found: dict[tuple[str, str, str], set[str]] = {}
        for line in lines:
            words = f"{line['status']} {line['error'] or ''}".strip()
            if (line["service"], line["operation"], words) in AT_A_MOMENT:
                continue
            text = f": {line['message']}" if line["message"] else ""
            key = (line["step"], line["service"], line["operation"])
            found.setdefault(key, set()).add(f"{words}{text}")
        return found

    first, second = ends(account), ends(local)
    for step, service, operation in sorted(first.keys() & second.keys()):
        ours, theirs = first[step, service, operation], second[step, service, operation]
        if ours != theirs:
            sides = (_joined(sorted(ours - theirs)), _joined(sorted(theirs - ours)))
            yield Difference(step, service, operation, "outcome", *sides, [])
    for key in sorted(first.keys() ^ second.keys()):
        sides = (_joined(sorted(first.get(key, ()))), _joined(sorted(second.get(key, ()))))
        yield Difference(*key, "called on one side only", *sides, [])


def _members(account: list[dict[str, Any]], local: list[dict[str, Any]]) -> Iterator[Difference]:
    """Yield each member that only one side has, or has with another type, and each new value of an enumeration."""

    def members(lines: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, set[str]]]:
        found: dict[tuple[str, str], dict[str, set[str]]] = {}
        for line in lines:
            own = found.setdefault((line["service"], line["operation"]), {})
            for path, kinds in line["members"].items():
                own.setdefault(path, set()).update(kinds)
        return found

    def values(lines: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(line["service"], kind) for line in lines for kinds in line["members"].values() for kind in kinds}

    first, second = members(account), members(local)
    known = values(account), values(local)
    for service, operation in sorted(first.keys() & second.keys()):
        ours, theirs = first[service, operation], second[service, operation]
        for path in sorted(ours.keys() | theirs.keys()):
            if _above(path, ours) or _above(path, theirs):
                continue  # The list or structure above it is only on one side, which is one difference.
            sides = ours.get(path, set()), theirs.get(path, set())
            # A status that a poll of one call has missed was seen by another call of the service.
            news = [
                {kind for kind in sides[side] - sides[1 - side] if (service, kind) not in known[1 - side]}
                if "=" in "".join(sides[side])
                else sides[side] - sides[1 - side]
                for side in (0, 1)
            ]
            if not sides[0] or not sides[1]:
                yield Difference("", service, operation, path, _joined(sorted(sides[0])), _joined(sorted(sides[1])), [])
            elif any(news):
                yield Difference("", service, operation, path, _joined(sorted(news[0])), _joined(sorted(news[1])), [])


def _told(member: Difference, orders: list[Difference]) -> bool:
    """Return whether a new value of an enumeration is also in an order of the same operation, which says more."""
    values = re.findall(r"=([^,]+)", f"{member.account}, {member.local}")
    return bool(values) and any(
        (one.service, one.operation) == (member.service, member.operation)
        and all(value in f"{one.account}, {one.local}".split(", ") for value in values)
        for one in orders
    )


def _above(path: str, members: dict[str, set[str]]) -> bool:
    """Return whether a list or map above this path is empty on this side, so that nothing is known of its items."""
    above = [path[: found.start()] for found in re.finditer(r"\[\]|\{\}", path)]
    return any(
        part in members and not any(other.startswith((f"{part}[]", f"{part}{{}}")) for other in members)
        for part in above
    )


def _orders(account: list[dict[str, Any]], local: list[dict[str, Any]]) -> Iterator[Difference]:
    """Yield each order that differs: the values of one side alone, or else both orders."""
    first = {(line["step"], line["of"]): line for line in account}
    second = {(line["step"], line["of"]): line for line in local}
    for key in [*first, *(key for key in second if key not in first)]:
        line = first.get(key) or second[key]
        ours = first[key]["values"] if key in first else []
        theirs = second[key]["values"] if key in second else []
        if ours == theirs:
            continue
        extra = [value for value in ours if value not in theirs], [value for value in theirs if value not in ours]
        sides = extra if any(extra) else (ours, theirs)
        yield Difference(
            key[0], line["service"], line["operation"], f"order: {key[1]}", _joined(sides[0]), _joined(sides[1]), []
        )


def _joined(values: Iterable[str]) -> str:
    return ", ".join(values) or "nothing"


def rows(difference: Difference, markers: list[parity.Marker]) -> list[parity.Marker]:
    """Return the rows that a difference may be about, the best first.

    A row fits if it names the operation, or a word of the member, the error or the value that differs. Such words are AWS's
    own: they have a capital letter within, or stand in backticks.
    """
    sections = SERVICES.get(difference.service, ())
    operation, sides = _names(difference.operation), f"{difference.account} {difference.local}"
    names = _names(f"{difference.what} {sides}")
    # A status is one word with a capital letter. In other texts such a word says nothing.
    if "=" in sides or difference.what.startswith("order"):
        names |= set(re.findall(r"\b[A-Z][a-z]{4,}\b", sides))
    found = []
    for marker in markers:
        if marker.service not in sections:
            continue
        title = _names(marker.what) | set(re.findall(r"\b[A-Z][a-z]{4,}\b", marker.what))
        text = set(re.findall(r"\w{5,}", " ".join(marker.fields.values())))
        score = 4 * len((operation | names) & title) + 3 * len(names & text) + len(operation & text)
        if difference.service == "openai":  # Its questions are named in words, and not by an operation.
            score += len(_plain(difference.operation) & _plain(marker.what)) ** 2
        if score:
            found.append((-score, marker.what, marker))
    best = sorted(found, key=lambda one: one[:2])[:MOST_ROWS]
    return [marker for score, _, marker in best if 2 * score <= best[0][0]]


def _names(text: str) -> set[str]:
    """Return the names of AWS in a text: words in mixed case, and those in backticks."""
    quoted = " ".join(re.findall(r"`([^`]+)`", text))
    mixed = {word for word in re.findall(r"[A-Za-z]{4,}", text) if re.search(r"[a-z][A-Z]", word)}
    return mixed | set(re.findall(r"[A-Za-z]{5,}", quoted))


def _plain(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{5,}", text.lower()))


def page(found: list[Difference], first: str, second: str) -> str:
    """Return the page of the differences: those with a row, by service, and then those without."""
    lines = [_HEAD.format(first=first, second=second)]
    if not found:
        lines.append("There is no difference.\n")
    for title, some in (
        ("Differences that a row may explain", [one for one in found if one.rows]),
        ("Differences without a row", [one for one in found if not one.rows]),
    ):
        if some:
            lines.append(f"## {title}\n")
        for one in some:
            where = f" ({one.step})" if one.step else ""
            lines.append(_wrapped(f"- **{one.service} {one.operation}**{where}: {one.what}"))
            lines.append(_wrapped(f"  - Account: {_cut(one.account)}"))
            lines.append(_wrapped(f"  - Local AWS: {_cut(one.local)}"))
            named = "; ".join(f"{row.id} {row.what}" for row in one.rows)
            lines.append(_wrapped(f"  - Rows: {named or 'no row'}"))
        if some:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


LONGEST = 600
"""The most characters of a side of a difference that are shown. The recordings have the rest."""


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text) - LONGEST} more characters)"


def _wrapped(text: str) -> str:
    indent = " " * (text.index("-") + 2)
    # Markdown would read a word in angle brackets as HTML.
    plain = text.replace("<", "&lt;")
    return textwrap.fill(plain, 120, subsequent_indent=indent, break_long_words=True, break_on_hyphens=False)


def show(account: Path, local: Path, target: Path | None) -> list[Difference]:
    """Compare two recordings, print a line for each difference, and write the page. Return the differences."""
    if not local.is_file():
        print(f"Not compared: there is no {local}; write it with `make test-account LOCAL=1`")
        return []
    first, second = read(account), read(local)
    for path, lines in ((account, first), (local, second)):
        if not all(line["complete"] for line in _kind(lines, "life")):
            print(f"Not whole: the life of {path} has ended early, so what it did not reach is a difference, too")
    found = differences(first, second)
    for one in found:
        ids = " ".join(row.id for row in one.rows) or "no row"
        print(f"{ids:<24} {one.service} {one.operation}: {one.what}: {_cut(one.account)} | local: {_cut(one.local)}")
    print(f"{len(found)} differences, {sum(not one.rows for one in found)} of them without a row of PARITY.md")
    if target:
        target.write_text(page(found, _shown(account), _shown(local)), encoding="utf-8")
        print(f"Written: {target}")
    return found


def _shown(path: Path) -> str:
    root = LOCAL.parents[2]
    return path.resolve().relative_to(root).as_posix() if path.resolve().is_relative_to(root) else path.name


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(prog="python -m account.compare")
    parser.add_argument("account", type=Path, help="the recording of the account")
    parser.add_argument("local", type=Path, nargs="?", default=LOCAL, help="the recording of local AWS")
    parser.add_argument("--write", type=Path, help="the page of the differences")
    given = parser.parse_args()
    try:
        show(given.account, given.local, given.write)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {error}; name two recordings of `python -m account.run`")


if __name__ == "__main__":
    main()
