"""Finds the deployed stack that a user's settings name, with the user's own AWS credentials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import boto3
from botocore.exceptions import ClientError

from pipeline import aws
from pipeline import settings as schema
from pipeline.errors import Refused

if TYPE_CHECKING:
    from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


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


def find_stack(settings: Settings) -> Stack:
    """Return the deployed stack that the settings name.

    The region is the settings', else that of the CDK, of the shell or of the AWS profile.

    Raises:
        Refused: there is no such stack, or it is not deployed.
    """
    name = settings.stack.name
    region = (
        settings.stack.region
        or os.environ.get("CDK_DEFAULT_REGION")
        or os.environ.get("AWS_REGION")
        or boto3.Session().region_name
        or "us-west-2"
    )
    try:
        [found] = aws.client("cloudformation", region_name=region).describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        raise Refused(
            f"there is no stack {name} in {region}; deploy it with `cdk deploy`, or name its settings file (SETTINGS=FILE) and "
            "its region (AWS_REGION)"
        ) from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if not {"EndpointName", "CallerRoleArn", "BucketName", "StateMachineArn"} <= outputs.keys():
        raise Refused(
            f"the stack {name} in {region} is {found['StackStatus']} and does not have all its outputs; run `cdk deploy` and "
            "ask again"
        )
    return Stack(
        name,
        region,
        outputs["EndpointName"],
        outputs["CallerRoleArn"],
        outputs["BucketName"],
        outputs["StateMachineArn"],
    )
