"""`tuneway doctor` in a healthy account, and in twelve broken ones: each of these has one line with its remedy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cli.checks.account import BOOTSTRAP_VERSION
from local import cdk
from tests.hub_server import HubAnswer
from tests.local.cli.conftest import SECRET, Examined, HealthyAccount, parse
from tests.local_aws.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Break = Callable[[HealthyAccount], AbstractContextManager[dict[str, Any] | None]]

PARAMETER = "/cdk-bootstrap/hnb659fds/version"
LLAMA = "meta.llama3-3-70b-instruct-v1:0:128k"
ABOUT = "/api/models/tuneway/tiny-random-llama/revision/main?blobs=true"


def run(account: HealthyAccount, settings: Path) -> Examined:
    """Run `python -m cli doctor --json` as the user does, with all its checks."""
    command = [sys.executable, "-m", "cli", "doctor", "--json", "--settings", str(settings)]
    done = subprocess.run(
        command, cwd=cdk.ROOT, env=account.stack.env, capture_output=True, text=True, timeout=200, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return parse(done.returncode, done.stdout)


def test_in_a_healthy_account_all_is_well(account: HealthyAccount) -> None:
    found = run(account, account.settings)
    assert found.ill() == {}
    assert (found.exit_code, found.status, found.not_checked) == (0, "ok", {})
    assert list(found.lines) == [
        *("versions", "settings", "region", "credentials", "stack", "token", "bootstrap", "quotas", "bedrock"),
        *("base model", "dataset", "template", "serving"),
    ]
    assert found.lines["credentials"][1].startswith("arn:aws:iam::000000000000:root in account 000000000000")
    assert account.hub.seen[-1].authorization == "Bearer hf_token"
    assert "hf_token" not in str(found.lines)
    manifest = json.loads((account.stack.assembly / "manifest.json").read_text())
    asked = [one["properties"].get("requiresBootstrapStackVersion", 0) for one in manifest["artifacts"].values()]
    assert max(asked) == BOOTSTRAP_VERSION


def test_settings_that_are_not_deployed_are_a_warning_with_the_resources_that_differ(account: HealthyAccount) -> None:
    found = run(account, account.changed("functions", log_retention_days=1))
    (line,) = found.ill().items()
    assert (line[0], line[1][0], found.exit_code) == ("template", "warning", 0)
    assert re.search(r"are not deployed: \w+ changed, .* and \d+ more; run `cdk deploy`", line[1][1])


@contextmanager
def no_bootstrap(account: HealthyAccount) -> Iterator[None]:
    ssm = account.stack.aws.client("ssm")
    version = ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"]
    ssm.delete_parameter(Name=PARAMETER)
    yield
    ssm.put_parameter(Name=PARAMETER, Value=version, Type="String")


@contextmanager
def old_bootstrap(account: HealthyAccount) -> Iterator[None]:
    ssm = account.stack.aws.client("ssm")
    version = ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"]
    ssm.put_parameter(Name=PARAMETER, Value="5", Type="String", Overwrite=True)
    yield
    ssm.put_parameter(Name=PARAMETER, Value=version, Type="String", Overwrite=True)


@contextmanager
def no_own_bootstrap(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"settings": account.changed("stack", qualifier="own")}


@contextmanager
def quota_zero(account: HealthyAccount) -> Iterator[None]:
    account.stack.quota(training=0, endpoint=4)
    yield
    account.stack.quota(training=2, endpoint=4)


def fault(**given: Any) -> Break:
    @contextmanager
    def broken(account: HealthyAccount) -> Iterator[None]:
        account.stack.faults(given)
        yield
        account.stack.faults()

    return broken


@contextmanager
def no_secret(account: HealthyAccount) -> Iterator[None]:
    account.stack.aws.client("secretsmanager").delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    yield
    account.put_secret()


@contextmanager
def refused_token(account: HealthyAccount) -> Iterator[None]:
    account.hub.answers[ABOUT] = [HubAnswer(401)]
    yield
    del account.hub.answers[ABOUT]


@contextmanager
def legacy(account: HealthyAccount) -> Iterator[None]:
    account.stack.aws.control("_tuneway/bedrock", {"legacy_model": LLAMA})
    yield
    account.stack.aws.control("_tuneway/bedrock", {"legacy_model": ""})


@contextmanager
def denied(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield account.session({"Effect": "Deny", "Action": "ssm:GetParameter", "Resource": "*"})


@contextmanager
def expired(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    session = account.session()
    account.stack.aws.control("_tuneway/sessions", {"expire": session["AWS_ACCESS_KEY_ID"]})
    yield session


@contextmanager
def unknown_key(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}


@contextmanager
def no_credentials(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


@contextmanager
def wrong_region(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"settings": account.changed("stack", region="us-east-1")}


@contextmanager
def no_such_region(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"settings": account.changed("stack", region="us-wset-2")}


@contextmanager
def no_stack(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    yield {"settings": account.changed("stack", name="tuneway-absent")}


@contextmanager
def rolled_back(account: HealthyAccount) -> Iterator[dict[str, Any]]:
    """A stack whose creation CloudFormation has undone, because one of its resources could not be made."""
    nobody = "arn:aws:lambda:us-west-2:000000000000:function:nobody"
    missing = {"Type": "Custom::Missing", "Properties": {"ServiceToken": nobody}}
    cloudformation, name = account.stack.aws.client("cloudformation"), "tuneway-rolled-back"
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Missing": missing}}))

    def is_rolled_back() -> bool:
        [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return bool(found["StackStatus"] == "ROLLBACK_COMPLETE")

    assert eventually(is_rolled_back)
    yield {"settings": account.changed("stack", name=name)}
    cloudformation.delete_stack(StackName=name)


WITHOUT_STACK = {"dataset", "serving"}
ALL = {"stack", "token", "bootstrap", "quotas", "bedrock", "base model", "dataset", "serving"}
QUOTAS = "https://us-west-2.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"

BROKEN: list[tuple[Break, str, str, str, set[str]]] = [
    (no_bootstrap, "bootstrap", "failure", r"not bootstrapped in us-west-2 .*; run `cdk bootstrap aws://0{12}/", set()),
    (old_bootstrap, "bootstrap", "failure", r"has version 5, and the stack needs 6; run `cdk bootstrap", set()),
    (
        no_own_bootstrap,
        *(
            "bootstrap",
            "failure",
            r"no parameter /cdk-bootstrap/own/version\); run the commands of docs/people.md",
            set(),
        ),
    ),
    (quota_zero, "quotas", "failure", rf"ml.g5.xlarge for training job usage' is 0 .*{QUOTAS}/L-B6D80D9C\)", set()),
    (
        fault(kind="error", action="servicequotas:List*", code="TooManyRequestsException", status=429),
        *("quotas", "warning", rf"could not be read; SageMaker refuses .*; look at {QUOTAS}$", set()),
    ),
    (
        no_secret,
        *("token", "failure", rf"secret {SECRET} does not exist; .*`aws secretsmanager create-secret", {"base model"}),
    ),
    (refused_token, "base model", "failure", r"the Hub refused the token \(401\); put a valid one", set()),
    (legacy, "bedrock", "failure", rf"{LLAMA} is Legacy in us-west-2, .*; choose another one", set()),
    (
        fault(kind="error", action="bedrock:*", code="UnknownOperationException", status=404),
        *("bedrock", "failure", r"Bedrock does not know .* in us-west-2 .* set bedrock.mode to off", set()),
    ),
    (
        denied,
        *(
            "bootstrap",
            "failure",
            r"not authorized to perform: ssm:GetParameter .*ask .* to allow ssm:GetParameter",
            set(),
        ),
    ),
    (wrong_region, "stack", "failure", r"in us-east-1 .*, but in us-west-2; set stack.region or", ALL - {"stack"}),
    (
        no_such_region,
        *("region", "failure", r"no Region us-wset-2 .* to us-west-2, if you meant that", ALL | {"credentials"}),
    ),
    (expired, "credentials", "failure", r"have expired \(.*ExpiredToken.*\); sign in", ALL),
    (unknown_key, "credentials", "failure", r"does not know these credentials .*InvalidClientTokenId.*; sign in", ALL),
    (no_credentials, "credentials", "failure", r"^there are no AWS credentials .*; sign in", ALL),
    (no_stack, "stack", "failure", r"^there is no stack tuneway-absent in us-west-2; run `cdk deploy`", WITHOUT_STACK),
    (
        rolled_back,
        "stack",
        "failure",
        r"is ROLLBACK_COMPLETE: its creation failed \(Missing: .*run `cdk",
        WITHOUT_STACK,
    ),
]


IDS = [
    *(
        "no bootstrap",
        "old bootstrap",
        "no bootstrap of its own",
        "quota 0",
        "throttled quotas",
        "no secret",
        "refused token",
        "Legacy model",
    ),
    *("no Bedrock", "denied call", "wrong Region", "no such Region", "expired", "unknown key", "no credentials"),
    *("no stack", "rolled back"),
]


@pytest.mark.parametrize(
    ("broken", "check", "status", "line", "not_checked"),
    BROKEN,
    ids=IDS,
)
def test_a_broken_account_has_one_line_with_its_remedy(
    account: HealthyAccount, broken: Break, check: str, status: str, line: str, not_checked: set[str]
) -> None:
    with broken(account) as given:
        variables = dict(given or {})
        found = account.doctor(variables.pop("settings", None), **variables)
    assert found.ill().keys() == {check}, found
    assert found.ill()[check][0] == found.status == status
    assert re.search(line, found.ill()[check][1]), found.ill()[check][1]
    assert "\n" not in found.ill()[check][1]
    assert found.exit_code == (1 if status == "failure" else 0)
    assert found.not_checked.keys() == not_checked
