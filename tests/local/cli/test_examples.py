"""The plans in the examples are those that the command prints now, for the same rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.outputs import PAIR, OutputOptions, Runner
from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from tests.local.cli.conftest import HealthyAccount

PAGES = ("docs/examples/own-csv.md", "docs/examples/german.md")
FOUND = [
    (page, found["code"], found["options"], found["output"])
    for page in PAGES
    for found in PAIR.finditer((ROOT / page).read_text(encoding="utf-8"))
    if found["code"].startswith("tuneway plan")
]
SAME = re.compile(r".* rows? read as .*|\d+: (?:dialogue|summary|duplicate) .*")
"""The parts of a plan that are the same with the tests' settings: the rows that are read and rejected."""


def same(output: str) -> list[str]:
    """Return these parts of an output, each without its line breaks. A refusal is the same as a whole."""
    if output.startswith("error: "):
        return [" ".join(output.split())]
    pieces = re.split(r"\n(?=\S)|\n +(?=\d)", output)
    return [line for piece in pieces if SAME.fullmatch(line := " ".join(piece.split()))]


@pytest.mark.parametrize(
    ("page", "code", "options", "output"), FOUND, ids=[f"{page}-{number}" for number, (page, *_) in enumerate(FOUND)]
)
def test_a_plan_says_the_same_of_the_rows(
    account: HealthyAccount, page: str, code: str, options: str, output: str
) -> None:
    expected = same(output)
    assert expected, page
    printed = Runner(account.stack, account.settings).run("bash", code, OutputOptions.parsed(options))
    assert same(OutputOptions().trimmed(printed)) == expected
