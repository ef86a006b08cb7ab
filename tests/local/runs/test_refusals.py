"""A user's mistake ends in a failed execution with one clear line, before any job has started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.deployed import Deployed

DATASET = {"source": "uploads/mine.jsonl"}


@pytest.fixture(scope="module")
def uploads(stack: Deployed) -> None:
    rows = [{"talk": f"Ann: number {n}?\nBob: yes, {n}.", "gist": f"They agree on {n}."} for n in range(30)]
    stack.upload("uploads/mine.jsonl", "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.parametrize(
    ("run_input", "expected"),
    [
        ({"trainin": {}}, "execution input: trainin: unknown field; allowed here: "),
        (
            {"stack": {"name": "x"}},
            "execution input: stack.name: is fixed when the stack is deployed; edit config.yaml",
        ),
        ({"training": {"epochs": "2"}}, "execution input: training.epochs: Input should be a valid integer, not '2'"),
        (
            {"bedrock": {"hyperparameters": {"learningRate": 1.5}}},
            "bedrock.hyperparameters.learningRate: 1.5 is outside the range of meta.llama3-3-70b-instruct-v1:0:128k",
        ),
        ({"bedrock": {"base_model": "meta.llama3-2-1b-instruct-v1:0:128k"}}, "reached its end of life on Bedrock"),
        (
            {"training": {"gated": True}},
            "aws secretsmanager create-secret --region us-west-2 --name tuneway/hub-token --secret-string",
        ),
        ({"training": {"base_model": "tuneway/nowhere"}}, "training.base_model: tuneway/nowhere"),
        (
            {"training": {"lora": {"target_modules": ["q_proj", "v_porj"]}}},
            "training.lora.target_modules: v_porj is not a linear layer of ",
        ),
        ({"endpoint": {"max_model_len": 100_000}}, "endpoint.max_model_len: 100000 is more than the "),
        ({"dataset": {"source": "uploads/nothing.jsonl"}}, "uploads/nothing.jsonl"),
        ({"dataset": {"source": "s3://no-such-bucket-here/x.csv"}}, "no-such-bucket-here"),
        ({"dataset": {**DATASET, "fields": {"dialogue": "dialog", "summary": "gist"}}}, "dialog"),
        ({"dataset": {**DATASET, "fields": {"dialogue": "talk", "summary": "gist"}}}, "100"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_mistake_is_refused_in_one_line_and_starts_no_job(
    stack: Deployed, uploads: None, tmp_path: Path, run_input: Any, expected: str
) -> None:
    before = stack.jobs()
    ended = stack.run(run_input)
    assert (ended["status"], ended["error"]) == ("FAILED", "Tuneway.Refused"), ended
    assert expected in ended["cause"]
    assert "\n" not in ended["cause"]
    assert "Traceback" not in ended["cause"]
    assert stack.jobs() == before
    file = tmp_path / "input.json"
    file.write_text(json.dumps(run_input))
    planned = stack.tuneway("plan", "--input", str(file))
    assert (planned.returncode, planned.stdout) == (1, "")
    if "no-such-bucket-here" in expected:  # Plan's role may not list it, and this user may
        assert planned.stderr.startswith("error: dataset.source: there is no bucket 'no-such-bucket-here'")
    else:
        assert planned.stderr == f"error: {ended['cause']}\n"


def test_a_quota_of_zero_is_refused_before_anything_is_spent(stack: Deployed) -> None:
    before = stack.jobs()
    for kind in ("training", "endpoint"):
        stack.quota(**{"training": 2, "endpoint": 4, kind: 0})
        ended = stack.run({})
        stack.quota(training=2, endpoint=4)
        assert ended["error"] == "Tuneway.Refused"
        assert ended["cause"].startswith(f"quota 'ml.g5.xlarge for {kind}")
        assert "is 0 in this account and region" in ended["cause"]
        assert "Service Quotas console" in ended["cause"]
    assert stack.jobs() == before
