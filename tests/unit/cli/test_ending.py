"""Which run `tuneway stop` stops, how it follows things to their end, and what `tuneway down` says that still bills."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from cli import ending, known_runs, report, stop
from cli.down import BedrockModels, Bills, still_bills
from cli.known_runs import KnownRun
from pipeline.errors import Refused

BEGAN = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def run(number: int, status: str | None = "SUCCEEDED", *, page: bool = False) -> KnownRun:
    arn = f"arn:aws:states:us-west-2:000000000000:execution:tuneway-0a:run-{number}"
    began = BEGAN - timedelta(hours=number)
    return KnownRun(f"{number}" * 10, status and arn, status, began, status and began, True, page)


@pytest.mark.parametrize(
    "given", ["1", "run-1", "1111111111", "s3://b/models/1111111111/run.json", f"{run(1).execution}"]
)
def test_a_run_has_several_names(given: str) -> None:
    assert known_runs.named([run(2), run(1)], given) == run(1)


def test_a_name_that_is_the_beginning_of_another_is_itself() -> None:
    runs = [run(1)._replace(execution="a:b:run"), run(2)._replace(execution="a:b:run-2")]
    assert known_runs.named(runs, "run") == runs[0]
    with pytest.raises(
        Refused, match=r"'ru' is the beginning of several runs: 1111111111 \(execution run\), 2.*; write more"
    ):
        known_runs.named(runs, "ru")
    with pytest.raises(Refused, match=r"there is no run ''; the newest are 1{10} "):
        known_runs.named(runs, "")


def test_the_running_execution_is_stopped_if_there_is_one_only() -> None:
    running, other = run(1, "RUNNING"), run(2, "RUNNING")
    assert stop.choose([run(0), running], None) == running
    assert stop.choose([run(0)], None) is None
    assert stop.choose([running, other], "run-2") == other
    with pytest.raises(Refused, match="several executions run; name one: run-1, run-2"):
        stop.choose([running, other], None)
    with pytest.raises(Refused, match="run 3333333333 is FAILED, so there is nothing to stop"):
        stop.choose([run(3, "FAILED")], "3333")
    assert stop.choose([run(3, "ABORTED")], "3333"), "its cleanup may still go on"


def test_the_page_of_the_newest_run_that_has_one_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run(1, "RUNNING"), run(2, page=True), run(3, page=True)]
    assert report.choose(runs, None) == runs[1]
    assert capsys.readouterr().err == "the newest run, 1111111111, has no page yet; this is the page of 2222222222\n"
    with pytest.raises(Refused, match="run 1111111111 has no page yet; wait until it has ended"):
        report.choose(runs, "run-1")
    lately = run(4, "FAILED")._replace(ended=datetime.now(UTC))
    with pytest.raises(
        Refused, match="run 4444444444 has no page yet; wait some minutes, because its cleanup writes one"
    ):
        report.choose([lately], "4444")
    with pytest.raises(Refused, match="run 5555555555 has left no page; name one that has: 2222222222"):
        report.choose([run(5, "FAILED")._replace(ended=datetime(2026, 1, 1, tzinfo=UTC)), runs[1]], "5555")
    with pytest.raises(Refused, match="no run has a page yet; wait until run 1111111111 has ended"):
        report.choose(runs[:1], None)


def test_each_thing_that_goes_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ending, "SECONDS_BETWEEN", 0)
    looks = iter([["a", "b"], ["b"], []])
    assert ending.until_gone("waiting", "gone", lambda: next(looks)) == []
    assert capsys.readouterr().out == "a: gone\nb: gone\n"
    monkeypatch.setattr(ending, "PATIENCE", -1)
    assert ending.until_gone("waiting", "gone", lambda: ["c"]) == ["c"]


def test_in_a_terminal_each_thing_stands_above_the_line_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(ending, "SECONDS_BETWEEN", 0)
    monkeypatch.setattr(ending, "console", Console(file=terminal, force_terminal=True, highlight=False))
    looks = iter([["a [1]"], []])
    assert ending.until_gone("waiting", "gone", lambda: next(looks)) == []
    assert "a [1]: gone\n" in terminal.getvalue()


def test_a_wait_without_a_terminal_says_now_and_then_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ending, "SECONDS_BETWEEN", 0)
    monkeypatch.setattr(ending, "SECONDS_BETWEEN_LINES", -1)
    with ending.Waiting("waiting until it is gone") as waiting:
        assert waiting.pause()
    assert capsys.readouterr().out == "waiting until it is gone\n"


def test_ctrl_c_says_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BaseException, match="130"), ending.kept_going("the cleanup goes on"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted: the cleanup goes on\n"


def test_an_error_of_aws_says_what_goes_on() -> None:
    expired = ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "x"}}, "DescribeExecution")
    with (
        pytest.raises(Refused, match=r"have expired .*; sign in .*; the cleanup goes on$"),
        ending.kept_going("the cleanup goes on"),
    ):
        raise expired


def test_the_end_of_a_cleanup_says_what_serves_and_what_is_left() -> None:
    message = "Step: Train\nServing: endpoint x is InService\nBedrock: no job"
    output = json.dumps({"left": ["job a"], "subject": "s", "message": message})
    assert ending._ended({"status": "SUCCEEDED", "output": output}) == (["job a"], "endpoint x is InService")
    again = json.dumps({"left": [], "subject": None, "message": None})
    assert ending._ended({"status": "SUCCEEDED", "output": again}) == ([], None)
    failed = json.dumps({"subject": "s", "message": "Execution: x\nThe cleanup failed: y"})
    with pytest.raises(Refused, match="the cleanup failed: Execution: x The cleanup failed: y; run `tuneway down`"):
        ending._ended({"status": "SUCCEEDED", "output": failed})


def bills(**changes: Any) -> Bills:
    return Bills([], [], None, BedrockModels([], 0, [], None), 0, 0.0)._replace(**changes)


def test_what_still_bills_is_said() -> None:
    assert still_bills(bills()) == ["Still bills: nothing"]
    models = BedrockModels(["custom model a", "imported model b"], 5.85, ["Provisioned Throughput of a: x; `c`"], None)
    assert still_bills(bills(models=models, objects=1, gigabytes=2.5)) == [
        "Still bills:",
        "  Provisioned Throughput of a: x; `c`",
        "  custom model a, imported model b in Bedrock: 5.85 dollars per month; `tuneway down --models` deletes them",
        "  1 object in the bucket, 2.50 GB (models, records and data): a price that is not known here; `cdk destroy` deletes "
        "them",
    ]
    unknown = BedrockModels([], None, [], "AccessDenied")
    assert still_bills(bills(models=unknown))[1:] == [
        "  models in Bedrock, if there are any: it cannot be asked (AccessDenied)"
    ]
    no_units = BedrockModels(["imported model b"], None, [], None)
    assert "a price that is not known here per month" in still_bills(bills(models=no_units))[1]
