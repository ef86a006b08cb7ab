"""The checks of the stack: its status, whether it is what today's settings and code make, and what serves and until when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from cli import serving_now
from cli.checks.result import CheckContext, CheckResult, NotChecked, failure, ok, warning
from pipeline import aws
from pipeline.catalogue import REGIONS
from pipeline.errors import Refused
from serving.stack import ROOT, outputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNTH_SECONDS = 50
"""How long the synth of the template may take. It takes 5 to 15 seconds on two cores."""

MOST_NAMED = 3
"""The most changed resources that a line names."""

_SERVES_NOTHING = ("Failed", "OutOfService", "UpdateRollbackFailed")
"""The statuses of an endpoint that does not come back by itself (API reference, DescribeEndpoint)."""

_WELL = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")


class WrongRegion(Refused):
    """The stack is not here, but in another Region."""


def find(checked: CheckContext) -> tuple[CheckResult, CheckContext]:
    """Find the stack and check its status. Return the result, and the context with the stack.

    Raises:
        WrongRegion: it is in another Region.
    """
    name, region = checked.settings.stack.name, checked.region
    described = _describe(name, region.name)
    others = [] if described else _elsewhere(name, region.name)
    if others:
        raise WrongRegion(
            f"there is no stack {name} in {region.name} (from {region.origin}), but in {' and '.join(others)}; set "
            f"stack.region or AWS_REGION to {others[0]}"
        )
    stack = outputs_of(described, region.name) if described else None
    found = replace(checked, described=described, stack=stack)
    return _status(found), found


def _describe(name: str, region: str) -> dict[str, Any] | None:
    """Return the stack as DescribeStacks returns it, or None if there is none."""
    client = aws.client("cloudformation", region_name=region)
    try:
        found: dict[str, Any] = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        return None
    return found


def _elsewhere(name: str, region: str) -> list[str]:
    """Return the other Regions of the catalogue that have a stack of this name."""

    def has(other: str) -> bool:
        try:
            return _describe(name, other) is not None
        except (ClientError, BotoCoreError):
            return False  # Not enabled, denied or out of reach: nobody knows of a stack there.

    others = [other for other in REGIONS if other != region]
    with ThreadPoolExecutor(len(others)) as pool:
        return [other for other, there in zip(others, pool.map(has, others), strict=True) if there]


def _status(checked: CheckContext) -> CheckResult:
    """Check that the stack is deployed, and that its last change went well."""
    name, region, found = checked.settings.stack.name, checked.region.name, checked.described
    if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
        return failure(
            f"there is no stack {name} in {region}; run `cdk deploy`, or name its settings file (--settings)"
        )
    now = found["StackStatus"]
    if now in _WELL:
        lacking = f"{name} does not have all outputs of this version of Tuneway; run `cdk deploy`"
        return ok(f"{name} is {now}") if checked.stack else failure(lacking)
    if now.endswith("_IN_PROGRESS"):
        return warning(f"{name} is {now}; wait until that has ended, and ask again")
    why = _first_failure(checked, name)
    if now == "UPDATE_ROLLBACK_COMPLETE":
        return warning(
            f"{name} is {now}: the last deploy failed and was undone, so that the stack is as before ({why}); mend that, and "
            "run `cdk deploy`"
        )
    # The others are the ends of a creation. The CDK CLI deletes a stack whose creation failed before it makes the stack anew.
    what, remedy = {
        "UPDATE_ROLLBACK_FAILED": (
            "a deploy failed and could not be undone",
            f"run `aws cloudformation continue-update-rollback --region {region} --stack-name {name}`",
        ),
        "DELETE_FAILED": ("it could not be deleted", "run `cdk destroy` again"),
    }.get(now, ("its creation failed", "run `cdk deploy`, which makes the stack anew"))
    return failure(f"{name} is {now}: {what} ({why}); mend that, and {remedy}")


def _first_failure(checked: CheckContext, name: str) -> str:
    """Return the reason of the first resource that failed in the last change of the stack."""
    why = "CloudFormation gives no reason"
    pages = checked.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
    for event in (event for page in pages for event in page["StackEvents"]):  # the newest first
        its_own = event["ResourceType"] == "AWS::CloudFormation::Stack" and event["LogicalResourceId"] == name
        if its_own and event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
            break
        if event["ResourceStatus"].endswith("_FAILED") and not its_own:
            reason = " ".join(event.get("ResourceStatusReason", "no reason").split())
            why = f"{event['LogicalResourceId']}: {reason}"
    return why


def changes(checked: CheckContext) -> CheckResult:
    """Compare the deployed template with that of today's settings and code."""
    if checked.stack is None:
        raise NotChecked("the stack is not there")
    with ThreadPoolExecutor(1) as pool:
        synth = pool.submit(_synthesise, checked)
        body = checked.client("cloudformation").get_template(StackName=checked.stack.name)["TemplateBody"]
        done = synth.result()
    if isinstance(done, CheckResult):
        return done
    differing = compare(body if isinstance(body, dict) else json.loads(body), json.loads(done))
    if not differing:
        return ok("the stack is what today's settings and code make")
    more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
    return warning(
        f"today's settings and code are not deployed: {', '.join(differing[:MOST_NAMED])}{more}; run `cdk deploy`, or runs go "
        "on with the deployed ones"
    )


def _synthesise(checked: CheckContext) -> str | CheckResult:
    """Return the template as JSON, or a warning if it cannot be made. No hook and no context of the user takes part."""
    command = [sys.executable, "-m", "infra.print_template", checked.region.name]
    command += [str(checked.file.resolve())] if checked.file else []
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # node is in the first
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**inherited, "PATH": path, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
            capture_output=True,
            text=True,
            timeout=SYNTH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return warning(
            f"the synth did not end in {SYNTH_SECONDS} seconds; run `cdk diff` to compare the stack yourself"
        )
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("error: ")
    return warning(f"the stack cannot be compared with today's settings ({last}); mend that, and ask again")


def compare(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the resources and outputs that two templates do not have in common, as CloudFormation keeps them."""
    before, after = _parts(was), _parts(now)
    words = {(True, True): "changed", (False, True): "is new", (True, False): "is gone"}
    return [
        f"{name} {words[name in before, name in after]}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _parts(template: Mapping[str, Any]) -> dict[str, str]:
    """Return resources and outputs as JSON, without what the CDK CLI adds for itself (paths of constructs, CDKMetadata)."""
    found = {}
    for name, resource in {**template.get("Resources", {}), **template.get("Outputs", {})}.items():
        if resource.get("Type") == "AWS::CDK::Metadata":
            continue
        metadata = {key: value for key, value in resource.get("Metadata", {}).items() if not key.startswith("aws:")}
        text = json.dumps({**resource, "Metadata": metadata}, sort_keys=True, ensure_ascii=False)
        # CloudFormation keeps only ASCII (mangleLikeCloudFormation of the CDK).
        found[name] = re.sub(r"[^\x00-\x7f]", "?", text)
    return found


def serving(checked: CheckContext) -> CheckResult:
    """Say what serves, until when, and what ends it sooner."""
    if checked.stack is None:
        raise NotChecked("the stack is not there")
    from serving import deployed  # it imports `openai`, which is slow, and no other check needs it

    stack = checked.stack
    try:
        found = deployed.bedrock(stack, lambda _: None)
        in_bedrock = f"; {found.title}: {found.id} of run {found.run}, {found.price}"
    except Refused:
        in_bedrock = ""
    endpoint = serving_now.look(stack)
    if endpoint is None:
        return ok(f"no endpoint, so nothing is billed by the hour{in_bedrock}")
    line = f"endpoint {endpoint.name} is {endpoint.line()}"
    if endpoint.status in _SERVES_NOTHING:
        return warning(
            f"{line} ({endpoint.failure or 'no reason'}); run `tuneway serve` to serve a model again, or `tuneway down` to "
            "delete the endpoint"
        )
    if endpoint.until is None and endpoint.idle_minutes is None:
        return warning(f"{line}: it bills until somebody deletes it; run `tuneway down` when it is not needed")
    return ok(f"{line}{in_bedrock}")
