"""The entry points of the three functions: they prepare a whole dataset, read one shard of it, or merge the shards."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config

from data_prep.merge import merge_shards
from data_prep.prepare import prepare
from data_prep.request import PrepRequest, resolve
from data_prep.shard import read_shard
from data_prep.sources import DatasetFiles
from data_prep.writer import S3Folder
from pipeline import aws
from pipeline.contracts.data import (
    DataRefused,
    MergeEvent,
    Prepared,
    PrepareEvent,
    ReadAgain,
    ShardEvent,
    ShardRead,
    ShardRefused,
)
from pipeline.errors import Refused
from pipeline.source.hub import hub_token

_log = logging.getLogger()
_log.setLevel(logging.INFO)


@aws.handler(PrepareEvent)
def handler(event: PrepareEvent) -> Prepared | DataRefused:
    """Prepare a dataset.

    Raises:
        SourceUnavailable: the source did not deliver a file. A later try may succeed.
        aws.AwsBusy, aws.AwsRefused: AWS itself failed. The state machine retries.
    """
    answer: Prepared | DataRefused
    try:
        answer = prepare_with(event, _client("s3"))
    except Refused as refusal:
        answer = DataRefused(str(refusal))
    _log.info("%s", answer)
    return answer


def prepare_with(event: PrepareEvent, s3: Any) -> Prepared:
    """Prepare a dataset as `handler` does, but with the caller's S3 client, and raise `Refused`."""
    request = resolve(event.request)
    return prepare(request, event.pieces, _source(request, s3), S3Folder(s3, request.output))


@aws.handler(ShardEvent)
def shard(event: ShardEvent) -> ShardRead | ShardRefused:
    """Read one shard of a dataset, and write its checked and formatted rows for the merge.

    Raises:
        SourceUnavailable, aws.AwsBusy, aws.AwsRefused: as in `handler`.
    """
    number, name, pieces = event.shard
    answer: ShardRead | ShardRefused
    try:
        request, s3 = resolve(event.request), _client("s3")
        answer = ShardRead(name, read_shard(request, number, pieces, _source(request, s3), S3Folder(s3, request.work)))
    except Refused as refusal:
        answer = ShardRefused(name, str(refusal))
    _log.info("%s", answer)
    return answer


@aws.handler(MergeEvent)
def merge(event: MergeEvent) -> Prepared | DataRefused | ReadAgain:
    """Make the decisions that need all rows, and write the dataset's files from the shards' files.

    Raises:
        ShardFailed: a shard's function failed in spite of its retries.
        aws.AwsBusy, aws.AwsRefused: as in `handler`.
    """
    answer: Prepared | DataRefused | ReadAgain
    try:
        request, s3 = resolve(event.request), _client("s3")
        if event.failed and event.redrive > event.mapped_at_redrive:
            answer = ReadAgain()
        else:
            folders = S3Folder(s3, request.work), S3Folder(s3, request.output)
            answer = merge_shards(request, event.shards, event.failed, *folders)
    except Refused as refusal:
        answer = DataRefused(str(refusal))
    _log.info("%s", answer)
    return answer


def _source(request: PrepRequest, s3: Any) -> DatasetFiles:
    secret = request.hub_token_secret
    return DatasetFiles(request.dataset, hub_token(_client("secretsmanager"), secret) if secret else None, s3)


@cache
def _client(service: str) -> Any:
    # botocore and not boto3: boto3 imports s3transfer, which takes 0.1 s and is not used here.
    config = Config(retries={"mode": "standard", "max_attempts": 5})
    return botocore.session.get_session().create_client(service, config=config)
