"""A batch on local AWS: killed in the middle and gone on with, in the input's order, with each row's error in its row."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.local_aws.conftest import ROOT
from tests.local_aws.faults.conftest import set_faults
from tests.serving.stacks import MAX_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Served

LONG = "word " * 400


def asked(user: Served) -> int:
    """How often the endpoint was asked so far, refused calls included."""
    return len(user.aws.decisions(action="sagemaker:InvokeEndpoint"))


def test_a_killed_batch_goes_on_and_asks_no_kept_row_again(user: Served, settings: Path, tmp_path: Path) -> None:
    file, output, journal = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "out.jsonl.part"))
    dialogues = [f"Ann: question {number}?\nBob: yes, {number}" for number in range(12)]
    file.write_text("".join(json.dumps({"text": dialogue}) + "\n" for dialogue in dialogues))
    arguments = ["--batch", str(file), "--output", str(output), "--field", "text", "--concurrency", "2"]
    command = [sys.executable, "-m", "cli", "ask", "--settings", str(settings), *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=user.environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not output.exists()
    with journal.open("ab") as lines:
        lines.write(b'{"row": 12, "answer": "cut o')  # a line whose writing the kill interrupted
    kept = journal.read_bytes().count(b"\n") - 1
    assert 3 <= kept < len(dialogues)
    time.sleep(2)  # calls of the killed process that are on their way
    before = asked(user)
    done = user.ask(settings, *arguments)
    assert done.returncode == 0, done.stderr
    assert asked(user) - before == len(dialogues) - kept
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == dialogues
    assert [row["row"] for row in rows] == list(range(1, 13))
    assert all(row["answer"] and row["error"] is None for row in rows)
    assert done.stderr == f"{output}: 12 rows, 0 with an error\n"
    assert not journal.exists()
    again = user.ask(settings, *arguments)
    assert again.stderr == f"error: --output {output}: this file exists; remove it, or give another --output\n"


def test_a_rows_error_is_in_its_row(user: Served, settings: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "in.csv", tmp_path / "in-answers.csv"
    with file.open("w", newline="") as table:
        csv.writer(table).writerows(
            [["id", "dialogue"], ["1", 'Ann: "hi"\nBob: hey'], ["2", LONG], ["3", ""], ["4", "x"]]
        )
    before = asked(user)
    done = user.ask(settings, "--batch", str(file))
    assert (done.returncode, done.stderr) == (1, f"{output}: 4 rows, 2 with an error\n")
    assert asked(user) - before == 3, "an empty row is not asked"
    with output.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["error"] for row in rows] == [
        "",
        f"the text is longer than the model takes (256 tokens with {MAX_TOKENS} for the answer); shorten it, begin a new "
        "conversation, or serve the model with a higher endpoint.max_model_len",
        "dialogue is empty",
        "",
    ]
    assert rows[0]["dialogue"] == 'Ann: "hi"\nBob: hey'
    assert rows[0]["answer"]
    assert rows[0]["cut"] == "True"
    assert not rows[1]["answer"]


def test_a_failure_that_may_pass_is_asked_again_by_the_same_command(
    user: Served, settings: Path, tmp_path: Path
) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "in-answers.jsonl"
    file.write_text('{"dialogue": "alpha"}\n{"dialogue": "beta"}\n{"dialogue": "gamma"}\n')
    down = {"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "ServiceUnavailable", "status": 503}
    set_faults(user.aws, {**down, "times": 3, "resource": "beta"})  # the client's first try and its two retries
    try:
        done = user.ask(settings, "--batch", str(file))
    finally:
        set_faults(user.aws)
    assert done.stderr == (
        f"{output}: 3 rows, 1 with an error; 1 of them may be answered later: run the same command again\n"
    )
    assert [bool(json.loads(line)["error"]) for line in output.read_text().splitlines()] == [False, True, False]
    before = asked(user)
    done = user.ask(settings, "--batch", str(file))
    assert (done.returncode, asked(user) - before) == (0, 1), done.stderr
    assert [json.loads(line)["error"] for line in output.read_text().splitlines()] == [None] * 3


def test_a_model_that_answers_nothing_ends_the_batch_and_keeps_what_is_done(
    user: Served, settings: Path, tmp_path: Path
) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"dialogue": "first"}\n' + '{"dialogue": "then"}\n' * 5)
    denied = {"kind": "error", "action": "sagemaker:InvokeEndpoint", "code": "AccessDeniedException", "status": 403}
    set_faults(user.aws, {**denied, "resource": "then"})
    arguments = ["--batch", str(file), "--output", str(output), "--concurrency", "1"]
    try:
        done = user.ask(settings, *arguments)
    finally:
        set_faults(user.aws)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the call of Tiny was refused (AccessDeniedException); run `cdk deploy` to")
    assert done.stderr.endswith("; 1 of 6 rows are kept: run the same command again to go on\n")
    file.write_text('{"dialogue": "another file"}\n')
    done = user.ask(settings, *arguments)
    assert "out.jsonl.part has answers of another batch (another file); remove it to ask all rows again" in done.stderr
