"""Figures of earlier runs of the stack, from which Plan computes what a run is expected to cost.

The bucket is the list of runs (`pipeline.record`). A record has the pace of its training job, and a key of its dataset: two
runs with the same key train on the same tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import aws, money, names
from pipeline.contracts.money import Pace
from pipeline.contracts.values import ContractError, parse
from pipeline.source.formats import format_of

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.source.listing import Source

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MOST_READ = 20
"""The most records that Plan reads, the newest first."""


class EarlierFigures(NamedTuple):
    """The tokens of a run's dataset, and the pace of an earlier run like it, if there is one."""

    tokens: money.Tokens
    earlier: money.EarlierPace | None


def dataset_key(settings: Settings, source: Source) -> str:
    """Return a key of everything on which the tokens of an epoch depend: files, rows, texts, tokenizer and longest row."""
    dataset = settings.dataset.model_dump(mode="json", exclude={"gated", "shard_mb", "max_rejected_share"})
    training = settings.training
    model = [training.base_model, training.base_revision, training.max_length, training.long_conversations]
    parts = [dataset, source.revision, source.files, *model]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def look(settings: Settings, source: Source, bucket: str, s3: Any) -> EarlierFigures:
    """Return the figures for a run. What no earlier run shows is assumed (`pipeline.money.tokens_of_bytes`)."""
    key, training = dataset_key(settings, source), settings.training
    tokens, earlier = None, None
    for record in _newest_records(bucket, s3):
        pace = _pace(record)
        if pace is None:
            continue
        run = str(record["run"])
        if tokens is None and record.get("dataset_key") == key:
            tokens = money.Tokens(pace.tokens_per_epoch, pace.rows, f"as run {run} on the same dataset")
        same_model = str(record["base_model"]).partition("@")[0] == training.base_model
        if earlier is None and same_model and pace.instance_type in training.instance_types:
            earlier = money.EarlierPace(run, pace)
        if tokens and earlier:
            break
    return EarlierFigures(tokens or _assumed(settings, source), earlier)


def _newest_records(bucket: str, s3: Any) -> Any:
    listed = aws.all_of(s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=names.MODELS)
    records = sorted((one for one in listed if names.is_record(one["Key"])), key=lambda one: one["LastModified"])
    for one in records[: -MOST_READ - 1 : -1]:
        yield json.loads(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read())


def _pace(record: Any) -> Pace | None:
    """Return the pace of a record's training job. A record of an earlier version, or of a served model, has none."""
    if not isinstance(record, dict) or not record.get("pace"):
        return None
    try:
        return parse(Pace, record["pace"])
    except ContractError as error:
        logger.warning("a record's pace cannot be read: %s", error)
        return None


def _assumed(settings: Settings, source: Source) -> money.Tokens:
    files = source.files.get("train", [])
    packed = 0
    for file in files:
        form = format_of(file.name)
        packed += file.bytes if form and (form.columnar or form.compression) else 0
    plain = sum(file.bytes for file in files) - packed
    return money.tokens_of_bytes(plain, packed, len(files), settings.dataset.max_rows.train)
