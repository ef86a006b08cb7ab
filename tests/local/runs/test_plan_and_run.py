"""`tuneway plan` only reads, and says what the execution then says. `tuneway run` uploads the user's file and starts."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline import names
from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.deployed import Deployed

READ_ONLY = [
    "bedrock:GetFoundationModel",
    "bedrock:ListImportedModels",
    "cloudformation:DescribeStacks",
    "pricing:GetProducts",
    "s3:GetObject",
    "s3:ListBucket",
    "sagemaker:DescribeEndpoint",
    "sagemaker:DescribeEndpointConfig",
    "secretsmanager:DescribeSecret",
    "servicequotas:ListAWSDefaultServiceQuotas",
    "servicequotas:ListServiceQuotas",
    "states:DescribeStateMachine",
]
"""The actions that `tuneway plan` needs (docs/run.md)."""


@pytest.fixture(scope="module")
def reader(stack: Deployed) -> Iterator[dict[str, str]]:
    """The environment of a user who may only read."""
    iam, sts = stack.aws.client("iam"), stack.aws.client("sts")
    account = sts.get_caller_identity()["Account"]
    trust = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": READ_ONLY, "Resource": "*"}
    documents = [json.dumps({"Version": "2012-10-17", "Statement": [statement]}) for statement in (trust, may)]
    arn = iam.create_role(RoleName="PlanReader", AssumeRolePolicyDocument=documents[0])["Role"]["Arn"]
    iam.put_role_policy(RoleName="PlanReader", PolicyName="read", PolicyDocument=documents[1])
    keys = sts.assume_role(RoleArn=arn, RoleSessionName="reader")["Credentials"]
    yield {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    iam.delete_role_policy(RoleName="PlanReader", PolicyName="read")
    iam.delete_role(RoleName="PlanReader")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's file: 160 rows, of which four are not fit."""
    with (ROOT / "data" / "dialogues" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / "my talks.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["talk", "gist"])
        for number, row in enumerate((rows * 2)[:160]):
            summary = "" if number % 40 == 7 else row["summary"]
            writer.writerow([f"{row['dialogue']}\nAnn: {number}", summary])
    return path


def objects(stack: Deployed) -> set[str]:
    pages = stack.aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=stack.outputs["BucketName"])
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def test_plan_only_reads_and_an_execution_has_its_rows(stack: Deployed, reader: dict[str, str], mine: Path) -> None:
    before = objects(stack)
    arguments = ("--dataset", str(mine), "--fields", "talk:gist", "--set", "training.epochs=3")
    done = stack.tuneway("plan", *arguments, "--json", **reader)
    assert (done.returncode, done.stderr) == (0, "")
    planned = json.loads(done.stdout)
    assert objects(stack) == before
    assert planned["rows"]["read"] == 160
    assert planned["rows"]["rejected"] == {"summary is empty": 4}
    assert planned["tokens"]["estimate"] is None
    assert planned["at_most"]["total"] > planned["at_most"]["training"] > 0
    shown = stack.tuneway("plan", *arguments, **reader)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{mine}: 160 rows read as columns, 4 of them rejected" in " ".join(shown.stdout.split())
    assert "Learned is the text between >>> and <<<." in " ".join(shown.stdout.split())

    stack.faults({"kind": "training", "how": "fail"})
    started = stack.tuneway("run", *arguments, "--yes", "--detach")
    assert started.returncode == 0, started.stderr
    name = started.stdout.rpartition("tuneway watch ")[2].split()[0].rstrip(";")
    arn = stack.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"
    ended = stack.wait_for_end(arn)
    stack.wait_for_cleanup(arn)
    stack.faults()
    assert ended["error"] == "TrainingFailed", ended
    run = json.loads(stack.aws.client("s3").get_object(**manifest_of(stack, arn))["Body"].read())
    written = {split: run["splits"][split]["written"] for split in ("train", "validation", "test")}
    bedrock = {f"bedrock_{split}": count for split, count in run["bedrock"]["written"].items()}
    assert planned["rows"]["splits"] == written | bedrock
    assert planned["rows"]["rejected"] == run["rejected"]
    again = stack.tuneway("run", *arguments, "--yes", "--detach", "--set", "training.epochs=0")
    assert again.stderr.startswith("error: execution input: training.epochs: ")


def manifest_of(stack: Deployed, arn: str) -> dict[str, str]:
    return {"Bucket": stack.outputs["BucketName"], "Key": f"{names.prefix('data', names.run_id(arn))}manifest.json"}


@pytest.mark.parametrize(("answer", "starts"), [("n", False), ("y", True)])
def test_run_asks_before_it_uploads(stack: Deployed, mine: Path, answer: str, starts: bool) -> None:
    mine.write_bytes(mine.read_bytes() + f"more {answer},x\n".encode())
    states, machine = stack.aws.client("stepfunctions"), stack.outputs["StateMachineArn"]
    before, running = objects(stack), len(states.list_executions(stateMachineArn=machine)["executions"])
    command = [sys.executable, "-m", "cli", "run", "--settings", str(stack.log.with_name("settings.yaml"))]
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command, "--dataset", str(mine), "--fields", "talk:gist", "--detach"],
        cwd=ROOT,
        env=stack.env | {"TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
    )
    os.close(terminal)
    text = read_until(main, "[y/N]")
    assert objects(stack) == before
    os.write(main, f"{answer}\n".encode())
    text += read_until(main, None)
    assert process.wait(60) == (0 if starts else 1), text
    executions = states.list_executions(stateMachineArn=machine)["executions"]
    assert len(executions) == running + starts
    if starts:
        states.stop_execution(executionArn=executions[0]["executionArn"])
        described = states.describe_execution(executionArn=executions[0]["executionArn"])
        (new,) = objects(stack) & {json.loads(described["input"])["dataset"]["source"]}
        assert new.endswith("/my-talks.csv")
        stack.wait_for_end(executions[0]["executionArn"])
        stack.wait_for_cleanup(executions[0]["executionArn"])
    else:
        assert "nothing was changed" in text
        assert objects(stack) == before


def read_until(terminal: int, end: str | None) -> str:
    """Return what a program writes to its terminal, until `end` comes or it ends."""
    text = b""
    while end is None or end.encode() not in text:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # the program has ended
            break
        if not read:
            break
        text += read
    return text.decode(errors="replace")
