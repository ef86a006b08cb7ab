"""What a run has cost, in lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.contracts.money import Spent

NOT_KNOWN = "not known"


def lines(spent: Spent) -> list[str]:
    """Return what the run has cost by part, and what goes on to cost money."""
    parts = ", ".join(f"{part.part} {dollars(part.usd)} ({part.basis})" for part in spent.parts)
    found = [f"Spent: {dollars(spent.total)} in US dollars, before tax: {parts}"]
    for one in spent.ongoing:
        hourly = NOT_KNOWN if one.usd_per_hour is None else f"{one.usd_per_hour:.4g} dollars"
        end = f"until {one.until} at the latest" if one.until else "until it is deleted"
        found.append(f"Goes on: {one.what}, per hour {hourly}, {end}")
    return found


def dollars(amount: float | None) -> str:
    """Return an amount in words. An unknown amount is never 0."""
    return NOT_KNOWN if amount is None else f"{amount:.2f}"
