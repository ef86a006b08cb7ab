"""The entry points of the three functions: all of a dataset, one shard of it, and the merge of the shards."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

from data_prep.merge import merge_shards
from data_prep.prepare import prepare
from data_prep.request import Request, parse, pieces
from data_prep.shard import read_shard
from data_prep.sources import Source
from data_prep.writer import Folder
from pipeline import aws
from pipeline.errors import Refused
from pipeline.source.hub import hub_token

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger()
_log.setLevel(logging.INFO)


@aws.handler
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Prepare a dataset.

    Args:
        event: `request` and `pieces` of the plan (`pipeline.requests.prepare`).
        context: not used.

    Returns:
        `{"refused": None, "manifest": URI, "counts": {...}, "rejected": {reason: rows}}`, or
        `{"refused": line}` for what the user can mend.

    Raises:
        SourceUnavailable: the source did not deliver; a later try may succeed.
        aws.AwsBusy, aws.AwsRefused: AWS's own failure, for the state machine to retry.
    """
    try:
        answer = prepare_with(event, _client("s3"))
    except Refused as refusal:
        answer = {"refused": str(refusal)}
    _log.info("%s", answer)
    return answer


def prepare_with(event: Mapping[str, Any], s3: Any) -> dict[str, Any]:
    """`handler` with a client of the caller's own, and `Refused` as an exception."""
    request = parse(event["request"])
    return prepare(request, pieces(event["pieces"]), _source(request, s3), Folder(s3, request.output))


@aws.handler
def shard(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Read one shard of a dataset and leave its rows, checked and formatted, to the merge.

    Args:
        event: `request` of the plan and one `shard` of its list.
        context: not used.

    Returns:
        `{"shard": name, "read": rows}`, or `{"shard": name, "refused": line}` for what the user can mend.

    Raises:
        SourceUnavailable, aws.AwsBusy, aws.AwsRefused: as `handler`.
    """
    name = event["shard"]["name"]
    try:
        request, s3 = parse(event["request"]), _client("s3")
        read = read_shard(
            request,
            event["shard"]["number"],
            pieces(event["shard"]["pieces"]),
            _source(request, s3),
            Folder(s3, request.work),
        )
        answer = {"shard": name, "read": read}
    except Refused as refusal:
        answer = {"shard": name, "refused": str(refusal)}
    _log.info("%s", answer)
    return answer


@aws.handler
def merge(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Decide what needs all rows, and write the files out of what the shards left.

    Args:
        event: `request` of the plan, how many `shards` there are, those that `failed` (`shard` with `error` or `refused`),
            and the redrives at which they were read (`mapped_at_redrive`) and which is now (`redrive`).
        context: not used.

    Returns:
        What `handler` returns, or `{"again": True}`: after a redrive the shards that failed shall be read again.

    Raises:
        ShardFailed: a shard's function failed in spite of its retries.
        aws.AwsBusy, aws.AwsRefused: as `handler`.
    """
    try:
        request, s3 = parse(event["request"]), _client("s3")
        if event["failed"] and event["redrive"] > event["mapped_at_redrive"]:
            answer: dict[str, Any] = {"again": True}
        else:
            folders = Folder(s3, request.work), Folder(s3, request.output)
            answer = merge_shards(request, event["shards"], event["failed"], *folders)
    except Refused as refusal:
        answer = {"refused": str(refusal)}
    _log.info("%s", answer)
    return answer


def _source(request: Request, s3: Any) -> Source:
    secret = request.hub_token_secret
    return Source(request.dataset, hub_token(_client("secretsmanager"), secret) if secret else None, s3)


@cache
def _client(service: str) -> Any:
    # botocore and not boto3, which adds s3transfer: 0.1 s of import for transfers that are not used here.
    config = Config(retries={"mode": "standard", "max_attempts": 5})
    return botocore.session.get_session().create_client(service, config=config)
