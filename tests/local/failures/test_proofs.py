"""A sample of `make prove-failures`: chains of failures and redrives in one state, each up to a served model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.proofs.cells import CHAINS
from tests.proofs.failures import FailureProof, Result, run_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Deployed

# Chain -> the kinds of it that are run here, beside what a retry mends and the redrive to a served model.
SAMPLE = {
    "Train": ("throttled inside for good", "capacity", "aborted, job running"),
    "SmokeTest": ("endpoint answers with an error",),
}


@pytest.fixture(scope="module")
def world(stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailureProof]:
    with stack.listening() as notices:
        yield FailureProof(stack, notices, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", SAMPLE)
def test_failures_lead_to_one_notice_and_a_redrive_to_a_served_model(world: FailureProof, name: str) -> None:
    (chain,) = [chain for chain in CHAINS if chain.name == name]
    cells = tuple(cell for cell in chain.fails if cell.kind in SAMPLE[name])
    assert len(cells) == len(SAMPLE[name])
    results: list[Result] = []
    run_chain(world, replace(chain, fails=cells), results, lambda result: None)
    assert [result for result in results if result.problems] == []
    assert len(results) == len(cells) + len(chain.mended) + 1


def test_a_cleanup_that_fails_says_so(world: FailureProof) -> None:
    world.notices()
    world.stack.faults({"kind": "function", "function": "-cleanup$", "how": "crash"})
    ended = world.stack.run({"trainin": {}})
    cleaned = world.stack.cleaned(ended["executionArn"])
    world.stack.faults()
    assert "The cleanup failed: " in cleaned["message"]
    assert world.notices() == [cleaned["message"]]
