"""An imported model on local Bedrock is asked by Converse and by InvokeModel, alone and beside the endpoint on the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from serving import deployed, questions
from serving.errors import NotAnswered
from serving.models import BUSY, WAKING
from serving.stack import find_stack, load
from tests.local_aws.faults.conftest import fired_counts, set_faults
from tests.serving import stacks
from tests.serving.stacks import DIALOGUE, MAX_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Served


def test_an_imported_model_wakes_and_answers_by_each_operation_with_the_endpoints_words(
    user: Served, settings: Path, both: Path, model: str
) -> None:
    words = user.ask(settings, "-", text=DIALOGUE).stdout
    stacks.leave_in_bedrock(user.aws, model, "Converse")
    deadline = time.monotonic() + 300
    done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    assert done.stderr.splitlines()[:-1] == [f"{WAKING}; the client tries again for some two minutes"]
    while done.returncode and time.monotonic() < deadline:  # A busy machine loads the model for minutes.
        assert done.stderr.splitlines()[-1] == f"error: {WAKING}; ask again in a minute"
        done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (0, words), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Bedrock, imported {model} (run b000000000): first token ")
    assert last.endswith(f"billed in windows of 5 minutes from the first call · cut at {MAX_TOKENS} tokens")
    stacks.leave_in_bedrock(user.aws, model, "InvokeModel")
    done = user.ask(both, "--model", "bedrock", "-", text=DIALOGUE)
    assert (done.returncode, done.stdout) == (0, words), done.stderr


@pytest.mark.parametrize("api", ["Converse", "InvokeModel"])
def test_what_bedrock_refuses_is_one_line(user: Served, both: Path, model: str, api: str) -> None:
    stacks.leave_in_bedrock(user.aws, model, api)

    def error(text: str = DIALOGUE) -> str:
        done = user.ask(both, "--model", "bedrock", "-", text=text)
        assert done.returncode == 1, done.stdout
        return done.stderr.splitlines()[-1]

    assert "tokens with" in error("word " * 3000)
    try:
        set_faults(user.aws, {"kind": "inference", "how": "cut", "resource": model, "times": 1})
        assert error().startswith(f"error: the connection to {model} failed (")
    finally:
        set_faults(user.aws)
    stacks.leave_in_bedrock(user.aws, model.replace("imported-model/", "imported-model/zzzz"), api)
    denied = (
        "error: the stack's role for callers may not do bedrock:InvokeModelWithResponseStream, or the model is gone ("
    )
    assert error().startswith(denied)


@pytest.mark.parametrize(
    ("how", "told", "line"),
    [
        ("not-ready", WAKING, f"{WAKING}; ask again in a minute"),
        ("throttled", BUSY, f"{BUSY}, and the client's own tries did not help; ask again later"),
    ],
)
def test_a_model_that_stays_busy_is_asked_as_often_as_boto3_does_and_no_more(
    user: Served, both: Path, model: str, how: str, told: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks.leave_in_bedrock(user.aws, model, "Converse")
    assert deployed.ATTEMPTS == 16
    monkeypatch.setattr(deployed, "ATTEMPTS", 3)  # All would take minutes.
    lines: list[str] = []
    found = deployed.bedrock(find_stack(load(both)), lines.append)
    set_faults(user.aws, {"kind": "inference", "how": how, "resource": model})
    try:
        with pytest.raises(NotAnswered) as refused:
            list(found.answer(questions.user(DIALOGUE)))
        assert fired_counts(user.aws) == [3]
    finally:
        set_faults(user.aws)
    assert (str(refused.value), refused.value.about) == (line, "moment")
    assert lines == [f"{told}; the client tries again for some two minutes"] * 3
