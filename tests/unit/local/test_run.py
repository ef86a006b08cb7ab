"""The driver of `make local`: what DATASET and FIELDS upload, an input that the settings accept, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from local import cdk
from local.run import (
    _await_stack,
    allow_endpoint_update,
    dataset_input,
    keep_instructions,
    refused_for_bedrock,
    show,
)
from local_aws.session import LocalAws as Session
from pipeline import settings as schema
from pipeline.errors import Refused
from tests.local_aws.conftest import REGION, ROOT
from tests.unit.local.test_cdk import synth

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local_aws.conftest import RunningAws


def accepted(run_input: dict[str, Any]) -> Any:
    """Return the dataset of a run, by this machine's settings, which must accept the input."""
    deployed = schema.load(ROOT / "config.yaml", ROOT / "local" / "settings.yaml").model_dump(mode="json")
    return schema.with_run_input(deployed, run_input).dataset


def test_a_users_own_file_is_uploaded_with_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("x")
    uploads, run_input, _ = dataset_input(file, "who:what")
    ((key, path),) = uploads.items()
    assert (path, key) == (file, accepted(run_input).source)
    dataset = accepted(run_input)
    assert (dataset.format, dataset.fields.dialogue, dataset.fields.summary) == ("columns", "who", "what")
    assert dataset_input(file, None)[0] == uploads


def test_without_data_the_samples_are_uploaded() -> None:
    uploads, run_input, _ = dataset_input(None, None)
    assert (len(uploads), run_input) == (3, {})
    assert all(path.is_file() and key.startswith(accepted({}).source) for key, path in uploads.items())


def test_columns_without_data_are_refused() -> None:
    with pytest.raises(Refused, match="FIELDS needs DATASET: name"):
        dataset_input(None, "dialogue:summary")


def test_texts_with_brackets_are_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"dialogue": "[/INST] [bold]hi[/b]", "endpoint": "[x]", "base": "[/]", "reference": "[red]"}
    show(texts)
    output = capsys.readouterr().out
    assert all(text in output for text in texts.values())


@pytest.fixture
def session(aws: RunningAws, tmp_path: Path) -> Session:
    """Return the driver's session, connected to the local AWS of the tests."""
    found = Session(tmp_path, REGION, tmp_path)
    found.endpoint_url, found._process = aws.endpoint, aws.process
    return found


def test_the_commands_that_are_printed_for_a_kept_stack_start_the_run_again(
    aws: RunningAws, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "a clone's own python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    definition = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    role = aws.role("kept", service="states")
    client = aws.client("stepfunctions")
    machine = client.create_state_machine(name="kept", definition=definition, roleArn=role)["stateMachineArn"]
    run_input = {"dataset": {"source": "uploads/it's \N{PARTY POPPER} [a].csv", "fields": {"dialogue": 'say "x"'}}}
    outputs = {"StateMachineArn": machine, "EndpointName": "e"}
    printed = keep_instructions(session, outputs, run_input, None)
    commands = "\n".join(line for line in printed.splitlines() if line.startswith("  "))
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    (started,) = client.list_executions(stateMachineArn=machine)["executions"]
    assert done.stdout.strip() == started["executionArn"]
    assert json.loads(client.describe_execution(executionArn=started["executionArn"])["input"]) == run_input
    call = {"base_url": "https://e/openai/v1", "python": ["import this", "  print('[a]')"]}
    asks = keep_instructions(session, outputs, run_input, call)
    assert f"the base URL https://e/openai/v1, or run this program with {python} in {ROOT}:" in asks
    assert "\nimport this\n  print('[a]')\nEvery command of tuneway works there" in asks


def test_a_run_begins_when_the_stack_is_complete_and_the_cli_still_looks(
    aws: RunningAws, session: Session, tmp_path: Path
) -> None:
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    with synth("sleep 60", tmp_path) as command:
        aws.client("cloudformation").create_stack(StackName="whole", TemplateBody=template)
        _await_stack(command, session, "whole")
        assert command.runs


def test_a_deployment_that_fails_before_its_stack_is_there_ends_the_wait(session: Session, tmp_path: Path) -> None:
    with synth("exit 3", tmp_path) as command, pytest.raises(cdk.CdkError, match="cdk synth failed"):
        _await_stack(command, session, "never-there")


def test_a_deployment_whose_local_aws_is_gone_fails_with_the_words_of_the_cli(tmp_path: Path) -> None:
    gone = Session(tmp_path / "aws", REGION, tmp_path / "hub")
    app = "echo 'error: no connection' >&2; exit 3"
    with synth(app, tmp_path) as command, pytest.raises(cdk.CdkError, match="error: no connection"):
        _await_stack(command, gone, "never-there")


def test_a_kept_endpoint_may_be_updated(session: Session) -> None:
    before = json.loads(session.control("_tuneway/quotas"))
    try:
        allow_endpoint_update(session)
        after = json.loads(session.control("_tuneway/quotas"))
        assert after["ml.g5.xlarge for endpoint usage"] == 2
        assert {name for name in after if after[name] != before[name]} == {
            name for name in after if name.endswith("for endpoint usage")
        }
    finally:
        session.control("_tuneway/quotas", before)


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        ("Tuneway.Refused", "bedrock: m needs 100 records, train and validation together", True),
        ("Tuneway.Refused", "bedrock.max_records: 5 is outside the range", False),
        ("Tuneway.Refused", "dataset: the source has no rows", False),
        ("TrainingFailed", "bedrock: x", False),
        (None, None, False),
    ],
)
def test_bedrock_is_left_out_only_if_its_base_model_does_not_take_the_rows(
    error: str | None, cause: str | None, expected: bool
) -> None:
    assert refused_for_bedrock({"error": error, "cause": cause}) is expected
