"""The view of real executions: the tree in a terminal, and the plain lines."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.result import lines_of_end, print_end
from cli.view import BARS, Plain, Tree, sparkline, stopwatch
from serving.stack import Stack
from tests.unit.cli.recorded_runs import NAMES, found, recorded

if TYPE_CHECKING:
    from cli.reader import SeenRun

STACK = Stack("s", "us-west-2", "s-endpoint", "role", "bucket", "machine")


def drawn(run: SeenRun, now: float, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    tree = Tree(console, "s", lambda _found, _now: "spent so far: 0.10 dollars")
    with console.capture() as capture:
        console.print(tree.picture(run, now))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_the_tree_fits_the_terminal_at_every_moment(name: str, width: int, height: int) -> None:
    events = recorded(name)["events"]
    for until in range(1, len(events), 7):
        lines = drawn(*found(name, until), width, height)
        assert len(lines) < height, "\n".join(lines)
        assert max(map(len, lines)) <= width


def test_the_tree_has_each_step_with_its_mark_and_its_time() -> None:
    run, now = found("succeeded")
    lines = drawn(run, now)
    assert lines[0].startswith(f"{run.name}  SUCCEEDED  ")
    assert re.search(r"^├─ ✓ PrepareData +0:\d\d rows: 100 train, 8 validation, 8 test", "\n".join(lines), re.M)
    bedrock = lines.index("├─ Bedrock")
    assert re.search(r"^│  ├─ ✓ Customize ", lines[bedrock + 1])
    assert lines[-2].startswith("└─ ✓ Report")


def test_a_failed_step_has_its_reason() -> None:
    lines = drawn(*found("failed"), 200, 50)
    assert any(re.search(r"─ ✕ Train .* TrainingFailed: training job ", line) for line in lines)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 40))
def test_a_sparkline_has_one_bar_for_each_part(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set(BARS)
    if len(values) <= width and max(values) > min(values):
        assert line[values.index(min(values))] == BARS[0]
        assert line[values.index(max(values))] == BARS[-1]


def test_a_falling_loss_is_a_falling_line() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([]) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3725, "1:02:05")])
def test_a_time_in_the_tree_is_that_of_a_stopwatch(seconds: float, text: str) -> None:
    assert stopwatch(seconds) == text


@pytest.mark.parametrize("name", NAMES)
def test_plain_lines_tell_each_beginning_and_end_once(name: str) -> None:
    events = recorded(name)["events"]
    plain = Plain(Console(file=io.StringIO()), "s")
    lines: list[str] = []
    for until in range(1, len(events) + 1):
        run, now = found(name, until if until < len(events) else None)
        lines += plain.changes(run, now)
    assert len(lines) == len(set(lines))
    run, _ = found(name)
    for row in run.history.rows.values():
        told = [line for line in lines if re.match(rf"{row.name}( done| failed| begins|:)", line)]
        assert told, (row, lines)
        if row.status == "failed":
            assert any(line.startswith(f"{row.name} failed") for line in told)
    assert all("\n" not in line for line in lines)


def test_what_is_unknown_is_a_line_and_goes_on() -> None:
    run, now = found("running")
    plain = Plain(Console(file=io.StringIO()), "s")
    plain.changes(run, now)
    run.unknown["the endpoint"] = "the endpoint: unknown, your credentials may not call DescribeEndpoint"
    assert plain.changes(run, now) == [run.unknown["the endpoint"]]
    assert plain.changes(run, now) == []
    assert run.unknown["the endpoint"] in "\n".join(drawn(run, now))


def test_a_silence_ends_with_the_step_that_goes_on() -> None:
    run, _ = found("running")
    console = Console(file=io.StringIO(), width=200)
    with Plain(console, "s", 0.6) as plain:
        time.sleep(1.3)
        plain.update(run)
        time.sleep(1.3)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].endswith("  reading the execution")
    assert re.search(r"  Train: Starting for \d+ s, .* so far$", lines[-1])


def test_shards_and_bedrocks_job_have_their_counts_and_status() -> None:
    run, now = found("running", 20)
    run.shards = {"succeeded": 3, "total": 6, "failed": 0, "pending": 3, "running": 0}
    assert any(re.search(r"ShardData +0:0\d 3 of 6 shards$", line) for line in drawn(run, now))
    events = recorded("succeeded")["events"]
    deploy = next(i for i, e in enumerate(events) if e.get("stateEnteredEventDetails", {}).get("name") == "Deploy")
    run, now = found("succeeded", deploy + 1)
    run.bedrock = "InProgress", now - 65
    assert any(
        re.search(r"✓ Customize +0:0\d Bedrock's job is InProgress for 1 min 5 s$", line) for line in drawn(run, now)
    )


def text_of_end(name: str) -> str:
    run, _ = found(name)
    console = Console(file=io.StringIO(), width=200, soft_wrap=True, highlight=False)
    print_end(console, STACK, run, " --settings my.yaml")
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_end_of_a_good_run_says_verdict_scores_endpoint_call_cost_and_report() -> None:
    text = text_of_end("succeeded")
    run, _ = found("succeeded")
    assert "Verdict:    promoted, and served" in text
    assert "Why:        ROUGE-L on 8 held-out rows: tuned " in text
    assert f"Endpoint:   {run.output['endpoint']} until " in text
    assert "tuneway ask FILE --settings my.yaml" in text
    assert "base URL http" in text
    assert re.search(r"^Cost: +[0-9.,]+ dollars so far, before tax$", text, re.M), text
    assert f"tuneway report {run.output['model_run']} --settings my.yaml (in s3://bucket/models/" in text


def test_an_endpoint_that_is_gone_is_not_said_to_serve() -> None:
    run, now = found("succeeded")
    run.endpoint = {"EndpointStatus": "InService", "EndpointConfigName": "another"}
    lost = "is gone, or serves another run's model"
    assert any(re.search(rf"✓ Deploy .* the endpoint {lost}$", line) for line in drawn(run, now, 200))
    lines = dict(lines_of_end(STACK, run, ""))
    assert lines["Endpoint"] == f"{run.output['endpoint']} {lost}"
    assert not {"Ask it", "OpenAI"} & lines.keys()
    assert "served again by tuneway serve " in lines["Model"]


@pytest.mark.parametrize(
    ("name", "step", "remedy"),
    [
        ("failed", "Train", "start a new execution"),
        ("refused", "Plan", "nothing was spent"),
        ("aborted", "Train", "redrive"),
    ],
)
def test_the_end_of_a_bad_run_says_step_reason_and_remedy(name: str, step: str, remedy: str) -> None:
    text = text_of_end(name)
    assert f"Step:       {step}\n" in text
    assert "Reason:     " in text
    assert remedy in text[text.index("What to do:") :]
    cost = "nothing was spent" if name == "refused" else "0.00 dollars so far, before tax"
    assert f"Cost:       {cost}\n" in text
