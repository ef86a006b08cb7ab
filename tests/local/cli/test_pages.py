"""The commands and the programs of the pages run as they are printed, on one deployed stack and in one life of it.

The outputs in the pages have the same names of steps, rows and results as those of today.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from local_aws.server import ACCOUNT
from tests.docs import pages
from tests.docs.claims import CLAIMS, LIVED
from tests.docs.outputs import PAIR, OutputOptions, Runner, in_terminal
from tests.docs.parsing import parse
from tests.docs.shape import labels
from tests.local.deployed import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.cli.conftest import HealthyAccount
    from tests.local.deployed import Deployed

NOT_RUN = ("make ", "cdk ")
"""Commands of the lived blocks that are only parsed. make would look at the set-up that all tests share, and `cdk destroy` ends
every deployed test."""

ILL = ("doctor",)
"""Commands whose exit code says whether the account is well, and not whether the command works."""


def files(folder: Path) -> None:
    """Write the user's files that the pages name."""
    with (ROOT / "data" / "dialogues" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, columns in (("chats.csv", ("dialogue", "summary")), ("my.csv", ("talk", "gist"))):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows((f"{row['dialogue']}\nAnn: {name}", row["summary"]) for row in rows)
    dialogues = [row["dialogue"][:160] for row in rows[:3]]  # the tiny model has 512 tokens
    (folder / "chat.txt").write_text(dialogues[0], encoding="utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["dialogue"], *([dialogue] for dialogue in dialogues)])
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in dialogues), encoding="utf-8")
    inputs = [
        json.loads(pages.block(one.page, one.begins).text) for one in CLAIMS if one.begins.startswith('{"training"')
    ]
    (folder / "input.json").write_text(json.dumps(inputs[0]), encoding="utf-8")


class PageReader:
    """A user of the stack, whose commands run in a terminal, in a folder with the user's files.

    Attributes:
        ran: the commands that ran, as they are printed.
        outputs: what the calls of each command have shown, by the name of the command.
    """

    def __init__(self, stack: Deployed, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.ran: list[str] = []
        self.outputs: dict[str, str] = {}
        self.runner = Runner(stack, stack.log.with_name("settings.yaml"))
        files(folder)

    def block(self, page: str, begins: str) -> None:
        """Run the commands of a block that have not run yet."""
        for line in pages.commands(pages.block(page, begins).text):
            parse(line)
            if not line.startswith(NOT_RUN) and line not in self.ran:
                self.tuneway(line)
            if "--detach" in line:
                self.wait()

    def tuneway(self, line: str) -> None:
        """Run a command as it is printed, with the stack's runs in the place of the page's. A question is answered by y."""
        command = line
        for placeholder, run in zip(("9f8e", "2f8e"), self.runs(), strict=False):
            command = re.sub(rf"\b{placeholder}\b", run, command)
        name = " ".join(word for word in command.split()[1:3] if word in (command.split()[1], "compare"))
        shell = f"cd {shlex.quote(str(self.folder))} && {command}"
        shown, code = in_terminal(["bash", "-c", shell], self.runner.env, None, 300)
        assert code == 0 or name in ILL, f"{line}: {shown}"
        assert "Traceback" not in shown, shown
        self.ran.append(line)
        self.outputs[name] = self.outputs.get(name, "") + shown + "\n"

    def wait(self) -> None:
        """Wait until no execution runs."""
        machine = self.stack.outputs["StateMachineArn"]
        states = self.stack.aws.client("stepfunctions")
        for one in states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]:
            assert self.stack.wait_for_end(one["executionArn"])["status"] == "SUCCEEDED"

    def runs(self) -> list[str]:
        """Return the ids of the runs that have trained a model, the newest first."""
        s3 = self.stack.aws.client("s3")
        found = s3.list_objects_v2(Bucket=self.stack.outputs["BucketName"], Prefix="models/").get("Contents", [])
        models = [entry for entry in found if entry["Key"].endswith("/model/config.json")]
        return [entry["Key"].split("/")[1] for entry in sorted(models, key=lambda one: one["LastModified"])][::-1]

    def program(self, page: str, begins: str, more: str = "", **replaced: str) -> str:
        """Run a Python program of a page, with `more` behind it. Return what it prints."""
        text = pages.block(page, begins).text + more
        for old, new in replaced.items():
            assert old in text, f"{page} has no {old}"
            text = text.replace(old, new)
        return self.runner.run("python", text, OutputOptions())


def ask_with_the_printed_token(life: PageReader) -> str:
    """Ask the endpoint with the token that calling.md makes, as the role for callers."""
    keys = life.stack.aws.client("sts").assume_role(
        RoleArn=life.stack.outputs["CallerRoleArn"], RoleSessionName="caller"
    )["Credentials"]
    life.runner.env |= {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    request = json.loads(pages.block("docs/architecture.md", '{"messages"').text)
    base = f"{life.stack.aws.endpoint_url}/endpoints/{life.stack.prefix}/openai/v1"
    more = (
        "\nfrom openai import OpenAI\n"
        f"client = OpenAI(base_url={base!r}, api_key=token)\n"
        f"print(client.chat.completions.create(model='', **{request!r}).choices[0].message.content)\n"
    )
    try:
        return life.program("docs/calling.md", "from datetime", more)
    finally:
        life.runner.env |= {name: life.stack.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        del life.runner.env["AWS_SESSION_TOKEN"]


def aws(stack: Deployed, folder: Path, script: str) -> str:
    """Run a script in which `aws` is `tests.docs.aws_cli`."""
    program = folder / "aws"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.docs.aws_cli "$@"\n')
    program.chmod(0o755)
    path = f"{folder}:{ROOT / 'node_modules' / '.bin'}:{stack.env['PATH']}"
    environment = stack.env | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_pages_runs_in_one_life(account: HealthyAccount, tmp_path: Path) -> None:
    stack = account.stack
    stack.upload("uploads/mine.csv", (ROOT / "data" / "dialogues" / "train.csv").read_bytes())
    life = PageReader(stack, tmp_path)
    for page, begins in LIVED:
        if begins == "tuneway stop":
            # Before the endpoint's end, the programs ask it, and its model in Bedrock. Then a run is there to be stopped.
            assert life.program("README.md", "from serving.endpoint")
            assert ask_with_the_printed_token(life)
            (model,) = stack.aws.client("bedrock").list_custom_model_deployments()["modelDeploymentSummaries"]
            printed = re.findall(r'modelId="([^"]+)"', pages.block("docs/models-in-bedrock.md", "import boto3").text)
            deployment = {printed[0]: model["customModelDeploymentArn"]}
            assert life.program("docs/models-in-bedrock.md", "import boto3", **deployment)
            life.tuneway("tuneway run --dataset my.csv --fields talk:gist --yes --detach")
        life.block(page, begins)
    check_the_printed_outputs(life.outputs)


def check_the_printed_outputs(outputs: dict[str, str]) -> None:
    """Compare the names in the pages' outputs with those that today's commands print."""
    printed = [("docs/cli.md", "doctor", pages.block("docs/cli.md", "ok       versions").text)]
    printed.append(("docs/run.md", "plan", pages.block("docs/run.md", "dataset     my.csv").text))
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    for found in PAIR.finditer(text):
        command = next(line for line in found["code"].splitlines()[::-1] if line.startswith("tuneway "))
        words = command.split()
        name = " ".join(words[1:3]) if "compare" in words else words[1]
        printed.append(("docs/operate.md", name, found["output"]))
    assert {name for _, name, _ in printed} >= outputs.keys()
    for page, name, output in printed:
        if name in outputs:
            # The other lines of `tuneway ask` are the model's.
            shown = output.splitlines()[-1] if name == "ask" else output
            gone = labels(shown) - labels(outputs[name])
            assert not gone, (
                f"{page}: `tuneway {name}` does not print {gone} any more; run `make docs-outputs PAGES={page}`"
            )


def test_the_secret_is_made_as_printed(account: HealthyAccount, tmp_path: Path) -> None:
    secrets: Any = account.stack.aws.client("secretsmanager")
    secrets.delete_secret(SecretId="tuneway/hub-token", ForceDeleteWithoutRecovery=True)
    aws(account.stack, tmp_path, pages.block("docs/deploy.md", "aws secretsmanager").text)
    assert secrets.get_secret_value(SecretId="tuneway/hub-token")["SecretString"] == "hf_..."
    secrets.put_secret_value(SecretId="tuneway/hub-token", SecretString="hf_token")


def test_the_bootstrap_of_the_stacks_own_is_made_as_printed(account: HealthyAccount, tmp_path: Path) -> None:
    script = pages.block("docs/people.md", "account=").text.replace("111122223333", ACCOUNT)
    aws(account.stack, tmp_path, script)
    version = account.stack.aws.client("ssm").get_parameter(Name="/cdk-bootstrap/tuneway/version")
    assert int(version["Parameter"]["Value"]) >= 6
    first = pages.block("docs/people.md", "python -m infra.permissions").text.split()
    assert first[:3] == script.split("\n")[1].split()[:3]
