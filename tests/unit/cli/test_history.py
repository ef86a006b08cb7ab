"""The events of real executions become one row per step."""

from __future__ import annotations

import json
import random

import pytest

from cli.history import BEDROCK, QUICK, STEPS, ExecutionHistory, reason
from infra.definition import STATES
from tests.unit.cli.recorded_runs import NAMES, found, recorded


def test_every_step_of_the_definition_has_its_place() -> None:
    looks = {name for name in STATES if name.startswith("WaitFor")}
    silent = {
        "Planned",
        "DataPath",
        "Prepared",
        "Merged",
        "Refused",
        "Trained",
        "RegisterWanted",
        "BedrockWanted",
        "DeployWanted",
        "Deployed",
    }
    silent |= {
        "Tested",
        "Served",
        "FollowBedrock",
        "Customized",
        "CustomModelDeployed",
        "Imported",
        "BedrockAsked",
        "Done",
    }
    assert set(STEPS) == set(STATES) - looks - silent
    assert {*BEDROCK, *QUICK} < set(STEPS)


def test_a_run_that_succeeded_has_a_row_per_step_and_its_loops_are_folded() -> None:
    run, _ = found("succeeded")
    rows = run.history.rows
    assert {row.status for row in rows.values()} == {"done"}
    assert list(rows)[:4] == ["Plan", "PrepareData", "Train", "Assess"]
    events = recorded("succeeded")["events"]
    entered = [e["timestamp"] for e in events if e.get("stateEnteredEventDetails", {}).get("name") == "Train"]
    left = [e["timestamp"] for e in events if e.get("stateExitedEventDetails", {}).get("name") == "Train"]
    assert len(entered) > 2
    assert rows["Train"].elapsed(0) == pytest.approx(left[-1] - entered[0])
    assert rows["Train"].progress.startswith("completed after ")
    assert run.history.answers["Deploy"]["phase"] == "serving"
    assert run.history.jobs == [run.history.answers["Train"]["job"]]
    assert run.history.expected() == []


def test_a_step_goes_on_between_two_looks() -> None:
    events = recorded("succeeded")["events"]
    wait = next(
        i for i, e in enumerate(events) if e.get("stateEnteredEventDetails", {}).get("name") == "WaitForTraining"
    )
    run, now = found("succeeded", wait + 1)
    row = run.history.rows["Train"]
    assert row.status == "running"
    assert row.elapsed(now + 100) == pytest.approx((row.elapsed(now) or 0) + 100)
    assert run.history.expected()[:3] == ["Assess", "Deploy", "SmokeTest"]


def test_a_failed_job_fails_its_step() -> None:
    run, _ = found("failed")
    row = run.history.rows["Train"]
    assert row.status == "failed"
    assert row.trouble.startswith("TrainingFailed: training job ")
    assert run.history.current is row


def test_a_redrive_goes_on_in_the_failed_step_and_does_not_count_the_time_between() -> None:
    run, _ = found("redriven")
    events = recorded("redriven")["events"]
    assert run.history.redrives == 1
    assert {row.status for row in run.history.rows.values()} == {"done"}
    assert len(run.history.jobs) == 2
    train = [e for e in events if "Train" in [part.get("name") for part in e.values() if isinstance(part, dict)]]
    redriven = next(e["timestamp"] for e in events if e["type"] == "ExecutionRedriven")
    ended = next(e["timestamp"] for e in events if e["type"] == "ExecutionFailed")
    whole = train[-1]["timestamp"] - train[0]["timestamp"]
    assert run.history.rows["Train"].elapsed(0) == pytest.approx(whole - (redriven - ended), abs=0.2)
    cut = next(i for i, e in enumerate(events) if e["type"] == "ExecutionRedriven")
    between, _ = found("redriven", cut + 1)
    assert between.history.rows["Train"].status == "running"
    assert between.history.rows["Train"].trouble == ""


def test_shards_are_a_step_with_a_map_run() -> None:
    run, _ = found("running")
    assert {"ShardData", "MergeData"} <= run.history.rows.keys()
    assert "PrepareData" not in run.history.rows
    assert ":mapRun:" in str(run.history.map_run)
    expected = [name for name in run.history.expected() if name in BEDROCK]
    assert expected == ["ImportModel", "FinishImport", "AskBedrock", "RetireModels"]


def test_an_aborted_run_ends_in_the_step_that_ran() -> None:
    run, now = found("aborted")
    assert [row.name for row in run.history.rows.values() if row.status == "failed"] == ["Train"]
    assert run.history.rows["Train"].elapsed(now + 1000) == run.history.rows["Train"].elapsed(now)


def test_a_refusal_is_the_failure_of_the_step_that_refused() -> None:
    run, _ = found("refused")
    assert [(row.name, row.status) for row in run.history.rows.values()] == [("Plan", "failed")]
    assert "epochs" in run.execution["cause"]


def test_what_is_not_wanted_is_not_expected() -> None:
    run, _ = found("imported", 12)
    expected = run.history.expected()
    assert "Deploy" not in expected
    assert "Customize" not in expected
    assert "ImportModel" in expected


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_are_the_same_however_the_events_are_paged(name: str) -> None:
    events = recorded(name)["events"]
    whole, parts = ExecutionHistory(), ExecutionHistory()
    whole.add(events)
    draw = random.Random(name)
    at = 0
    while at < len(events):
        size = draw.randrange(1, 40)
        parts.add(events[max(0, at - draw.randrange(5)) : at + size])  # some events come twice
        at += size
    assert parts.rows == whole.rows
    assert parts.answers == whole.answers


def test_the_reason_is_the_message_of_a_function_or_job() -> None:
    assert reason("TrainingFailed", json.dumps({"errorMessage": "job x\nfailed"})) == "TrainingFailed: job x failed"
    assert reason("E", "plain  words") == "E: plain words"
    assert reason("E", "a\x1b[2Jb") == r"E: a\x1b[2Jb", "a text of a dataset cannot command the terminal"
    assert reason("States.Timeout", None) == "States.Timeout"
