"""The Lambda's event as typed values. Plan has validated the settings; here only the shape is checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.catalogue import BASE_MODELS, BaseModel
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

SPLITS = ("train", "validation", "test")

# The characters that Bedrock's `s3Uri` accepts in a key (CreateModelCustomizationJob, TrainingDataConfig).
_BEDROCK_KEY = re.compile(r"[-!_*'().a-z0-9A-Z/]*")
_HUB = re.compile(r"hub:([\w.-]+/)?[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class S3Location:
    """An object, or a folder when the key is empty or ends in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        """The `s3://` URI."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Fields:
    """Which column of the source holds what."""

    dialogue: str
    summary: str


@dataclass(frozen=True)
class Dataset:
    """Where the rows come from and how they are dealt.

    Attributes:
        source: `hub:OWNER/NAME`, `s3://BUCKET/KEY` (one file) or `s3://BUCKET/PREFIX/`.
        revision: commit of a Hub dataset.
        files: file of each split; a split without one is dealt out of train's file.
        fields: column names.
        max_rows: most rows of each split; None is all.
        ratios: share of the rows for each split without a file of its own, train being the rest.
        seed: seeds the dealing and the subsampling.
        instruction: the task, as the system message (or before the prompt) of every record.
    """

    source: str
    revision: str | None
    files: Mapping[str, str]
    fields: Fields
    max_rows: Mapping[str, int | None]
    ratios: Mapping[str, float]
    seed: int
    instruction: str


@dataclass(frozen=True)
class Request:
    """One call of the function.

    Attributes:
        dataset: what to read.
        output: folder for what is written.
        base_model: the Bedrock base model to write for, or None.
        max_records: most Bedrock records, train and validation together.
        hub_token_secret: ARN of the Secrets Manager secret that holds the Hub token, or None.
    """

    dataset: Dataset
    output: S3Location
    base_model: BaseModel | None
    max_records: int
    hub_token_secret: str | None


def parse_s3(uri: str, where: str) -> S3Location:
    """`s3://bucket/key` in its two parts.

    Raises:
        Refused: it is no S3 URI.
    """
    match = re.fullmatch(r"s3://([^/]+)/(.*)", uri)
    if not match:
        raise Refused(f"{where}: '{uri}' is not s3://BUCKET/KEY; write it so")
    return S3Location(*match.groups())


def parse(event: Mapping[str, Any]) -> Request:
    """The event of the contract as a `Request`.

    Raises:
        Refused: a part is missing, of the wrong type or not possible.
    """
    dataset = _dataset(event)
    output = parse_s3(_take(event, "output", str), "output")
    if not _BEDROCK_KEY.fullmatch(output.key) or not output.key.endswith("/"):
        raise Refused(
            f"output: '{output}' must end in / and hold only letters, digits and -!_*'(). after the bucket, "
            "since Bedrock accepts nothing else"
        )
    base_model, max_records = None, 0
    if event.get("bedrock") is not None:
        name = _take(event, "bedrock.base_model", str)
        if name not in BASE_MODELS:
            raise Refused(f"bedrock.base_model: '{name}' is not known; choose one of {', '.join(BASE_MODELS)}")
        base_model, max_records = BASE_MODELS[name], _take(event, "bedrock.max_records", int)
        held = next((word for word in base_model.forbidden if word in dataset.instruction), None)
        if held:
            raise Refused(f"dataset.instruction: {name} does not accept texts that hold '{held}'; reword it")
    return Request(dataset, output, base_model, max_records, event.get("hub_token_secret") or None)


def _dataset(event: Mapping[str, Any]) -> Dataset:
    source = _take(event, "dataset.source", str)
    revision = event["dataset"].get("revision")
    if source.startswith("hub:"):
        if not _HUB.fullmatch(source):
            raise Refused(f"dataset.source: '{source}' is not hub:OWNER/NAME; write it so")
        if not isinstance(revision, str) or not revision:
            raise Refused(f"dataset.revision: {source} needs one; set the commit to read")
    else:
        parse_s3(source, "dataset.source")
    files = {split: name for split, name in _take(event, "dataset.files", dict, {}).items() if name}
    for split, name in files.items():
        if split not in SPLITS:
            raise Refused(f"dataset.files: '{split}' is not a split; use {', '.join(SPLITS)}")
        if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
            raise Refused(f"dataset.files.{split}: {name!r} is not a file name inside the dataset; write one")
    ratios = {split: _take(event, f"dataset.ratios.{split}", float, 0.0) for split in ("test", "validation")}
    if min(ratios.values()) < 0 or sum(ratios.values()) >= 1:
        raise Refused(f"dataset.ratios: {ratios} must not be negative and must leave a share for train; lower them")
    instruction = _take(event, "dataset.instruction", str)
    if not instruction.strip():
        raise Refused("dataset.instruction: it is blank; say in a sentence what the model shall do")
    return Dataset(
        source=source,
        revision=revision,
        files=files,
        fields=Fields(_take(event, "dataset.fields.dialogue", str), _take(event, "dataset.fields.summary", str)),
        max_rows={split: _max_rows(event, split) for split in SPLITS},
        ratios=ratios,
        seed=_take(event, "dataset.seed", int),
        instruction=instruction,
    )


def _max_rows(event: Mapping[str, Any], split: str) -> int | None:
    rows = (event["dataset"].get("max_rows") or {}).get(split)
    if rows is not None and (type(rows) is not int or rows < 1):
        raise Refused(f"dataset.max_rows.{split}: {rows!r} is not a whole number above 0; set one, or null for all")
    return rows


def _take(event: Mapping[str, Any], path: str, kind: type[Any], default: Any = None) -> Any:
    """The value at the dotted `path`, or `default`; a whole number will do where a float is wanted."""
    value: Any = event
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        value = default
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise Refused(f"{path}: {value!r} where a value of type {kind.__name__} belongs; set it")
    return value
