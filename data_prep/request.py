"""The functions' events as typed values. Plan has validated the settings and listed the source: see `pipeline.requests`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.catalogue import BASE_MODELS, BaseModel
from pipeline.source.shards import Piece

if TYPE_CHECKING:
    from collections.abc import Mapping

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
class Csv:
    """How CSV files are written, where they do not say so themselves.

    Attributes:
        separator: what stands between two fields; None is told by the header.
        encoding: a codec of Python's; None is UTF-8, or what a byte order mark says.
    """

    separator: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Dataset:
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
    csv: Csv
    max_rows: Mapping[str, int | None]
    ratios: Mapping[str, float]
    max_rejected_share: float
    instruction: str
    seed: int


@dataclass(frozen=True)
class Request:
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

    dataset: Dataset
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


def pieces(listed: list[dict[str, Any]]) -> list[Piece]:
    """The pieces of an event."""
    return [Piece(**piece) for piece in listed]


def parse(request: Mapping[str, Any]) -> Request:
    """The request of an event."""
    values = request["dataset"]
    fields = values["fields"]
    dataset = Dataset(
        source=values["source"],
        revision=values["revision"],
        splits=tuple(values["splits"]),
        dialogue=fields["dialogue"],
        summary=fields["summary"],
        csv=Csv(**values["csv"]),
        max_rows=values["max_rows"],
        ratios=values["ratios"],
        max_rejected_share=values["max_rejected_share"],
        instruction=values["instruction"],
        seed=values["seed"],
    )
    bedrock, model = request["bedrock"], None
    if bedrock:
        model = BASE_MODELS[bedrock["base_model"]]
    return Request(
        dataset=dataset,
        output=parse_s3(request["output"]),
        work=parse_s3(request["work"]),
        max_tokens=request["max_tokens"],
        base_model=model,
        max_records=bedrock["max_records"] if bedrock else 0,
        hub_token_secret=request["hub_token_secret"],
    )
