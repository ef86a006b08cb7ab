"""The section `dataset`: the location of the dialogues, the rows that a run takes, and the form of the files."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from pipeline.errors import quoted
from pipeline.prompt_template import parse_template
from pipeline.settings.base import MANY, Section, run
from pipeline.settings.hub_name import is_hub_name

_KEY = 1024
"""The longest key of an S3 object, and thus the longest path, in bytes of UTF-8 (S3 user guide, "Naming Amazon S3 objects")."""


def _column(description: str) -> Any:
    return run(description, min_length=1, max_length=_KEY)


class FieldsSettings(Section):
    """The names of the columns, and of the fields of a turn. Each format reads its own."""

    dialogue: str = _column("columns: the column with the text to summarize; not read if dataset.prompt is set")
    summary: str = _column("columns: the column with the summary")
    messages: str = _column("messages: the column with the list of messages")
    role: str = _column("messages: the field of a message with its role: system, user or assistant")
    content: str = _column("messages: the field of a message with its text")
    conversations: str = _column("sharegpt: the column with the list of turns")
    speaker: str = _column("sharegpt: the field of a turn with its role: system, human or gpt")
    value: str = _column("sharegpt: the field of a turn with its text")
    prompt: str = _column("prompt_completion: the column with the prompt, a text or a list of messages")
    completion: str = _column("prompt_completion: the column with the answer, a text or a list of one message")
    instruction: str = _column("instruction: the column with the task, which becomes the system message")
    input: str = _column("instruction: the column with the user's text; where it is empty, the task is the user's text")
    output: str = _column("instruction: the column with the answer")

    @model_validator(mode="after")
    def _are_different(self) -> FieldsSettings:
        if self.dialogue == self.summary:
            raise ValueError(
                f"dialogue and summary are both {quoted(self.dialogue)}: a model would learn to repeat its input; name two "
                "columns, or set dataset.format: messages if one column holds lists of turns"
            )
        for one, other in _DIFFERENT:
            name = getattr(self, one)
            if name == getattr(self, other):
                raise ValueError(
                    f"{one} and {other} have the same name, {quoted(name)}; name two, because a format reads both"
                )
        return self


_DIFFERENT = (
    ("role", "content"),
    ("speaker", "value"),
    ("prompt", "completion"),
    ("instruction", "input"),
    ("instruction", "output"),
    ("input", "output"),
)
"""Names that no format can read if they are equal."""


class CsvSettings(Section):
    """The form of CSV files."""

    separator: str | None = run("the character between two fields; null: found in the header")
    encoding: str | None = run(
        "a text encoding of Python, such as cp1252; null: that of the byte order mark, else UTF-8"
    )

    @field_validator("separator")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        if (
            value is None
            or value == "\t"
            or (len(value) == 1 and value.isascii() and value.isprintable() and value != '"')
        ):
            return value
        raise ValueError(
            'must be null or one ASCII character such as ";" or "\\t" (a tab), but no quote, line end or control character; '
            "write the file with such a separator"
        )

    @field_validator("encoding")
    @classmethod
    def _is_a_text_encoding(cls, value: str | None) -> str | None:
        try:
            if value is None or "a,\n".encode(value):
                return value
        except (LookupError, ValueError):
            pass
        raise ValueError("must be null or a text encoding of Python, such as cp1252, latin-1, utf-16 or shift_jis")


class FilesSettings(Section):
    """The files of each split, below the source. A source that is one file needs none of them.

    Each is a file, a pattern (data/train-*.parquet), a folder (data/), or the name of a split of the dataset (train).
    """

    train: str | None = run(
        "files of the training split; null: every file that no other split has", min_length=1, max_length=_KEY
    )
    validation: str | None = run(
        "files of the validation split; null: a share of train's rows", min_length=1, max_length=_KEY
    )
    test: str | None = run("files of the test split; null: a share of train's rows", min_length=1, max_length=_KEY)

    @field_validator("train", "validation", "test")
    @classmethod
    def _is_below_the_source(cls, value: str | None) -> str | None:
        if value is None or not (value.startswith("/") or {".", ".."} & set(value.split("/"))):
            return value
        raise ValueError(
            "must be a path below dataset.source, without / at its beginning and without . or .. as a folder"
        )


class MaxRowsSettings(Section):
    """The largest number of rows. A seeded hash chooses the rows, so that every run takes the same ones."""

    train: int | None = run("largest number of training rows; null: all", unit="rows", ge=1, le=MANY)
    validation: int | None = run("largest number of validation rows; null: all", unit="rows", ge=1, le=MANY)
    test: int | None = run(
        "largest number of test rows: the base and the tuned model each answer every one; null: all",
        unit="rows",
        ge=1,
        le=MANY,
    )


class RatiosSettings(Section):
    """The shares of train's rows for the splits without files of their own. A seeded hash of each row chooses its split."""

    validation: float = run("share of validation rows", unit="share, 1 is all", gt=0, lt=0.5)
    test: float = run("share of test rows", unit="share, 1 is all", gt=0, lt=0.5)


class DatasetSettings(Section):
    """The conversations to learn."""

    source: str = run(
        "hub:OWNER/NAME, s3://BUCKET/KEY, or uploads/KEY in the stack's own bucket; a KEY that ends in / is a folder",
        max_length=_KEY + 69,  # s3://BUCKET/ has at most 69 characters
    )
    revision: str | None = run(
        "commit of a Hub dataset, so that a run can be repeated",
        pattern=r"^[\w./-]+$",
        max_length=256,
        examples=["6b929ff10edec703164e3ddb2e94aae058c9ab5f"],
    )
    gated: bool = run("whether the dataset is read with the Hub token (access.hub_token_secret)")
    files: FilesSettings
    format: Literal["auto", "columns", "messages", "sharegpt", "prompt_completion", "instruction"] = run(
        "the format of the rows; auto: the first rows of each file decide"
    )
    fields: FieldsSettings
    prompt: str | None = run(
        "columns: the user's text from several columns, by their names in braces; null: fields.dialogue",
        min_length=1,
        max_length=10_000,
        examples=["{question}\n\n{context}"],
    )
    learn: Literal["all", "last"] = run("which answers of a conversation are learned: all, or the last one")
    csv: CsvSettings
    max_rows: MaxRowsSettings
    ratios: RatiosSettings
    max_rejected_share: float = run(
        "a run stops when a larger share of the rows than this is rejected", unit="share, 1 is all", ge=0, le=1
    )
    shard_mb: int = run(
        "a source larger than this, or of more than 100 files, is prepared in shards of about this size, "
        "by functions that run at once",
        unit="MB (1,000,000 bytes)",
        ge=1,
        le=100_000,
    )
    instruction: str = run(
        "columns: the task, which the model gets before each dialogue", pattern=r"\S", max_length=2000
    )
    seed: int = run("seed of splits and subsampling", ge=0, le=2**53 - 1)

    @field_validator("source")
    @classmethod
    def _is_a_source(cls, value: str) -> str:
        if re.fullmatch(r"s3://[a-z0-9.-]{3,63}/\S.*|uploads/\S.*", value) or (
            value.startswith("hub:") and is_hub_name(value.removeprefix("hub:"))
        ):
            return value
        raise ValueError(
            "must be hub:OWNER/NAME (a dataset on the Hub), s3://BUCKET/KEY, or uploads/KEY in the stack's bucket; "
            "a KEY that ends in / is a folder"
        )

    @field_validator("prompt")
    @classmethod
    def _is_a_template(cls, value: str | None) -> str | None:
        if value is not None:
            parse_template(value)  # raises ValueError
        return value

    @property
    def is_hubs(self) -> bool:
        """Whether the dataset is on the Hub."""
        return self.source.startswith("hub:")

    @model_validator(mode="after")
    def _fits_together(self) -> DatasetSettings:
        if self.is_hubs and self.revision is None:
            raise ValueError("a Hub dataset needs dataset.revision, the commit to read; set it")
        if self.gated and not self.is_hubs:
            raise ValueError("gated: only a Hub dataset is read with the Hub token; set it to false")
        if self.prompt is not None and self.format not in ("auto", "columns"):
            raise ValueError(
                f"prompt: is a template for columns, and format is {self.format}; set dataset.prompt to null, or "
                "dataset.format to columns"
            )
        if self.prompt is not None and self.fields.summary in parse_template(self.prompt)[1]:
            raise ValueError(
                f"prompt: names the column {quoted(self.fields.summary)}, which is fields.summary: a model would learn to "
                "repeat its input; leave it out"
            )
        return self
