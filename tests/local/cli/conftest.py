"""An account on local AWS in which all is well: bootstrapped, with the Hub token, and with the real stack deployed."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from typer.testing import CliRunner

from cli import doctor
from cli.main import app
from local import tiny_model
from tests.hub_server import HubServer
from tests.local.deployed import Deployed, on_its_own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "tuneway/hub-token"


@dataclass
class Examined:
    """The answer of `tuneway doctor --json`."""

    exit_code: int
    status: str
    lines: dict[str, tuple[str, str]]
    not_checked: dict[str, str]

    def ill(self) -> dict[str, tuple[str, str]]:
        """Return the checks that are not ok: status and line by name."""
        return {name: found for name, found in self.lines.items() if found[0] != "ok"}


def parse(exit_code: int, output: str) -> Examined:
    answer = json.loads(output)
    lines = {check["check"]: (check["status"], check["line"]) for check in answer["checks"]}
    return Examined(exit_code, answer["status"], lines, answer["not_checked"])


@dataclass
class HealthyAccount:
    """The account, and its user."""

    stack: Deployed
    hub: HubServer
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Path:
        """The settings file with which the stack was deployed."""
        return self.stack.log.with_name("settings.yaml")

    def changed(self, section: str, **values: Any) -> Path:
        """Write a settings file that differs from the deployed one."""
        found = yaml.safe_load(self.settings.read_text())
        found[section] = found.get(section, {}) | values
        target = self.folder / f"{section}-{'-'.join(values)}.yaml"
        target.write_text(yaml.safe_dump(found))
        return target

    def put_secret(self) -> None:
        self.stack.aws.client("secretsmanager").create_secret(Name=SECRET, SecretString="hf_token")

    def session(self, *statements: dict[str, Any]) -> dict[str, str]:
        """Return the environment of a session of a role that may do everything except what the statements deny."""
        iam, name = self.stack.aws.client("iam"), f"user-{len(self.environment)}-{os.urandom(3).hex()}"
        trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
        may = [{"Effect": "Allow", "Action": "*", "Resource": "*"}, *statements]
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=_policy(*may))
        found = self.stack.aws.client("sts").assume_role(RoleArn=role, RoleSessionName="user")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }

    def doctor(self, settings: Path | None = None, **variables: str) -> Examined:
        return examined(self.stack, settings, **variables)


@contextmanager
def as_user(stack: Deployed, **variables: str) -> Iterator[None]:
    """Give this process the environment of the account's user, without one of AWS of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "CDK_"))]:
            patch.delenv(name)
        for name, value in {**stack.env, **variables}.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of an earlier environment
        yield


def examined(stack: Deployed, settings: Path | None = None, **variables: str) -> Examined:
    """Run doctor in this process, without its synth, which takes longer than all other checks together."""
    given = str(settings or stack.log.with_name("settings.yaml"))
    with as_user(stack, **variables), pytest.MonkeyPatch.context() as patch:
        patch.delitem(doctor.AT_ONCE, "template")
        done = CliRunner().invoke(app, ["doctor", "--json", "--settings", given])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return parse(done.exit_code, done.stdout)


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="package")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HealthyAccount]:
    folder = tmp_path_factory.mktemp("doctor")
    tiny_model.ensure(folder / "hub")
    with HubServer(folder / "hub") as hub:
        changes = {"access": {"hub_endpoint": hub.url}, "training": {"gated": True}}
        with on_its_own(folder, **changes) as stack:
            found = HealthyAccount(stack, hub, folder)
            found.put_secret()
            yield found
