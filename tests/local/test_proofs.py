"""A sample of `make prove-failures`: a chain of failures and redrives in one state, up to a served model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.proofs.cells import CHAINS
from tests.proofs.failures import Result, World, quick_waits, run_chain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.deployed import Deployed

# State -> the kinds of its chain that are run here, beside what a retry mends and the redrive to a served model.
SAMPLE = {
    "Train": ("capacity", "aborted, job left running"),
    "Deploy, nothing before": ("container never healthy", "aborted", "function out of memory"),
}


@pytest.mark.parametrize("name", SAMPLE)
def test_failures_lead_to_one_notice_and_a_redrive_to_a_served_model(
    stack: Deployed, tmp_path: Path, name: str
) -> None:
    (chain,) = [chain for chain in CHAINS if chain.name == name]
    cells = tuple(cell for cell in chain.fails if cell.kind in SAMPLE[name])
    assert len(cells) == len(SAMPLE[name])
    results: list[Result] = []
    with quick_waits(stack.aws):
        run_chain(World(stack, tmp_path), replace(chain, fails=cells), results, lambda result: None)
    assert [result for result in results if result.problems] == []
    assert len(results) == len(cells) + len(chain.mended) + 1
