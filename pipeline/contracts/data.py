"""The request to data prep, and the events and answers of its three functions."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Piece(NamedTuple):
    """A file of the source, or a part of one: the bytes from `start` to before `end`.

    Attributes:
        file: the object's key in S3, or the path in the Hub's repository.
        split: the split to which its rows belong.
        bytes: the size of the whole file.
        etag: the file's ETag or hash when it was listed, to notice a change.
        start: the first byte of the part. A line of JSONL or a row group of Parquet belongs to the part in which it begins.
        end: the byte after the last one of the part.
    """

    file: str
    split: str
    bytes: int
    etag: str | None
    start: int
    end: int

    @property
    def name(self) -> str:
        """The name of the piece in messages."""
        whole = (self.start, self.end) == (0, self.bytes)
        return self.file if whole else f"{self.file}, bytes {self.start} to {self.end}"


class Shard(NamedTuple):
    """Consecutive pieces that one function reads."""

    number: int
    name: str
    pieces: list[Piece]


class ShardList(NamedTuple):
    """The number of shards, and the object in S3 that lists them."""

    total: int
    bucket: str
    key: str


class Fields(NamedTuple):
    """The names of the columns of each format, and of the fields of a turn."""

    dialogue: str
    summary: str
    messages: str = "messages"
    role: str = "role"
    content: str = "content"
    conversations: str = "conversations"
    speaker: str = "from"
    value: str = "value"
    prompt: str = "prompt"
    completion: str = "completion"
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"


class CsvForm(NamedTuple):
    """The form of CSV files.

    Attributes:
        separator: the character between two fields. None means that data prep finds it in the header.
        encoding: the name of a Python codec. None means the encoding of the byte order mark, else UTF-8.
    """

    separator: str | None = None
    encoding: str | None = None


class DatasetRequest(NamedTuple):
    """The rows to read, and how to divide them into splits.

    Attributes:
        source: `hub:OWNER/NAME` or `s3://BUCKET/...`.
        revision: the commit of a Hub dataset.
        splits: the splits with files of their own. The others get a share of train's rows.
        fields: the names of the columns.
        csv: the form of CSV files.
        max_rows: the largest number of rows of each split. None means all.
        ratios: the share of train's rows for each split without files of its own.
        max_rejected_share: the run stops when a larger share of the rows is rejected.
        instruction: the task, as the system message of every row of columns.
        seed: the seed of the division into splits and of the subsampling.
        format: the format of the rows; `auto` if the first rows of each file decide.
        prompt: the template of the dialogue, if several columns make it.
        learn: which answers of a row are learned: `all` or the `last`.
        cut_long: whether the training cuts a long conversation from the front, so that only its last exchange must fit.
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
    format: str = "auto"
    prompt: str | None = None
    learn: str = "all"
    cut_long: bool = False


class BedrockRecords(NamedTuple):
    """The Bedrock base model to write records for, and their largest number, train and validation together."""

    base_model: str
    max_records: int


class DataRequest(NamedTuple):
    """The request to data prep, which is the same for all of its functions.

    Attributes:
        dataset: the rows to read.
        output: S3 folder for the prepared data.
        work: S3 folder for the files that shards write and the merge reads.
        max_tokens: the longest sequence that the training takes, in tokens.
        bedrock: the records to write for Bedrock, or None.
        hub_token_secret: ARN of the Secrets Manager secret that holds the Hub token, or None.
    """

    dataset: DatasetRequest
    output: str
    work: str
    max_tokens: int
    bedrock: BedrockRecords | None
    hub_token_secret: str | None


class Preparation(NamedTuple):
    """How the data is prepared: as `pieces` by one function, or in `shards`. `path` says which of the two, and why."""

    request: DataRequest
    pieces: list[Piece] | None
    shards: ShardList | None
    path: str


class PrepareEvent(NamedTuple):
    """The event of the function that prepares a whole dataset."""

    request: DataRequest
    pieces: list[Piece]


class Prepared(NamedTuple):
    """The answer of data prep.

    Attributes:
        manifest: the manifest's S3 URI.
        counts: the number of rows by split and kind.
        rejected: the number of rejected rows by reason.
        formats: the number of files by the format of their rows.
        system: the system message that all rows share. None if they have none, not the same, or a very long one.
        warnings: warnings for the user.
        refused: always None.
    """

    manifest: str
    counts: dict[str, int]
    rejected: dict[str, int]
    formats: dict[str, int]
    system: str | None
    warnings: list[str]
    refused: None = None


class DataRefused(NamedTuple):
    """The answer if the user has to mend the data. `refused` says in one line what to mend."""

    refused: str


class ShardEvent(NamedTuple):
    """The event of the function that reads one shard."""

    request: DataRequest
    shard: Shard


class ShardRead(NamedTuple):
    """The answer for a shard that was read, with the number of its rows."""

    shard: str
    read: int


class ShardRefused(NamedTuple):
    """The answer if the user has to mend a file of a shard. `refused` says in one line what to mend."""

    shard: str
    refused: str


class BadShard(NamedTuple):
    """A shard without a result. Its function refused it, or failed with `error`."""

    shard: str
    refused: str | None = None
    error: str | None = None


class MergeEvent(NamedTuple):
    """The event of the merge.

    Attributes:
        request: the request to data prep.
        shards: the number of shards.
        failed: the shards without a result.
        mapped_at_redrive: the count of redrives when the shards were read.
        redrive: the count of redrives now.
    """

    request: DataRequest
    shards: int
    failed: list[BadShard]
    mapped_at_redrive: int
    redrive: int


class ReadAgain(NamedTuple):
    """The answer of the merge after a redrive, if failed shards have to be read again."""

    again: Literal[True] = True
