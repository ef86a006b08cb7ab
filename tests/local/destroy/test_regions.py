"""A whole life of the stack where the account has no Bedrock: in a Region without it, and in one where a policy denies it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local import inventory
from tests.local.deployed import on_its_own

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("region", "fault", "refused", "line"),
    [
        (
            "ap-east-1",
            {"kind": "no-endpoint", "service": "bedrock"},
            "Tuneway.Refused",
            "no base model can be customized in ap-east-1; use a region of us-east-1, us-west-2, or set bedrock.enabled to",
        ),
        (
            "us-west-2",
            {"kind": "deny", "action": "bedrock:*", "principal": ":assumed-role/"},
            "AwsRefused",
            "this account may not use Bedrock in us-west-2",
        ),
    ],
)
def test_it_deploys_runs_cleans_up_and_goes(
    tmp_path: Path, region: str, fault: dict[str, Any], refused: str, line: str
) -> None:
    with on_its_own(tmp_path, region, [fault], bedrock={"enabled": False}) as stack:
        ended = stack.run({})
        assert ended["status"] == "SUCCEEDED", ended.get("cause")
        assert (ended["output"]["bedrock"], ended["output"]["custom_model"]) == ("not wanted", None)
        cleaned = stack.cleaned(ended["executionArn"])
        assert cleaned["left"] == []
        assert "Bedrock: no job" in cleaned["message"]

        # A run that wants it is refused before it has cost anything.
        before = stack.aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        ended = stack.run({"bedrock": {"enabled": True}})
        assert (ended["status"], ended["error"]) == ("FAILED", refused), ended
        assert line in ended["cause"]
        assert stack.aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == before
        assert stack.cleaned(ended["executionArn"])["left"] == []

        ended = stack.run({"training": {"batch_size": 1024}})
        assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed")
        assert stack.cleaned(ended["executionArn"])["left"] == []

        stack.cdk("destroy", "--force")
        assert inventory.left(stack.aws.client) == []
