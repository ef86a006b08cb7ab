"""The request to data prep, with its places parsed and its base model looked up. Plan has validated it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.catalogue import BASE_MODELS, BaseModel

if TYPE_CHECKING:
    from pipeline.contracts.data import DataRequest, DatasetRequest

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
class PrepRequest:
    """The request to data prep. It is the same for each of the three functions.

    Attributes:
        dataset: the rows to read, and how to divide them into splits.
        output: folder for the run's files.
        work: folder for the files that shards write for the merge.
        max_tokens: tokens of the longest sequence that the training takes.
        base_model: the Bedrock base model that gets records, or None.
        max_records: highest number of Bedrock records, train and validation together.
        hub_token_secret: ARN of the Secrets Manager secret that holds the Hub token, or None.
    """

    dataset: DatasetRequest
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
    return PrepRequest(
        dataset=asked.dataset,
        output=parse_s3(asked.output),
        work=parse_s3(asked.work),
        max_tokens=asked.max_tokens,
        base_model=BASE_MODELS[asked.bedrock.base_model] if asked.bedrock else None,
        max_records=asked.bedrock.max_records if asked.bedrock else 0,
        hub_token_secret=asked.hub_token_secret,
    )
