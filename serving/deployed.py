"""Finds the models that a stack serves now: by the endpoint's config and the records of its runs.

It reads with the user's own AWS credentials. The models are called as the stack's role for callers.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver
from botocore.exceptions import ClientError
from botocore.session import Session

from pipeline import aws, money, names
from pipeline.endpoints import describe_endpoint
from pipeline.errors import Refused
from pipeline.times import moment
from serving import models
from serving.endpoint import assumed, client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.models import ChatMessages, Model, Tell
    from serving.stack import Stack

ATTEMPTS = 16
"""The most calls of a model in Bedrock for one question. boto3 waits between them: some two minutes in all, at most four.

AWS's example for imported models sets 10 (Bedrock user guide, "Invoke your imported model", "Configure retries"). That is often
less than a minute, and a wake may take longer.
"""

MOST_RECORDS = 50
"""The most records of runs that are read, the newest first."""

_SERVES = ("InService", "Updating", "SystemUpdating", "RollingBack")
"""The statuses in which an endpoint answers (API reference, DescribeEndpoint)."""


def endpoint(stack: Stack, tell: Tell) -> Model:
    """Return the model that the stack's endpoint serves.

    Raises:
        Refused: there is no endpoint, its time is over, or it does not serve yet.
    """
    sagemaker = aws.client("sagemaker", region_name=stack.region)
    found = describe_endpoint(sagemaker, stack.endpoint)
    status = found["EndpointStatus"]
    if status == "Absent":
        raise Refused(gone(stack))
    if status not in _SERVES:
        raise Refused(
            f"the endpoint {stack.endpoint} is {status} and does not answer; wait until its execution has ended, and ask again"
        )
    config = sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    tags = aws.all_of(sagemaker, "list_tags", "Tags", ResourceArn=config["EndpointConfigArn"])
    run = next((tag["Value"] for tag in tags if tag["Key"] == names.RUN_TAG), "")
    record = _record(stack, run)
    if "instruction" not in record:
        raise Refused(
            f"the record of run {run} is of an older version and has no instruction; run `cdk deploy`, and then "
            f"`tuneway serve {run}`"
        )
    variant = found["ProductionVariants"][0]
    kinds = [pool["InstanceType"] for pool in config["ProductionVariants"][0].get("InstancePools", ())]
    kind = config["ProductionVariants"][0].get("InstanceType") or "/".join(kinds)
    hour, count = money.endpoint_price(kind, stack.region), variant.get("CurrentInstanceCount") or 1
    return models.Model(
        title="Endpoint",
        id=stack.endpoint,
        run=run,
        ask=models.by_endpoint,
        client=client(stack.endpoint, stack.role, stack.region).with_options(http_client=models.watch_openai(tell)),
        instruction=record["instruction"],
        max_tokens=record["max_tokens"],
        price=f"{count} x {kind}: {f'{hour * count:.2f} dollars per hour' if hour else 'the price is not known here'}",
        usd_per_second=hour and hour * count / 3600,
        gone=partial(gone, stack),
    )


def bedrock(stack: Stack, tell: Tell) -> Model:
    """Return the newest model of the stack that answers in Bedrock: its deployment, or an imported model.

    Raises:
        Refused: no run has left such a model.
    """
    for record in _records(stack):
        found = record.get("bedrock") or {}
        if not found.get("model_id"):
            continue
        imported = bool(found.get("imported_model"))
        runtime = _assumed_session(stack).client(
            "bedrock-runtime",
            region_name=stack.region,
            config=Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, read_timeout=300),
        )
        return models.Model(
            title="Bedrock, imported" if imported else "Bedrock, customized",
            id=found["model_id"],
            run=record["run"],
            ask=models.by_invoke_model if found.get("api") == "InvokeModel" else models.by_converse,
            client=models.watch_bedrock(runtime, tell),
            instruction=record["instruction"],
            max_tokens=record["max_tokens"],
            price="billed in windows of 5 minutes from the first call" if imported else "billed by tokens",
            usd_per_second=None,
            gone=partial("{} is gone from Bedrock; make a new one with `tuneway run`".format, found["model_id"]),
        )
    raise Refused(
        f"no run of the stack {stack.name} has left a model in Bedrock that answers; make one with `tuneway run`, or ask "
        "the endpoint"
    )


def gone(stack: Stack) -> str:
    """Return the line about an endpoint that is not there: since when, and how to serve the model again."""
    served = next((record for record in _records(stack) if record.get("serving")), None)
    if served is None:
        return f"there is no endpoint {stack.endpoint}, and no run has served a model; start one with `tuneway run`"
    again = f"run `tuneway serve {served['run']}` to serve it again"
    until = served["serving"].get("until")
    if until and datetime.fromisoformat(until) <= datetime.now(UTC):
        return f"the endpoint {stack.endpoint} was deleted when its time was over, at {moment(until)}; {again}"
    time = f" ({moment(until)})" if until else ""
    return (
        f"the endpoint {stack.endpoint} was deleted before its time was over{time}, because nobody used it or somebody deleted "
        f"it; {again}"
    )


def samples(stack: Stack, run: str) -> list[ChatMessages]:
    """Return the questions with which the run's model was tested; none if the run has left none."""
    key = names.prefix("models", run) + names.SAMPLES
    try:
        body = aws.client("s3", region_name=stack.region).get_object(Bucket=stack.bucket, Key=key)["Body"].read()
    except ClientError as error:
        if aws.code(error) not in ("NoSuchKey", "AccessDenied"):
            raise
        return []
    return [sample["prompt"] for sample in json.loads(body)]


def _record(stack: Stack, run: str) -> dict[str, Any]:
    """Return the record of a run."""
    key = names.prefix("models", run) + names.RECORD
    try:
        body = aws.client("s3", region_name=stack.region).get_object(Bucket=stack.bucket, Key=key)["Body"].read()
    except ClientError as error:
        if aws.code(error) != "NoSuchKey":
            raise
        raise Refused(
            f"the run {run} has no record s3://{stack.bucket}/{key}; wait until its execution has ended, and ask again"
        ) from error
    record: dict[str, Any] = json.loads(body)
    return record


def _records(stack: Stack) -> Iterator[dict[str, Any]]:
    """Yield the records of the stack's runs, the newest first."""
    s3 = aws.client("s3", region_name=stack.region)
    listed = aws.all_of(s3, "list_objects_v2", "Contents", Bucket=stack.bucket, Prefix=names.MODELS)
    found = [entry for entry in listed if entry["Key"].endswith(f"/{names.RECORD}") and entry["Key"].count("/") == 2]
    for entry in sorted(found, key=lambda entry: entry["LastModified"], reverse=True)[:MOST_RECORDS]:
        yield _record(stack, entry["Key"].split("/")[1])


class _Role(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    """The role for callers as the only credentials of a session."""

    METHOD = "tuneway-role-for-callers"

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack

    def load(self) -> Any:
        return assumed(self._stack.role, self._stack.region)


def _assumed_session(stack: Stack) -> boto3.Session:
    session = Session()
    session.register_component("credential_provider", CredentialResolver([_Role(stack)]))
    return boto3.Session(botocore_session=session)
