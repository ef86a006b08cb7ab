"""A sample of `make prove-failures`: failures of one state and redrives, until a model is served."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.proofs.cells import CHAINS
from tests.proofs.failures import FailureProof, Result, run_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Deployed

# Chain -> the kinds of failures that run here. The failures that a retry mends and the last redrive run, too.
SAMPLE = {
    "Train": ("throttled inside for good", "capacity", "aborted, job running"),
    "SmokeTest": ("endpoint answers with an error",),
}


@pytest.fixture(scope="module")
def proof(stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailureProof]:
    with stack.listening() as notices:
        yield FailureProof(stack, notices, tmp_path_factory.mktemp("proof"))


@pytest.mark.parametrize("name", SAMPLE)
def test_failures_lead_to_one_notice_and_a_redrive_to_a_served_model(proof: FailureProof, name: str) -> None:
    (chain,) = [chain for chain in CHAINS if chain.name == name]
    cells = tuple(cell for cell in chain.fails if cell.kind in SAMPLE[name])
    assert len(cells) == len(SAMPLE[name])
    results: list[Result] = []
    run_chain(proof, replace(chain, fails=cells), results, lambda result: None)
    assert [result for result in results if result.problems] == []
    assert len(results) == len(cells) + len(chain.mended) + 1


def test_a_cleanup_that_fails_is_reported_in_its_notice(proof: FailureProof) -> None:
    proof.notices()
    proof.stack.faults({"kind": "function", "function": "-cleanup$", "how": "crash"})
    ended = proof.stack.run({"trainin": {}})
    cleanup = proof.stack.wait_for_cleanup(ended["executionArn"])
    proof.stack.faults()
    assert "The cleanup failed: " in cleanup["message"]
    # The alarm on the errors of an earlier test's endpoint may come now.
    assert [notice for notice in proof.notices() if "-endpoint-errors" not in notice] == [cleanup["message"]]
