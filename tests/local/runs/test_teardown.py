"""`cdk destroy` deletes everything that runs have made, and nothing of another stack whose name begins in the same way."""

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
DELETED_FIRST = ("endpoint ", "endpoint config ", "model ", "training job ", "objects in ")


@pytest.fixture(scope="module")
def other_stack(aws: LocalAws, stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A second stack, whose name begins with the first one's name, but not with its prefix, which has a hash after it."""
    deployed = synthesise(tmp_path_factory.mktemp("other"), aws, stack={"name": f"{stack.name}-other"})
    deployed.deploy()
    return deployed


def test_destroy_stops_a_training_job_and_spares_the_other_stack(
    stack: Deployed, other_stack: Deployed, aws: LocalAws
) -> None:
    before = [line for line in inventory.left(aws.client) if other_stack.name not in line]
    arn = other_stack.start({"training": {"max_steps": 100_000, "epochs": 100, "max_runtime_minutes": 60}})
    deadline = time.time() + 60
    while "Train" not in other_stack.states(arn):
        assert time.time() < deadline
        time.sleep(0.5)
    time.sleep(2)
    other_stack.cdk("destroy", "--force")
    after = inventory.left(aws.client)
    assert [line for line in after if other_stack.name in line] == []
    # Everything of the stack whose name begins in the same way is still there.
    assert len(before) > 10
    assert set(before) <= set(after)


def test_destroy_names_a_model_that_somebody_else_has_deployed_and_then_leaves_nothing(
    stack: Deployed, aws: LocalAws
) -> None:
    bedrock = aws.client("bedrock")
    if stack.endpoint() is None:
        # The models of other modules' runs are there, if these have run.
        models = bedrock.list_custom_models(nameContains=stack.prefix)["modelSummaries"]
        assert stack.run({"serve": "last"} if models else {})["status"] == "SUCCEEDED"
    model = bedrock.list_custom_models(nameContains=stack.prefix)["modelSummaries"][0]["modelArn"]
    deployment = bedrock.create_custom_model_deployment(modelDeploymentName="somebody-elses", modelArn=model)[
        "customModelDeploymentArn"
    ]
    identifier = {"customModelDeploymentIdentifier": deployment}
    before, deadline = len(stack.log.read_text()), time.time() + 60

    def output() -> str:
        return stack.log.read_text()[before:]

    def custom_models() -> list[dict[str, Any]]:
        return list(bedrock.list_custom_models(nameContains=stack.prefix)["modelSummaries"])

    with ThreadPoolExecutor(1) as pool:
        destroyed = pool.submit(stack.cdk, "destroy", "--force")
        try:
            # Within a minute the terminal shows the command that deletes the deployment.
            while (
                f"aws bedrock delete-custom-model-deployment --region us-west-2 {OPTION} {deployment}" not in output()
            ):
                assert time.time() < deadline, output()
                time.sleep(0.5)
            # A minute later everything else is deleted, while the teardown waits for the model.
            while [line for line in stack.inventory() if line.startswith(DELETED_FIRST)] or len(custom_models()) > 1:
                assert time.time() < deadline + 60, stack.inventory()
                time.sleep(0.5)
            assert not destroyed.done()
            assert [one["modelArn"] for one in custom_models()] == [model]
        finally:  # The destroy that the pool waits for would otherwise wait for the deployment.
            bedrock.delete_custom_model_deployment(**identifier)
        with pytest.raises(CdkError, match="destroy"):
            destroyed.result(timeout=60)
    assert custom_models() == []
    stack.cdk("destroy", "--force")
    assert inventory.left(aws.client) == []
