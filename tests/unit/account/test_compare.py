"""The comparison of two recordings: it finds each difference once, and names the row of PARITY.md that it is about."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from account import compare
from account.compare import differences, page
from account.recording import read
from tests.proofs.planted import PLANTED, plant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALL: dict[str, Any] = {"kind": "call", "step": "main run", "error": None, "message": None}
LOCAL: list[dict[str, Any]] = [
    CALL
    | {
        "service": "sagemaker",
        "operation": "DescribeTrainingJob",
        "status": 200,
        "members": {
            "SecondaryStatusTransitions": ["list"],
            "SecondaryStatusTransitions[].Status": ["SecondaryStatus=Starting", "SecondaryStatus=Training"],
            "TrainingStartTime": ["timestamp"],
        },
    },
    CALL
    | {
        "service": "stepfunctions",
        "operation": "RedriveExecution",
        "status": 400,
        "error": "ExecutionNotRedrivable",
        "message": "Execution is SUCCEEDED and cannot be redriven",
        "members": {},
    },
    {
        "kind": "order",
        "step": "main run",
        "service": "sagemaker",
        "operation": "DescribeTrainingJob",
        "of": "statuses of the training job",
        "values": ["Starting", "Training", "Completed"],
    },
]


def changed(change: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
    lines = copy.deepcopy(LOCAL)
    change(lines)
    return lines


def test_a_recording_does_not_differ_from_itself() -> None:
    assert differences(LOCAL, LOCAL) == []
    assert "There is no difference" in page([], "a", "b")


def test_an_outcome_that_depends_on_the_moment_of_a_look_is_no_difference() -> None:
    looks = CALL | {"service": "logs", "operation": "DescribeLogStreams", "members": {}}
    seen = [looks | {"status": 200}]
    early = [looks | {"status": 400, "error": "ResourceNotFoundException"}, *seen]
    assert differences(early, seen) == []
    denied = [looks | {"status": 400, "error": "AccessDeniedException"}, *seen]
    assert [one.what for one in differences(denied, seen)] == ["outcome"]


@pytest.mark.parametrize(
    ("change", "what", "row"),
    [
        (lambda lines: lines[0]["members"].pop("TrainingStartTime"), "TrainingStartTime", "TrainingStartTime"),
        (lambda lines: lines[1].update(error="ValidationException"), "outcome", "Refusals of RedriveExecution"),
        (
            lambda lines: lines[2]["values"].insert(1, "Interrupted"),
            "order: statuses of the training job",
            "A reclaimed spot job",
        ),
    ],
)
def test_a_difference_names_its_row(change: Callable[[list[dict[str, Any]]], object], what: str, row: str) -> None:
    [found] = differences(changed(change), LOCAL)
    assert found.what == what
    assert row in [marker.what for marker in found.rows]


def test_a_new_status_in_an_order_is_told_once() -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        lines[0]["members"]["SecondaryStatusTransitions[].Status"].append("SecondaryStatus=Interrupted")
        lines[2]["values"].insert(1, "Interrupted")

    [found] = differences(changed(change), LOCAL)
    assert (found.account, found.local) == ("Interrupted", "nothing")


def test_the_same_values_in_another_order_are_a_difference() -> None:
    [found] = differences(changed(lambda lines: lines[2]["values"].reverse()), LOCAL)
    assert found.account == "Completed, Training, Starting"


def test_an_empty_list_says_nothing_about_its_items() -> None:
    assert (
        differences(changed(lambda lines: lines[0]["members"].pop("SecondaryStatusTransitions[].Status")), LOCAL) == []
    )


def test_a_difference_that_no_row_is_about_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = CALL | {"service": "s3", "operation": "NewOne", "status": 200, "members": {"Zzzz": ["string"]}}
    for name, lines in (("account", [*LOCAL, extra]), ("local", LOCAL)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    target = tmp_path / "page.md"
    [found] = compare.show(tmp_path / "account.jsonl", tmp_path / "local.jsonl", target)
    assert found.rows == []
    assert "1 differences, 1 of them without a row" in capsys.readouterr().out
    text = target.read_text()
    assert "Rows: no row" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_recording_of_a_life_that_ended_early_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, complete in (("account", False), ("local", True)):
        head = {"kind": "life", "complete": complete, "steps": []}
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, [head, *LOCAL])))
    assert compare.show(tmp_path / "account.jsonl", tmp_path / "local.jsonl", None) == []
    shown = capsys.readouterr().out
    assert f"Not whole: the life of {tmp_path / 'account.jsonl'} has ended early" in shown
    assert "local.jsonl has ended" not in shown


def test_the_plants_change_three_answers_and_no_other() -> None:
    job = {
        "TrainingStartTime": 1,
        "SecondaryStatusTransitions": [{"Status": "Starting"}, {"Status": "Training"}],
    }
    status, body = plant("SageMaker.DescribeTrainingJob", "/", "", 200, json.dumps(job).encode())
    assert status == 200
    assert json.loads(body) == {
        "SecondaryStatusTransitions": [{"Status": "Starting"}, {"Status": "Interrupted"}, {"Status": "Training"}]
    }
    assert plant("", "/endpoints/x/openai/v1/chat/completions", "Bearer not-a-token", 403, b"{}") == (401, b"{}")
    assert plant("", "/endpoints/x/openai/v1/chat/completions", "Bearer other", 200, b"{}") == (200, b"{}")
    assert plant("SageMaker.DescribeEndpoint", "/", "", 200, b"x") == (200, b"x")
    assert len(PLANTED) == 3


def test_the_committed_recording_of_local_aws_has_no_value_of_an_account() -> None:
    text = compare.LOCAL.read_text(encoding="utf-8")
    assert '"complete": true' in text.splitlines()[0]
    assert "000000000000" not in text
    assert "127.0.0.1" not in text
    assert "tuneway-account-test" not in text


def test_three_differences_in_a_whole_recording_are_found_and_no_others() -> None:
    # `make prove-account` plants them into the answers of a whole life. Here they are in what such a life has recorded.
    local = read(compare.LOCAL)
    account = copy.deepcopy(local)
    for line in account:
        if line.get("operation") == "a request without a valid token":
            line["status"] = 401
        if line.get("operation") == "DescribeTrainingJob" and line["kind"] == "call":
            line["members"].pop("TrainingStartTime", None)
            if statuses := line["members"].get("SecondaryStatusTransitions[].Status"):
                statuses.append("SecondaryStatus=Interrupted")
        if line.get("of") == "statuses of the training job":
            line["values"].insert(2, "Interrupted")
    found = {
        (one.service, one.operation, one.what): [row.what for row in one.rows] for one in differences(account, local)
    }
    assert found.keys() == PLANTED.keys()
    assert all(row in found[key] for key, row in PLANTED.items())
