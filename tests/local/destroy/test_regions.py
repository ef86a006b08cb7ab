"""Deploy, runs and destroy where the account has no Bedrock: in a Region without it, and where a policy denies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local import inventory
from tests.local.deployed import Deployed, on_its_own, synthesise

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.session import LocalAws


def test_a_region_without_bedrock(tmp_path: Path) -> None:
    absent = {"kind": "no-endpoint", "service": "bedrock"}
    with on_its_own(tmp_path, "ap-east-1", [absent], bedrock={"mode": "off"}) as stack:
        run_and_destroy(
            stack,
            absent,
            "Tuneway.Refused",
            "no base model can be customized in ap-east-1; use a region of us-east-1, us-west-2, or set bedrock.mode to off",
        )
        assert inventory.left(stack.aws.client) == []


def test_an_account_that_may_not_use_bedrock(aws: LocalAws, tmp_path: Path) -> None:
    denied = {"kind": "deny", "action": "bedrock:*", "principal": ":assumed-role/"}
    stack = synthesise(tmp_path, aws, stack={"name": "tuneway-denied"}, bedrock={"mode": "off"})
    stack.bootstrap()
    stack.faults(denied)
    stack.deploy()
    stack.quota(training=2, endpoint=4)
    run_and_destroy(stack, denied, "AwsRefused", "this account may not use Bedrock in us-west-2")
    stack.faults()


def run_and_destroy(stack: Deployed, fault: dict[str, str], error: str, reason: str) -> None:
    """Run executions without Bedrock that succeed, are refused and fail, each with its cleanup, and destroy the stack.

    Args:
        stack: the deployed stack.
        fault: the fault that takes Bedrock away.
        error: the error of a run that wants Bedrock.
        reason: a part of that run's cause.
    """
    ended = stack.run({})
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert (ended["output"]["bedrock"], ended["output"]["custom_model"]) == ("not wanted", None)
    cleanup = stack.wait_for_cleanup(ended["executionArn"])
    assert cleanup["left"] == []
    assert "Bedrock: no job" in cleanup["message"]

    # A run that wants Bedrock is refused before it has cost anything.
    before = stack.aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    ended = stack.run({"bedrock": {"mode": "customize"}})
    assert (ended["status"], ended["error"]) == ("FAILED", error), ended
    assert reason in ended["cause"]
    assert stack.aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == before
    assert stack.wait_for_cleanup(ended["executionArn"])["left"] == []

    stack.faults(fault, {"kind": "training", "how": "fail"})
    ended = stack.run({})
    assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed")
    assert stack.wait_for_cleanup(ended["executionArn"])["left"] == []
    stack.faults(fault)

    stack.cdk("destroy", "--force")
    assert stack.inventory() == []
