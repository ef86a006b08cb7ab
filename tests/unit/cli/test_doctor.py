"""The checks of doctor without an account: templates, Regions, versions, statuses of a stack, and errors in a check."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cli import doctor, serving_now
from cli.checks import account, machine, stack
from cli.checks.result import CheckContext, CheckResult, ok
from cli.doctor import Doctor
from cli.serving_now import EndpointNow
from pipeline import aws
from pipeline.errors import Refused
from serving import deployed
from serving.stack import Region, Stack, load
from tests.unit.test_messages import REMEDY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "a"}}


def checked(**changes: Any) -> CheckContext:
    return CheckContext(load(None), None, Region("us-west-2", "stack.region"), "123456789012", **changes)


def test_templates_differ_by_their_resources_and_not_by_what_the_cdk_cli_adds() -> None:
    tagged = {**BUCKET, "Metadata": {"aws:cdk:path": "x"}}
    analytics = {"Type": "AWS::CDK::Metadata", "Properties": {"Analytics": "v2"}}
    deployed = {"Resources": {"A": tagged, "CDKMetadata": analytics}, "Outputs": {"O": {"Value": "1"}}}
    assert stack.compare(deployed, {"Resources": {"A": BUCKET}, "Outputs": {"O": {"Value": "1"}}}) == []
    now = {"Resources": {"A": {**BUCKET, "Properties": {}}, "B": BUCKET}}
    assert stack.compare(deployed, now) == ["A changed", "B is new", "O is gone"]


def test_a_text_that_is_not_ascii_is_compared_as_cloudformation_keeps_it() -> None:
    resources = {"A": {"Type": "T", "Properties": {"Text": "r\N{LATIN SMALL LETTER E WITH ACUTE}sum\N{SPARKLES}"}}}
    kept = {"A": {"Type": "T", "Properties": {"Text": "r?sum?"}}}
    assert stack.compare({"Resources": kept}, {"Resources": resources}) == []


def test_the_region_of_last_resort_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CDK_DEFAULT_REGION", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    settings = load(None)
    nowhere = settings.model_copy(update={"stack": settings.stack.model_copy(update={"region": None})})
    result, found = account.region(nowhere)
    assert (result.status, found.name) == ("warning", "us-west-2")
    assert "would then take us-east-1; set stack.region" in result.line
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert account.region(nowhere)[0] == ok("eu-central-1 (from AWS_REGION)")
    (tmp_path / "config").write_text("[default]\nregion = us-east-2\n")
    monkeypatch.delenv("AWS_REGION")
    assert account.region(nowhere)[0] == ok("us-east-2 (from the AWS profile default)")


def test_a_package_of_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.versions().status == "ok"
    monkeypatch.setattr(machine.metadata, "version", lambda name: "0.1" if name == "boto3" else "0.0")
    result = machine.versions()
    assert result.status == "warning"
    assert "and " in result.line
    assert result.line.endswith("more; run `make setup`")


def test_a_cdk_cli_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, _ = machine.cdk_versions(machine.ROOT)
    monkeypatch.setattr(machine, "cdk_versions", lambda _: (wanted, None))
    assert machine.versions().line.startswith(f"the CDK CLI {wanted} is not installed")
    monkeypatch.setattr(machine, "cdk_versions", lambda _: (wanted, "3.0.0"))
    assert machine.versions() == CheckResult(
        "warning", f"the CDK CLI is 3.0.0, and package.json has {wanted}; run `make setup`"
    )


class CloudFormationDouble:
    """CloudFormation with the events of a stack, the newest first."""

    def __init__(self, *events: tuple[str, str, str]) -> None:
        self._events = [
            {
                "LogicalResourceId": name,
                "ResourceType": "AWS::CloudFormation::Stack" if name == "tuneway" else "T",
                "ResourceStatus": status,
                "ResourceStatusReason": why,
            }
            for name, status, why in events
        ]

    def get_paginator(self, _operation: str) -> CloudFormationDouble:
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        yield {"StackEvents": self._events}


@pytest.mark.parametrize(
    ("status", "result", "remedy"),
    [
        ("ROLLBACK_COMPLETE", "failure", "run `cdk deploy`, which makes the stack anew"),
        ("CREATE_FAILED", "failure", "run `cdk deploy`, which makes the stack anew"),
        ("UPDATE_ROLLBACK_COMPLETE", "warning", "run `cdk deploy`"),
        ("UPDATE_ROLLBACK_FAILED", "failure", "run `aws cloudformation continue-update-rollback --region us-west-2"),
        ("DELETE_FAILED", "failure", "run `cdk destroy` again"),
        ("UPDATE_IN_PROGRESS", "warning", "wait until that has ended"),
        ("REVIEW_IN_PROGRESS", "failure", "run `cdk deploy`"),
        ("CREATE_COMPLETE", "failure", "does not have all outputs of this version of Tuneway; run `cdk deploy`"),
    ],
)
def test_each_bad_status_of_a_stack_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, status: str, result: str, remedy: str
) -> None:
    events = CloudFormationDouble(
        ("tuneway", status, ""),
        ("B", "CREATE_FAILED", "Resource creation cancelled"),
        ("A", "UPDATE_FAILED", "the quota\n is used up"),
        ("tuneway", "UPDATE_IN_PROGRESS", ""),
        ("Old", "CREATE_FAILED", "of an earlier deploy"),
    )
    monkeypatch.setattr(aws, "client", lambda *_, **__: events)
    found = stack._status(checked(described={"StackName": "tuneway", "StackStatus": status, "Outputs": []}))
    assert found.status == result
    assert remedy in found.line
    assert REMEDY.search(found.line)
    if "ROLLBACK" in status or "FAILED" in status:
        assert "(A: the quota is used up)" in found.line


SERVES = EndpointNow("tuneway-0a", "InService", None, "0123456789", "1 x ml.g5.xlarge, x", 1.4, None, 60)


@pytest.mark.parametrize(
    ("endpoint", "status", "line"),
    [
        (None, "ok", "no endpoint, so nothing is billed by the hour"),
        (
            SERVES._replace(until=datetime(2026, 11, 28, 16, 20, tzinfo=UTC)),
            "ok",
            "endpoint tuneway-0a is InService with the model of run 0123456789, 1 x ml.g5.xlarge, x, until 2026-11-28 16:20 "
            "UTC at the latest, or until nobody has used it for 60 minutes",
        ),
        (
            SERVES._replace(idle_minutes=None, run=None),
            "warning",
            "endpoint tuneway-0a is InService, 1 x ml.g5.xlarge, x, without an end: it bills until somebody deletes it; run "
            "`tuneway down` when it is not needed",
        ),
        (
            SERVES._replace(status="Failed", failure="no capacity"),
            "warning",
            "endpoint tuneway-0a is Failed with the model of run 0123456789, 1 x ml.g5.xlarge, x, until nobody has used it for "
            "60 minutes (no capacity); run `tuneway serve` to serve a model again, or `tuneway down` to delete the endpoint",
        ),
    ],
)
def test_an_endpoint_without_an_end_or_that_serves_nothing_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, endpoint: EndpointNow | None, status: str, line: str
) -> None:
    def nothing(*_: Any) -> None:
        raise Refused("no model in Bedrock")

    monkeypatch.setattr(deployed, "bedrock", nothing)
    monkeypatch.setattr(serving_now, "look", lambda _: endpoint)
    found = checked(stack=Stack("tuneway", "us-west-2", "tuneway-0a", "role", "bucket", "machine"))
    assert stack.serving(found) == (status, line)


def test_a_check_with_a_defect_and_one_that_hangs_do_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: CheckContext) -> CheckResult:
        raise KeyError("a defect")

    def hangs(_: CheckContext) -> CheckResult:
        __import__("time").sleep(5)
        return ok("late")

    monkeypatch.setattr(doctor, "AT_ONCE", {"broken": broken, "hangs": hangs, "well": lambda _: ok("yes")})
    monkeypatch.setattr(doctor, "DEADLINE_SECONDS", 0.5)
    found = Doctor()
    found.check_at_once(checked())
    lines = dict(found.lines())
    assert lines["well"] == ok("yes")
    assert lines["broken"].line == "this check has a defect (KeyError('a defect')); report it to the project"
    assert (lines["hangs"].status, found.status) == ("warning", "failure")


def test_a_template_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    wrong = tmp_path / "settings.yaml"
    wrong.write_text(json.dumps({"functions": {"python": "3.12"}}))
    made = stack._synthesise(CheckContext(load(wrong), wrong, Region("us-west-2", "stack.region"), "123456789012"))
    assert isinstance(made, CheckResult)
    assert made.status == "warning"
    assert "run `make setup` (with SETTINGS=FILE for another settings file)" in made.line
