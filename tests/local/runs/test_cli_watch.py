"""`tuneway watch` shows executions that others have started, in a terminal and as plain lines."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.local.deployed import Deployed

QUICK: dict[str, Any] = {"bedrock": {"mode": "off"}, "endpoint": {"enabled": False}}
DESCRIBE = "sagemaker:DescribeTrainingJob"
USER = ":root$"


def command(stack: Deployed, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", "watch", *arguments, "--settings", str(stack.log.with_name("settings.yaml"))]


def plain(stack: Deployed, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where its output is no terminal."""
    return subprocess.run(
        command(stack, *arguments), cwd=ROOT, env=stack.env, capture_output=True, text=True, check=False, timeout=240
    )


class Terminal:
    """The command in a terminal of 80 columns and 24 lines."""

    def __init__(self, stack: Deployed, *arguments: str) -> None:
        self.text = ""
        pid, self._fd = pty.fork()
        if not pid:
            os.chdir(ROOT)
            environment = stack.env | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
            os.execvpe(sys.executable, command(stack, *arguments), environment)
        self._pid = pid

    def wait_for(self, pattern: str, seconds: float = 120) -> None:
        """Read until the terminal shows the text."""
        deadline = time.time() + seconds
        while not re.search(pattern, self.text):
            assert time.time() < deadline, self.text
            self._read(1)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            found = os.read(self._fd, 65536)
        except OSError:  # Linux's end of a terminal
            return False
        self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode(errors="replace"))
        return bool(found)

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read(60):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@pytest.fixture
def faults(stack: Deployed) -> Iterator[Deployed]:
    yield stack
    stack.faults()


@pytest.fixture(scope="module")
def started(stack: Deployed) -> str:
    """An execution that goes on while the first two tests watch it."""
    return stack.start(QUICK, "started-in-the-console")


def test_expired_credentials_are_one_line_with_the_way_back(faults: Deployed, started: str) -> None:
    faults.faults(
        {"kind": "error", "action": "states:GetExecutionHistory", "code": "ExpiredTokenException", "principal": USER}
    )
    done = plain(faults, "started-in")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the AWS credentials have expired")
    assert "the run goes on; run `tuneway watch started-in-the-console --settings " in line
    described = faults.aws.client("stepfunctions").describe_execution(executionArn=started)
    assert described["status"] == "RUNNING"


def test_ctrl_c_leaves_the_run_alone_and_the_beginning_of_its_name_finds_it_again(
    stack: Deployed, started: str
) -> None:
    terminal = Terminal(stack)
    terminal.wait_for("started-in-the-console  RUNNING")
    terminal.wait_for(r"● Train +\d:\d\d \w+")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    assert "The run goes on without you. Come back: tuneway watch started-in-the-console --settings" in terminal.text
    assert "Stop it: tuneway stop started-in-the-console" in terminal.text
    assert "Traceback" not in terminal.text
    again = Terminal(stack, "started-in")
    assert again.end() == 0, again.text
    assert stack.wait_for_end(started)["status"] == "SUCCEEDED"
    assert re.search(r"✓ Train +\d:\d\d completed after", again.text)
    assert re.search(r"loss \d\.\d{3} [▁▂▃▄▅▆▇█]+ eval \d", again.text)
    assert re.search(r"^Verdict +not served", again.text, re.MULTILINE)
    assert re.search(r"^Cost +\d", again.text, re.MULTILINE)


def test_plain_lines_tell_each_step_once_and_throttled_or_denied_calls_are_unknown(faults: Deployed) -> None:
    busy = {"kind": "error", "action": DESCRIBE, "code": "ThrottlingException", "principal": USER, "times": 9}
    faults.faults(busy, {"kind": "deny", "action": "logs:DescribeLogStreams", "principal": USER})
    arn = faults.start(QUICK)
    done = plain(faults, arn)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    told = [found[1] for line in lines if (found := re.match(r"\d\d:\d\d:\d\d +\d+:\d\d  (.*)", line))]
    assert sum(line.startswith("Train done, after ") for line in told) == 1
    assert [line for line in told if line.startswith("PrepareData done, after ")]
    assert sum("the training job: unknown, AWS is busy (ThrottlingException)" in line for line in lines) == 1
    assert "\x1b" not in done.stdout
    assert "Verdict:    not served" in done.stdout


def test_a_failed_run_ends_with_step_reason_and_remedy(stack: Deployed) -> None:
    arn = stack.start({"training": {"epochs": "2"}})
    stack.wait_for_end(arn)
    done = plain(stack)  # the newest
    assert done.returncode == 1
    assert "Step:       Plan\n" in done.stdout
    assert "Reason:     Tuneway.Refused: execution input: training.epochs: " in done.stdout
    assert "What to do: nothing was spent; " in done.stdout


def test_a_name_that_no_execution_or_more_than_one_has_is_refused(stack: Deployed) -> None:
    for number in (1, 2):
        stack.run({"trainin": {}}, f"twice-{number}")
    none, two = plain(stack, "nothing"), plain(stack, "twice-")
    assert none.returncode == two.returncode == 1
    assert none.stderr.startswith("error: there is no run 'nothing'; ")
    several = r"error: 'twice-' is the beginning of several runs: \w+ \(execution twice-2\), .*; write more of one\n"
    assert re.fullmatch(several, two.stderr)
