"""The request to data prep, in the form that its modules use. Plan has validated the settings and listed the source."""

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
    """The place of an object in S3, or of a folder if the key is empty or ends in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        """Return the `s3://` URI."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class PrepDataset:
    """The settings of the dataset: where its rows are, and how they are divided among the splits.

    Attributes:
        source: `hub:OWNER/NAME` or `s3://BUCKET/...`.
        revision: commit of a Hub dataset.
        splits: the splits that have files of their own. The other splits get a part of train's rows.
        dialogue: name of the column with the dialogue.
        summary: name of the column with the dialogue's summary.
        csv: encoding and separator of CSV files.
        max_rows: highest number of rows per split. None stands for all rows.
        ratios: share of train's rows for each split without a file of its own.
        max_rejected_share: the run stops if a larger share of the rows is not fit.
        instruction: the task. It is the system message of every record, or stands before the prompt.
        seed: seeds the choice of a split for each row and the sampling.
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
    """The request to data prep. It is the same for each of the three functions.

    Attributes:
        dataset: the settings of the dataset.
        output: folder for the run's files.
        work: folder for the files that shards write for the merge.
        max_tokens: tokens of the longest sequence that the training takes.
        base_model: the Bedrock base model that gets records, or None.
        max_records: highest number of Bedrock records, train and validation together.
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
    """Split `s3://BUCKET/KEY` into bucket and key.

    Raises:
        ValueError: the text is not such a URI.
    """
    match = re.fullmatch(r"s3://([^/]+)/(.*)", uri, re.DOTALL)
    if not match:
        raise ValueError(f"{uri!r} is not s3://BUCKET/KEY")
    return S3Location(*match.groups())


def resolve(asked: DataRequest) -> PrepRequest:
    """Return the request of an event, with its S3 URIs parsed and its base model looked up in the catalogue."""
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
