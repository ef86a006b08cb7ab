"""What data prep is asked for, as it works with it. Plan has validated the settings and listed the source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.catalogue import BASE_MODELS, BaseModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contracts.data import CsvForm, DataRequest

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class S3Location:
    """An object, or a folder when the key is empty or ends in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        """The `s3://` URI."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class PrepDataset:
    """What the rows are and how they are dealt.

    Attributes:
        source: `hub:OWNER/NAME` or `s3://BUCKET/...`.
        revision: commit of a Hub dataset.
        splits: the splits with files of their own; the others are dealt out of train's rows.
        dialogue: column with the text.
        summary: column with its summary.
        csv: how CSV files are written.
        max_rows: most rows of each split; None is all.
        ratios: share of train's rows for each split without a file of its own.
        max_rejected_share: the run stops when more of the rows than this are not fit.
        instruction: the task, as the system message (or before the prompt) of every record.
        seed: seeds the dealing and the subsampling.
    """

    source: str
    revision: str | None
    splits: tuple[str, ...]
    dialogue: str
    summary: str
    csv: CsvForm
    max_rows: Mapping[str, int | None]
    ratios: Mapping[str, float]
    max_rejected_share: float
    instruction: str
    seed: int


@dataclass(frozen=True)
class PrepRequest:
    """What is asked of data prep, whichever function does it.

    Attributes:
        dataset: what to read.
        output: folder for what is written.
        work: folder for what shards leave to the merge.
        max_tokens: longest sequence that the training takes.
        base_model: the Bedrock base model to write for, or None.
        max_records: most Bedrock records, train and validation together.
        hub_token_secret: ARN of the Secrets Manager secret that holds the Hub token, or None.
    """

    dataset: PrepDataset
    output: S3Location
    work: S3Location
    max_tokens: int
    base_model: BaseModel | None
    max_records: int
    hub_token_secret: str | None


def parse_s3(uri: str) -> S3Location:
    """`s3://bucket/key` in its two parts."""
    match = re.fullmatch(r"s3://([^/]+)/(.*)", uri, re.DOTALL)
    if not match:
        raise ValueError(f"{uri!r} is not s3://BUCKET/KEY")
    return S3Location(*match.groups())


def resolve(asked: DataRequest) -> PrepRequest:
    """The request of an event with its places taken apart, and its base model out of the catalogue."""
    wanted = asked.dataset
    dataset = PrepDataset(
        source=wanted.source,
        revision=wanted.revision,
        splits=tuple(wanted.splits),
        dialogue=wanted.fields.dialogue,
        summary=wanted.fields.summary,
        csv=wanted.csv,
        max_rows=wanted.max_rows,
        ratios=wanted.ratios,
        max_rejected_share=wanted.max_rejected_share,
        instruction=wanted.instruction,
        seed=wanted.seed,
    )
    return PrepRequest(
        dataset=dataset,
        output=parse_s3(asked.output),
        work=parse_s3(asked.work),
        max_tokens=asked.max_tokens,
        base_model=BASE_MODELS[asked.bedrock.base_model] if asked.bedrock else None,
        max_records=asked.bedrock.max_records if asked.bedrock else 0,
        hub_token_secret=asked.hub_token_secret,
    )
