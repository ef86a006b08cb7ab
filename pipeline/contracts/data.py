"""What data prep is asked for, and the events and answers of its three functions."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Piece(NamedTuple):
    """A file of the source, or a part of one: the bytes from `start` to before `end`.

    Attributes:
        file: the object's key, or the path in the repository.
        split: the split that it is meant for.
        bytes: size of the whole file.
        etag: what the file was when it was listed.
        start: where the part begins: it owns what begins in it, lines of JSONL or row groups of Parquet.
        end: where it ends.
    """

    file: str
    split: str
    bytes: int
    etag: str | None
    start: int
    end: int

    @property
    def name(self) -> str:
        """What a person is told."""
        whole = (self.start, self.end) == (0, self.bytes)
        return self.file if whole else f"{self.file}, bytes {self.start} to {self.end}"


class Shard(NamedTuple):
    """Consecutive pieces for one function."""

    number: int
    name: str
    pieces: list[Piece]


class ShardList(NamedTuple):
    """How many shards there are, and the object that lists them."""

    total: int
    bucket: str
    key: str


class Fields(NamedTuple):
    """The columns with the text and with its summary."""

    dialogue: str
    summary: str


class CsvForm(NamedTuple):
    """How CSV files are written, where they do not say so themselves.

    Attributes:
        separator: what stands between two fields; None is told by the header.
        encoding: a codec of Python's; None is UTF-8, or what a byte order mark says.
    """

    separator: str | None = None
    encoding: str | None = None


class DatasetRequest(NamedTuple):
    """What the rows are and how they are dealt.

    Attributes:
        source: `hub:OWNER/NAME` or `s3://BUCKET/...`.
        revision: commit of a Hub dataset.
        splits: the splits with files of their own; the others are dealt out of train's rows.
        fields: the two columns.
        csv: how CSV files are written.
        max_rows: most rows of each split; None is all.
        ratios: share of train's rows for each split without a file of its own.
        max_rejected_share: the run stops when more of the rows than this are not fit.
        instruction: the task, as the system message (or before the prompt) of every record.
        seed: seeds the dealing and the subsampling.
    """

    source: str
    revision: str | None
    splits: list[str]
    fields: Fields
    csv: CsvForm
    max_rows: dict[str, int | None]
    ratios: dict[str, float]
    max_rejected_share: float
    instruction: str
    seed: int


class BedrockRecords(NamedTuple):
    """The Bedrock base model to write records for, and the most of them, train and validation together."""

    base_model: str
    max_records: int


class DataRequest(NamedTuple):
    """What is asked of data prep, whichever function does it.

    Attributes:
        dataset: what to read.
        output: S3 folder for what is written.
        work: S3 folder for what shards leave to the merge.
        max_tokens: longest sequence that the training takes.
        bedrock: what to write for Bedrock, if anything.
        hub_token_secret: ARN of the Secrets Manager secret that holds the Hub token, or None.
    """

    dataset: DatasetRequest
    output: str
    work: str
    max_tokens: int
    bedrock: BedrockRecords | None
    hub_token_secret: str | None


class Preparation(NamedTuple):
    """How the data is prepared: `pieces` for one function, or `shards`; `path` says which of both and why."""

    request: DataRequest
    pieces: list[Piece] | None
    shards: ShardList | None
    path: str


class PrepareEvent(NamedTuple):
    """All of a dataset for one function."""

    request: DataRequest
    pieces: list[Piece]


class Prepared(NamedTuple):
    """The manifest's S3 URI, rows by split and kind, and rejected rows by reason."""

    manifest: str
    counts: dict[str, int]
    rejected: dict[str, int]
    refused: None = None


class DataRefused(NamedTuple):
    """What the user can mend in the data, in one line."""

    refused: str


class ShardEvent(NamedTuple):
    """One shard for a function."""

    request: DataRequest
    shard: Shard


class ShardRead(NamedTuple):
    """The rows of a shard."""

    shard: str
    read: int


class ShardRefused(NamedTuple):
    """What the user can mend in a shard, in one line."""

    shard: str
    refused: str


class BadShard(NamedTuple):
    """A shard that is not there: refused, or its function failed with `error`."""

    shard: str
    refused: str | None = None
    error: str | None = None


class MergeEvent(NamedTuple):
    """How many shards there are, those that are not there, and the redrives at which they were read and which is now."""

    request: DataRequest
    shards: int
    failed: list[BadShard]
    mapped_at_redrive: int
    redrive: int


class ReadAgain(NamedTuple):
    """After a redrive the shards that failed shall be read again."""

    again: Literal[True] = True
