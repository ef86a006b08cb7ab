"""`cdk destroy` takes everything that runs made, and nothing of a stack whose name begins alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local import inventory
from tests.local.conftest import Deployed, synthesise
from tests.local.test_moments import ENDED
from tests.local.test_moments import NAME as MOMENTS

if TYPE_CHECKING:
    from local.session import LocalAws


@pytest.fixture(scope="module")
def neighbour(aws: LocalAws, stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A second stack, whose name begins with the first one's (and not as that one's prefix, which has a hash after it)."""
    folder = tmp_path_factory.mktemp("neighbour")
    layer = Path(__file__).with_name("settings.yaml")
    assembly, name = synthesise(folder, layer, stack={"name": f"{stack.name}-two"})
    deployed = Deployed(aws, name, assembly, folder / "cdk.log")
    deployed.deploy()
    return deployed


def test_of_the_stack_of_the_ten_moments_nothing_came_back_a_minute_later(aws: LocalAws) -> None:
    if not ENDED:
        pytest.skip("test_moments.py did not run")
    time.sleep(max(0.0, ENDED[0] + 60 - time.time()))
    assert [line for line in inventory.left(aws.client) if MOMENTS in line] == []
    assert [denial for denial in aws.denied() if MOMENTS in denial["principal"]] == []


def test_destroy_in_the_middle_of_training_stops_it_and_spares_the_neighbour(
    stack: Deployed, neighbour: Deployed, aws: LocalAws
) -> None:
    before = [line for line in inventory.left(aws.client) if neighbour.name not in line]
    arn = neighbour.start({"training": {"max_steps": 100_000, "epochs": 100, "max_runtime_minutes": 60}})
    deadline = time.time() + 60
    while "Train" not in neighbour.states(arn):
        assert time.time() < deadline
        time.sleep(0.5)
    time.sleep(2)
    neighbour.cdk("destroy", "--force")
    left = inventory.left(aws.client)
    assert [line for line in left if neighbour.name in line] == []
    # What belongs to the stack whose name begins alike is all still there.
    assert len(before) > 10
    assert set(before) <= set(left)


def test_destroy_over_a_serving_endpoint_leaves_nothing(stack: Deployed, aws: LocalAws) -> None:
    if stack.endpoint() is None:
        assert stack.run({})["status"] == "SUCCEEDED"
    stack.cdk("destroy", "--force")
    assert inventory.left(aws.client) == []
    # A run of test_refusals names a bucket that is nobody's: Plan may not list that.
    assert [denial for denial in aws.denied() if "no-such-bucket-here" not in denial["resource"]] == []
