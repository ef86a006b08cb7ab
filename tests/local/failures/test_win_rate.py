"""A judge model decides, or is denied. The stack is deployed once more for it, and no later module needs the old one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.deployed import JUDGED, synthesise
from tests.proofs.datasets import DIFFERENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Deployed

PROFILE = "us.amazon.nova-lite-v1:0"
BY_JUDGE: dict[str, Any] = {
    # So large steps that the tuned model says something else than its base. Equal answers are ties, and asked of nobody.
    "training": {
        **DIFFERENT["training"],
        "evaluation": {**DIFFERENT["training"]["evaluation"], "promote_by": "judge"},
    },
    "bedrock": {"mode": "off"},
    "endpoint": {"promote": "clearly_better"},
}


@pytest.fixture(scope="module")
def judged(stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The stack with a judge model, to which the account has no access yet."""
    again = synthesise(tmp_path_factory.mktemp("judged"), stack.aws, training=JUDGED)
    assert again.name == stack.name
    again.deploy()
    yield again
    again.judge()


def answers(stack: Deployed, output: dict[str, Any]) -> list[dict[str, Any]]:
    bucket, _, key = output["model"].removeprefix("s3://").partition("/")
    body = stack.aws.client("s3").get_object(Bucket=bucket, Key=f"{key}tuneway/answers.jsonl")["Body"].read()
    return [json.loads(line) for line in body.decode().splitlines()]


def test_a_judge_decides_and_one_without_access_loses_no_model(judged: Deployed) -> None:
    ended = judged.run(BY_JUDGE)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    output = ended["output"]
    states = judged.states(ended["executionArn"])
    assert states[states.index("Assess") - 2 : states.index("Assess") + 1] == ["Trained", "Judge", "Assess"]
    assert output["promoted"] is False
    assert "not promoted, because training.evaluation.promote_by is judge, and there is no win rate: " in output["why"]
    assert "failed by AccessDeniedException" in output["why"]
    assert f"`tuneway serve {output['model_run']} --not-promoted` serves it nevertheless" in output["why"]
    judged.wait_for_cleanup(ended["executionArn"])

    # The same run trains the same model, so that its answers are known before the judge is asked.
    made = answers(judged, output)
    different = [row for row in made if row["tuned"].strip() != row["base"].strip()]
    assert (len(made), len(different) >= 6) == (8, True)
    better = [
        (re.escape(f'"answer_{place}": {json.dumps(row["tuned"], ensure_ascii=False)}'), f'{{"winner": "{place}"}}')
        for row in different
        for place in "ab"
    ]
    judged.judge(*better)
    ended = judged.run(BY_JUDGE)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    output = ended["output"]
    assert output["why"].startswith(f"win rate by {PROFILE} on 8 held-out rows: "), output["why"]
    assert f"), {len(different)} won, {8 - len(different)} tied, 0 lost; ROUGE-L: " in output["why"]
    assert output["promoted"] is True
    assert output["scores"]["judge"]["disagreeing"] == 0
    parts = {part["part"]: part for part in output["spent"]["parts"]}
    assert parts["judge"]["basis"] == "billed"
    assert 0 < parts["judge"]["usd"] <= output["estimate"]["judge"]
    message = judged.wait_for_cleanup(ended["executionArn"])["message"]
    assert "win rate by" in message
    page = judged.aws.client("s3").get_object(
        Bucket=judged.outputs["BucketName"], Key=output["report"].split("/", 3)[3]
    )
    assert "Judge model" in page["Body"].read().decode()
