"""Finds the deployed stack that a user's settings name, with the user's own AWS credentials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.exceptions import ClientError

from pipeline import aws
from pipeline import settings as schema
from pipeline.errors import Refused

if TYPE_CHECKING:
    from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


class Region(NamedTuple):
    """The Region of the stack, and where its name is from."""

    name: str
    origin: str


class Stack(NamedTuple):
    """A deployed stack: its name, its region, and its outputs."""

    name: str
    region: str
    endpoint: str
    role: str
    bucket: str
    state_machine: str


def load(layer: Path | None) -> Settings:
    """Return the settings of config.yaml, overridden by a settings file as `cdk deploy -c settings=` takes it."""
    return schema.load(ROOT / "config.yaml", *([layer] if layer else []))


DEFAULT_REGION = "no setting, variable or profile"
"""The origin of the Region of last resort."""


def find_region(settings: Settings) -> Region:
    """Return the Region of the settings, else that of the CDK, of the shell or of the AWS profile, else us-west-2."""
    if settings.stack.region:
        return Region(settings.stack.region, "stack.region")
    for variable in ("CDK_DEFAULT_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"):
        if os.environ.get(variable):
            return Region(os.environ[variable], variable)
    session = boto3.Session()
    if session.region_name:
        return Region(session.region_name, f"the AWS profile {session.profile_name}")
    return Region("us-west-2", DEFAULT_REGION)


def find_stack(settings: Settings) -> Stack:
    """Return the deployed stack that the settings name, in the Region of `find_region`.

    Raises:
        Refused: there is no such stack, or it is not deployed.
    """
    name = settings.stack.name
    region = find_region(settings).name
    try:
        [found] = aws.client("cloudformation", region_name=region).describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        raise Refused(
            f"there is no stack {name} in {region}; deploy it with `cdk deploy`, or name its settings file (--settings FILE) "
            "and its region (AWS_REGION)"
        ) from error
    stack = outputs_of(found, region)
    if stack is None:
        raise Refused(
            f"the stack {name} in {region} is {found['StackStatus']} and does not have all its outputs; run `cdk deploy` and "
            "ask again"
        )
    return stack


def outputs_of(found: dict[str, Any], region: str) -> Stack | None:
    """Return a stack that DescribeStacks has found, or None if it does not have all its outputs."""
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if not {"EndpointName", "CallerRoleArn", "BucketName", "StateMachineArn"} <= outputs.keys():
        return None
    return Stack(
        found["StackName"],
        region,
        outputs["EndpointName"],
        outputs["CallerRoleArn"],
        outputs["BucketName"],
        outputs["StateMachineArn"],
    )
