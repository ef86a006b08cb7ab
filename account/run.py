"""One life of the stack in an AWS account: `python -m account.run [--instance-type T] [--bedrock customize|import] [--yes]`.

`make test-account` runs it. It checks for nothing, shows the price, asks, deploys, lives, destroys in any case, lists what is
left, and writes what AWS has answered. The exit code is 0 only if everything was as it must be and nothing is left.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
import typer
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from account import checks, compare, histories, price
from account.life import AccountLifeError, Life, LookSeconds
from account.output import lasting
from account.recording import AnswerRecorder
from cli import doctor
from cli.context import ConnectedStack, confirm, console
from cli.errors import of_aws
from local import cdk, inventory
from local.steps import step
from pipeline import aws, money, quotas
from pipeline.errors import Refused
from pipeline.money.words import dollars
from pipeline.settings import SettingsError, overlay, with_run_input, yaml_file
from serving import stack as stacks

if TYPE_CHECKING:
    from types import FrameType

    from pipeline.settings import Settings

ROOT = cdk.ROOT
HOME = ROOT / ".local" / "account"
SETTINGS = ROOT / "account" / "settings.yaml"
RECORDINGS = ROOT / "docs" / "account"

ENDS = ("settings", "region", "credentials", "bootstrap", "quotas", "base model")
"""The checks of `tuneway doctor` without which no life can begin. The others need a deployed stack, or only warn."""

INSTANCE_TYPES = ("ml.g5.xlarge", "ml.g6.xlarge")
UPDATES = 2
"""The instances of an endpoint that is updated."""


class AccountLife:
    """A life with its checks, its deployments and its end."""

    def __init__(self, settings_file: Path, pace: LookSeconds) -> None:
        """Begin with the settings, before anything is made."""
        self.settings_file = settings_file
        self.settings: Settings = stacks.load(settings_file)
        self.region = stacks.find_region(self.settings).name
        self.recorder = AnswerRecorder()
        self.recorder.names = {self.region: "REGION", self.settings.stack.name: "STACK"}
        self.problems: list[str] = []
        self.deployed = False
        self._pace = pace
        self._assembly, self._log = HOME / "cdk.out", HOME / "cdk.log"
        self._stack_id = ""
        self._account = ""

    @property
    def name(self) -> str:
        """The name of the stack."""
        return self.settings.stack.name

    def free_checks(self) -> None:
        """Make every check that costs nothing and makes nothing.

        Raises:
            AccountLifeError: a check has failed.
        """
        with self.recorder.step("doctor"):
            found = doctor.examine(self.settings_file)
        for name, result in found.lines():
            if name != "stack":  # It must not be there, which `_no_such_stack` says.
                console.print(f"{result.status:<8} {name:<12} {result.line}", markup=False)
        bad = [(name, result) for name, result in found.lines() if result.status != "ok"]
        if not found.results.keys() >= set(ENDS):  # Doctor has ended early, also by what may pass.
            raise AccountLifeError("; ".join(f"{name}: {result.line}" for name, result in bad))
        if ends := [f"{name}: {result.line}" for name, result in bad if name in ENDS and result.status == "failure"]:
            raise AccountLifeError("; ".join(ends))
        with self.recorder.step("doctor"):
            self._no_such_stack()
        self._account = boto3.client("sts", region_name=self.region).get_caller_identity()["Account"]
        self.recorder.names[self._account] = "ACCOUNT"
        self._enough_for_an_update()
        with step(console, "Synthesise", self._log):
            context = ("-c", f"settings={self.settings_file}")
            cdk.run("synth", "--quiet", *context, "--output", str(self._assembly), env=self._env, log=self._log)
        checked = self._template()
        client = self._client
        with self.recorder.step("free checks"):
            self._show(
                checks.definition_check(client("stepfunctions"), checked),
                checks.policy_check(client("accessanalyzer"), checked),
                checks.simulation_check(client("iam"), checked),
            )

    def deploy(self) -> Life:
        """Deploy the stack."""
        self.deployed = True
        self._stack_id = ""  # a deployment that breaks off has no id, and not that of the one before
        with step(console, "cdk deploy", self._log):
            app = ("--app", str(self._assembly))
            cdk.run("deploy", *app, "--require-approval", "never", env=self._env, log=self._log)
        stack = stacks.find_stack(self.settings)
        self._stack_id = self._client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        boto3.setup_default_session(region_name=self.region)
        connected = ConnectedStack(self.settings, stack, f" --settings {self.settings_file}")
        return Life(self.recorder, connected, console, self._pace)

    def deployed_roles(self) -> None:
        """Let IAM simulate the deployed roles. Raises AccountLifeError for a finding."""
        cloudformation = self._client("cloudformation")
        resources = aws.all_of(cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=self.name)
        roles = {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in resources
            if one["ResourceType"] == "AWS::IAM::Role"
        }
        prefix = stacks.find_stack(self.settings).endpoint
        self._show(checks.role_check(self._client("iam"), self._template(), roles, prefix))

    def destroy(self, of: str) -> None:
        """Destroy the stack, record what CloudFormation did, and list what is left."""
        with step(console, "cdk destroy", self._log):
            cdk.run("destroy", "--app", str(self._assembly), "--force", env=self._env, log=self._log)
        self.deployed = False
        try:
            with self.recorder.step("inventory", members=False):
                left = inventory.left(self._client, self.name)
        except (ClientError, BotoCoreError) as error:
            self.problems.append(f"the stack is destroyed, but nobody knows what is left: {of_aws(error)}")
        else:
            console.print(f"[bold]Left after destroy:[/bold] {', '.join(left) or 'nothing'}")
            self.problems += [f"left after destroy: {line}" for line in left]
        if self._stack_id:
            histories.stack_events(self.recorder, self._client("cloudformation"), self._stack_id, of)

    def live(self, run_input: dict[str, Any]) -> None:
        """Live: the refusals, the main run, serving again, stopping, and two moments at which the stack is destroyed."""
        with self.recorder.step("deploy"):
            life = self.deploy()
            self.deployed_roles()
        try:
            with self.recorder.step("refusals"):
                life.upload(price.SAMPLES)
                life.refusals()
            with self.recorder.step("main run"):
                execution, job = life.main(run_input)
            with self.recorder.step("refused calls"):
                life.refused_calls(execution, job)
            with self.recorder.step("serve again"):
                life.serve_again()
            with self.recorder.step("stop"):
                life.stop(self.settings_file)
            with self.recorder.step("destroy while data is prepared"):
                life.begin(prepares=True)
                self.destroy("of the stack that is destroyed while data is prepared")
        finally:
            self.problems += life.problems
        with self.recorder.step("destroy before a job starts"):
            life = self.deploy()
            life.begin(prepares=False)
            self.problems += life.problems
            self.destroy("of the stack that is destroyed before a job starts")

    def by_hand(self) -> str:
        """Return what to do if the stack could not be destroyed here."""
        minutes = self.settings.endpoint.time_to_live_minutes
        return (
            f"the stack {self.name} in {self.region} may still be there; run `{self._deletion}`, which stops and deletes "
            "everything that it has made; a training job ends by itself after "
            f"{self.settings.training.max_runtime_minutes} minutes, and an endpoint {minutes} minutes after it serves"
        )

    @property
    def _deletion(self) -> str:
        """The command that deletes the stack. It needs no settings file, which another life may have written anew."""
        return f"aws cloudformation delete-stack --region {self.region} --stack-name {self.name}"

    @property
    def _env(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        region = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        silent = {"CDK_DISABLE_VERSION_CHECK": "1", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
        return {**os.environ, **region, **silent, "PATH": path}

    def _client(self, service: str) -> Any:
        return aws.client(service, region_name=self.region)

    def _template(self) -> checks.CheckedTemplate:
        document = json.loads((self._assembly / f"{self.name}.template.json").read_text(encoding="utf-8"))
        qualifier = self.settings.stack.qualifier or "hnb659fds"
        return checks.CheckedTemplate(document, self.name, self._account, self.region, qualifier)

    def _show(self, *found: checks.FreeCheck) -> None:
        for one in found:
            status = "skipped" if one.skipped else "failure" if one.problems else "ok"
            more = f": {one.skipped}" if one.skipped else ""
            console.print(f"{status:<8} {one.name:<12} {one.line}{more}", markup=False)
            for problem in one.problems:
                console.print(f"         {problem}", markup=False)
        problems = [problem for one in found for problem in one.problems]
        if problems:
            raise AccountLifeError(
                f"AWS has found {len(problems)} problems, such as {problems[0]}; mend that, and run it again"
            )

    def _no_such_stack(self) -> None:
        """Check that no stack has this name, in whatever status, because the life destroys it. Raises AccountLifeError."""
        try:
            [found] = self._client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            return
        raise AccountLifeError(
            f"there is a stack {self.name} in {self.region} already ({found['StackStatus']}), and this life would destroy it; "
            f"if an earlier life has left it, run `{self._deletion}`, or else give this life another stack.name"
        )

    def _enough_for_an_update(self) -> None:
        """Check that the quota allows the two instances that an endpoint has while it is updated. Raises AccountLifeError."""
        wanted = [f"{kind} for endpoint usage" for kind in self.settings.endpoint.instance_types]
        for name, found in quotas.of_instances(wanted, self.region).items():
            if found.value < UPDATES:
                page = quotas.console("sagemaker", self.region, found.code)
                raise AccountLifeError(
                    f"quota '{name}' is {found.value:g}, and an endpoint that is updated needs {UPDATES}; request an "
                    f"increase ({page})"
                )


def write_settings(layer: Path | None, instance_type: str | None, region: str | None) -> Path:
    """Write the settings of a life, and return their file.

    Args:
        layer: a settings file that is laid over account/settings.yaml, or None.
        instance_type: the type of the job and of the endpoint. None: that of the settings.
        region: the Region. None: that of the settings.

    Raises:
        SettingsError: the layer cannot be read, or is no mapping.
    """
    found = yaml_file.read(SETTINGS)
    layers = [yaml_file.read(layer)] if layer else []
    if instance_type:
        layers += [{part: {"instance_types": instance_type} for part in ("training", "endpoint")}]
    if region:
        layers.append({"stack": {"region": region}})
    for one in layers:
        found = overlay(found, one)
    target = HOME / "settings.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(found))  # without the numbers that know how they were written (`yaml_file._Number`)
    target.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return target


def run(life: AccountLife, mode: str, record: Path, *, yes: bool) -> bool:
    """Check, ask, live and destroy. Write the recording in any case.

    Returns:
        Whether everything was as it must be.

    Raises:
        AccountLifeError, Refused, SettingsError: the life could not begin, or could not go on.
        OSError: a file could not be written, as on a full disk.
        local.cdk.CdkError: a command of the CDK CLI failed.
    """
    life.recorder.install()
    run_input = price.main_input(life.settings, mode, life.region)
    life.free_checks()
    amount = price.life(life.settings, life.region, run_input)
    if amount.main.total is not None:  # Plan would refuse the main run in the same words, after the deployment.
        money.check_plan(amount.main, with_run_input(life.settings.model_dump(), run_input))
    for line in amount.lines():
        console.print(line, markup=False)
    if mode != "off":
        if amount.total is None:
            raise AccountLifeError(
                f"what bedrock.mode {mode} costs at most in {life.region} is not known, so nothing would bound it; leave out "
                "BEDROCK=, or name another Region with REGION="
            )
        off = price.life(life.settings, life.region, {})
        extra = dollars(amount.total - off.total) if off.total is not None else dollars(None)
        console.print(f"Of this, bedrock.mode {mode} alone may cost {extra} dollars, and may take hours", markup=False)
    cost = f"at most {dollars(amount.total)} dollars" if amount.total is not None else "a price that is not known"
    confirm(f"Deploy {life.name} to {life.region}, live for {cost}, and destroy it?", yes=yes)
    try:
        life.live(run_input)
        life.recorder.complete = True
    finally:
        # Ctrl-C also ends what reads this output (`| tee`), and a closed terminal reads nothing.
        with redirect_stdout(lasting(sys.stdout)), redirect_stderr(lasting(sys.stderr)):
            end(life, record)
    return not life.problems


def end(life: AccountLife, record: Path) -> None:
    """Destroy what is still deployed, show what was wrong, and write the recording in any case."""
    try:
        if life.deployed:
            console.print("The life has ended early. Everything that it made is destroyed now.")
            with life.recorder.step("destroy after an early end"):
                life.destroy("of the stack that is destroyed early")
    except BaseException:
        if life.deployed:
            typer.echo(f"Not destroyed: {life.by_hand()}", err=True)
        raise
    finally:
        for problem in life.problems:
            console.print(f"[red]Wrong:[/red] {escape(problem)}")
        life.recorder.write(record)
        console.print(f"Recording: {record}", markup=False)


def main() -> None:
    """Parse the command line and live."""
    parser = argparse.ArgumentParser(prog="python -m account.run", description="Live once in an AWS account.")
    parser.add_argument("--instance-type", choices=INSTANCE_TYPES, help="of the job and the endpoint")
    parser.add_argument("--region", help="the Region; else that of config.yaml")
    parser.add_argument("--bedrock", choices=("off", "customize", "import"), default="off", help="at its own price")
    parser.add_argument("--settings", type=Path, help="a settings file laid over account/settings.yaml")
    parser.add_argument("--record", type=Path, help="the file of the recording; else docs/account/REGION-TIME.jsonl")
    parser.add_argument("--looks", type=float, nargs=2, default=(3.0, 5.0), help="seconds between two looks")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` ignores it
        # A closed terminal and a lost connection end the life as Ctrl-C does, so that everything is destroyed.
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        lock = _only_life()
        settings_file = write_settings(given.settings, given.instance_type, given.region)
        life = AccountLife(settings_file, LookSeconds(*given.looks))
        record = given.record or RECORDINGS / f"{life.region}-{datetime.now(UTC):%Y-%m-%d-%H%M}.jsonl"
        well = run(life, given.bedrock, record, yes=given.yes)
    except BlockingIOError:
        sys.exit("error: another `make test-account` runs in this folder: wait for its end, or use a second clone")
    except (AccountLifeError, Refused, SettingsError, cdk.CdkError, OSError) as error:
        sys.exit(f"error: {error}")
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"error: {of_aws(error)}")
    except typer.Exit:  # the answer to the question was no
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("interrupted: what the life made is destroyed, unless a line above says otherwise")
    if not given.record:
        compare.show(record, compare.LOCAL, record.with_suffix(".md"))
    lock.close()
    sys.exit(0 if well else 1)


def _only_life() -> IO[str]:
    """Return the locked file of the only life in this folder, because two would share the synthesised stack.

    Raises:
        BlockingIOError: another life runs.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    lock = (HOME / "run.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
