"""Builds the request to data prep from a listed source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import names
from pipeline.contracts.data import (
    BedrockRecords,
    CsvForm,
    DataRequest,
    DatasetRequest,
    Fields,
    Preparation,
    ShardList,
)
from pipeline.source import shards

if TYPE_CHECKING:
    from collections.abc import Sized

    from pipeline.catalogue import BaseModel
    from pipeline.contracts.data import Shard
    from pipeline.contracts.planned import StackFacts
    from pipeline.settings import Settings
    from pipeline.source.listing import Source


def preparation(
    settings: Settings,
    run: str,
    base_model: BaseModel | None,
    stack: StackFacts,
    source: Source,
    secret: str | None = None,
    sharded: list[Shard] | None = None,
) -> Preparation:
    """Return the request to the functions of data prep, with the pieces or the shards to read.

    Args:
        settings: the run's settings.
        run: the run's id.
        base_model: the base model in Bedrock, if the run customizes one.
        stack: the stack's facts.
        source: the files of the dataset.
        secret: ARN of the secret with the Hub token, if the dataset needs it.
        sharded: the shards, if one function is not enough.

    Raises:
        Refused: a file is too large for one function.
    """
    dataset, bucket = settings.dataset, stack.bucket
    files = [file for split in source.files.values() for file in split]
    amount = f"{_count(files, 'file')}, {shards.megabytes(sum(file.bytes for file in files))}"
    request = DataRequest(
        dataset=DatasetRequest(
            source=source.uri,
            revision=source.revision,
            splits=list(source.files),
            fields=Fields(**dataset.fields.model_dump()),
            csv=CsvForm(dataset.csv.separator, dataset.csv.encoding),
            max_rows=dataset.max_rows.model_dump(),
            ratios=dataset.ratios.model_dump(),
            max_rejected_share=dataset.max_rejected_share,
            instruction=dataset.instruction,
            seed=dataset.seed,
            format=dataset.format,
            prompt=dataset.prompt,
            learn=dataset.learn,
            cut_long=settings.training.long_conversations == "cut",
        ),
        output=names.place(bucket, "data", run),
        work=names.place(bucket, "shards", run),
        max_tokens=settings.training.max_length,
        bedrock=BedrockRecords(base_model.id, settings.bedrock.max_records) if base_model else None,
        hub_token_secret=secret,
    )
    if sharded:
        listed = ShardList(len(sharded), bucket, names.prefix("shards", run) + names.SHARD_LIST)
        path = f"{_count(sharded, 'shard')}: {amount} (dataset.shard_mb: {dataset.shard_mb})"
        return Preparation(request, None, listed, path)
    return Preparation(request, shards.cut(source.files), None, f"one function: {amount}")


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
