"""`cdk destroy` takes everything that runs made, and nothing of a stack whose name begins alike."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from local import inventory
from local.cdk import CdkError
from tests.local.deployed import synthesise

if TYPE_CHECKING:
    from local_aws.session import LocalAws
    from tests.local.deployed import Deployed

OPTION = "--custom-model-deployment-identifier"
ENDS = ("endpoint ", "endpoint config ", "model ", "training job ", "objects in ")


@pytest.fixture(scope="module")
def neighbour(aws: LocalAws, stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A second stack, whose name begins with the first one's (and not as that one's prefix, which has a hash after it)."""
    deployed = synthesise(tmp_path_factory.mktemp("neighbour"), aws, stack={"name": f"{stack.name}-two"})
    deployed.deploy()
    return deployed


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


def test_destroy_over_a_serving_endpoint_names_what_somebody_else_holds_and_leaves_nothing(
    stack: Deployed, aws: LocalAws
) -> None:
    if stack.endpoint() is None:
        assert stack.run({})["status"] == "SUCCEEDED"
    bedrock = aws.client("bedrock")
    model = bedrock.list_custom_models(nameContains=stack.prefix)["modelSummaries"][0]["modelArn"]
    deployment = bedrock.create_custom_model_deployment(modelDeploymentName="somebody-elses", modelArn=model)[
        "customModelDeploymentArn"
    ]
    identifier = {"customModelDeploymentIdentifier": deployment}
    before, deadline = len(stack.log.read_text()), time.time() + 60

    def shown() -> str:
        return stack.log.read_text()[before:]

    def custom_models() -> list[dict[str, Any]]:
        return list(bedrock.list_custom_models(nameContains=stack.prefix)["modelSummaries"])

    with ThreadPoolExecutor(1) as pool:
        destroyed = pool.submit(stack.cdk, "destroy", "--force")
        # What the terminal shows within a minute, with the command that lets the model go.
        while f"aws bedrock delete-custom-model-deployment --region us-west-2 {OPTION} {deployment}" not in shown():
            assert time.time() < deadline, shown()
            time.sleep(0.5)
        # All else has ended, too, a minute later, while the model is waited for.
        while [line for line in stack.left() if line.startswith(ENDS)] or len(custom_models()) > 1:
            assert time.time() < deadline + 60, stack.left()
            time.sleep(0.5)
        assert not destroyed.done()
        assert [held["modelArn"] for held in custom_models()] == [model]
        bedrock.delete_custom_model_deployment(**identifier)
        with pytest.raises(CdkError, match="destroy"):
            destroyed.result(timeout=60)
    assert custom_models() == []
    stack.cdk("destroy", "--force")
    assert inventory.left(aws.client) == []
