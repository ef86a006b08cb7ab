"""The proof of least privilege: `python -m tests.proofs.roles`.

It deploys the stack on local AWS, runs it and destroys it (`life.py`). Then it evaluates every decision of IAM again, with each
grant of each role removed in turn. A grant that was not needed must be on the list of `unused.py`. One grant per state is also
removed in the account, and the run must fail in that state (`reruns.py`). The exit code is 0 only if all of this is so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from local.cdk import CdkError
from local_aws.session import LocalAwsError
from tests.proofs.grants import Assumed, Decision, ProofError, Replayed, Role, assumed, replay
from tests.proofs.life import LifeError, live
from tests.proofs.markdown import item
from tests.proofs.unused import UNUSED, Unused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.proofs.reruns import Rerun

# Without emoji and markup, which would change an ARN that has `:secret:`.
console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)


@dataclass(frozen=True)
class RoleLine:
    """One role's line of the table, and what is wrong with the role."""

    role: str
    grants: int
    used: int
    listed: int
    denied: int
    broken: tuple[str, ...]


def judge(replayed: Replayed, listed: Iterable[Unused]) -> RoleLine:
    """Compare the result of the replay with the list of unused grants."""
    named = [grant for entry in listed if entry.role == replayed.role.name for grant in entry.grants]
    unneeded = [str(grant) for grant in replayed.unneeded]
    covered = {str(grant) for grant in replayed.covered}
    broken = [
        f"not needed{', another grant allows the same' if grant in covered else ''}: {grant}"
        for grant in unneeded
        if grant not in named
    ]
    grants = [str(grant) for grant in replayed.role.grants]
    broken += [f"listed, but {'needed' if g in grants else 'no grant'}: {g}" for g in named if g not in unneeded]
    broken += [f"denied {d['count']} times: {d['action']} on {d['resource']}" for d in replayed.denied]
    denied = sum(decision["count"] for decision in replayed.denied)
    return RoleLine(replayed.role.name, len(grants), len(replayed.needed), len(named), denied, tuple(broken))


def report(
    roles: Sequence[Role],
    decisions: Sequence[Decision],
    reruns: Sequence[Rerun] = (),
    listed: Sequence[Unused] = UNUSED,
    write: Path | None = None,
) -> bool:
    """Print the tables, what is wrong, and the totals. Return whether nothing is wrong."""
    replays = [replay(role, decisions) for role in roles]
    lines = [judge(replayed, listed) for replayed in replays]
    table = Table(title="Roles", title_justify="left")
    for heading in ("role", "grants", "used", "on the list", "denied calls"):
        table.add_column(heading, justify="left" if heading == "role" else "right", overflow="fold")
    for line in lines:
        table.add_row(line.role, *map(str, (line.grants, line.used, line.listed, line.denied)))
    console.print(table)
    for replayed in replays:
        for decision in replayed.refused:
            console.print(
                f"{replayed.role.name}: {decision['action']} on {decision['resource']}: a resource's policy denied it"
            )
    trust = assumed(roles, decisions)
    console.print("assumed by: " + "; ".join(_by_service(trust)))
    removals = Table(title="One grant per state, removed in the account", title_justify="left")
    for heading in ("state", "role", "grant", "failed in", "held"):
        removals.add_column(heading, overflow="fold")
    for rerun in reruns:
        removals.add_row(rerun.state, rerun.role, rerun.grant, rerun.failed_in, "yes" if rerun.held else "no")
    if reruns:
        console.print(removals)
    broken = [f"{line.role}: {text}" for line in lines for text in line.broken]
    broken += [f"{r.state}: without {r.grant} the run failed in {r.failed_in}" for r in reruns if not r.held]
    broken += [f"{entry.role}: listed, but no role" for entry in listed if entry.role not in {r.name for r in roles}]
    broken += [f"{entry.role}: {entry.service} was refused to assume it" for entry in trust if not entry.allowed]
    # A role need not be assumed if all its grants are on the list.
    never = {line.role for line in lines if line.used or line.listed < line.grants}
    never -= {entry.role for entry in trust if entry.allowed}
    broken += [f"{role}: never assumed" for role in sorted(never)]
    for text in broken:
        console.print(text, style="red")
    totals = [sum(getattr(line, name) for line in lines) for name in ("grants", "used", "listed", "denied")]
    counts = "{} grants, {} used, {} listed, {} denied".format(*totals)
    removed = f"{sum(rerun.held for rerun in reruns)} of {len(reruns)} removals failed their state"
    total = f"roles: {len(lines)} roles, {counts}, {removed}: {'broken' if broken else 'held'}"
    if write:
        write.write_text(_markdown(total, lines, reruns, listed), encoding="utf-8")
    console.print(total)
    return not broken


def _markdown(total: str, lines: Sequence[RoleLine], reruns: Sequence[Rerun], listed: Sequence[Unused]) -> str:
    """Return the page for docs/, with its date."""
    text = [
        f"{time.strftime('%Y-%m-%d')}: {total}",
        "",
        "| Role | Grants | Used | On the list | Denied calls |",
        "|---|---|---|---|---|",
    ]
    text += [f"| {line.role} | {line.grants} | {line.used} | {line.listed} | {line.denied} |" for line in lines]
    text += ["", "Each grant that was really removed, with the state in which the run failed then:", ""]
    text += [item(f"- {r.state}, of {r.role}: `{r.grant}`. It failed in {r.failed_in}.") for r in reruns]
    text += ["", "Grants that this life cannot show to be needed, with why they stay, and the source:", ""]
    for entry in listed:
        text.append(item(f"- {entry.role}: {entry.reason} ({entry.source})"))
        text += [item(f"  - `{grant}`") for grant in entry.grants]
    return "\n".join([*text, ""])


def _by_service(trust: Iterable[Assumed]) -> list[str]:
    roles: dict[str, list[str]] = {}
    for entry in trust:
        if entry.allowed and entry.role not in roles.setdefault(entry.service, []):
            roles[entry.service].append(entry.role)
    return [f"{service}: {', '.join(names)}" for service, names in sorted(roles.items())]


def main() -> None:
    """Run the proof, print the report, and exit with 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.roles")
    parser.add_argument("--write", type=Path, help="file for the tables, in Markdown")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="tuneway-roles-") as folder:
            roles, decisions, reruns = live(Path(folder), console.print)
        success = report(roles, decisions, reruns, write=arguments.write)
    except (LifeError, ProofError, CdkError, LocalAwsError) as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if success else 1)


if __name__ == "__main__":
    main()
