"""Where rows come from: a Hub dataset or S3, each as files to open by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from data_prep.request import S3Location, parse_s3
from pipeline import hub
from pipeline.errors import Refused, SourceUnavailable
from pipeline.stream import Opened, ResumingStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_prep.request import Dataset

READ_ORDER = ("test", "validation", "train")
"""Held-out files first, so that a dialogue of theirs is known, and kept out, when train is read."""


class SourceFile(NamedTuple):
    """One file and the split it is meant for. What has no file of its own is dealt out of train's."""

    name: str
    split: str


class Source(NamedTuple):
    """The files in reading order, and how to open one by its name."""

    files: list[SourceFile]
    open: Callable[[str], ResumingStream]


def source(dataset: Dataset, hub_token: str | None, s3: Any) -> Source:
    """The source that `dataset` names.

    Raises:
        Refused: a source of several files without a file for train.
    """
    if dataset.source.startswith("hub:"):
        repo = dataset.source.removeprefix("hub:")

        def open_hub(name: str) -> ResumingStream:
            endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
            file = hub.HubFile(endpoint, repo, dataset.revision or "", name, hub_token)
            return ResumingStream(name, file.open_at, hub.INTERRUPTIONS)

        return Source(_split_files(dataset), open_hub)
    place = parse_s3(dataset.source, "dataset.source")
    if place.key and not place.key.endswith("/"):
        return Source([SourceFile(place.key, "train")], lambda _: open_s3(s3, place, _refuse))
    return Source(_split_files(dataset), lambda name: open_s3(s3, S3Location(place.bucket, place.key + name), _refuse))


def _split_files(dataset: Dataset) -> list[SourceFile]:
    if "train" not in dataset.files:
        raise Refused(f"dataset.files.train: {dataset.source} needs it; name the file that holds the training rows")
    return [SourceFile(dataset.files[split], split) for split in READ_ORDER if split in dataset.files]


def open_s3(
    s3: Any, place: S3Location, explain: Callable[[ClientError, S3Location], None] | None = None
) -> ResumingStream:
    """An object as a stream that resumes on the same version of it, by its ETag.

    `explain` raises for errors that have a better word than AWS's own.
    """
    etag = ""

    def open_at(offset: int) -> Opened:
        nonlocal etag
        resume = {"Range": f"bytes={offset}-", "IfMatch": etag} if offset else {}
        try:
            response = s3.get_object(Bucket=place.bucket, Key=place.key, **resume)
        except ClientError as error:
            if error.response["Error"]["Code"] == "PreconditionFailed":
                raise SourceUnavailable(f"{place}: the object changed while it was being read; run again") from error
            if explain:
                explain(error, place)
            raise
        etag = response["ETag"]
        return Opened(response["Body"], offset + response["ContentLength"])

    return ResumingStream(str(place), open_at, (HTTPClientError, IncompleteReadError))


def _refuse(error: ClientError, place: S3Location) -> None:
    """Raise the one line for what the user can mend; return for AWS's own failures."""
    match error.response["Error"]["Code"]:
        case "NoSuchKey":
            raise Refused(
                f"dataset.source: there is no object {place}; upload it there, or correct the name"
            ) from error
        case "NoSuchBucket":
            raise Refused(f"dataset.source: there is no bucket '{place.bucket}'; correct the name") from error
        case "AccessDenied":
            raise Refused(
                f"dataset.source: access to {place} is denied; check that it exists (a missing object looks "
                f"the same), that access.dataset_buckets lists '{place.bucket}' (then deploy), and its "
                "bucket policy and KMS key"
            ) from error
        case "InvalidObjectState":
            raise Refused(f"dataset.source: {place} is archived; restore it first") from error


def hub_token(secrets: Any, arn: str) -> str:
    """The Hub token out of Secrets Manager.

    Raises:
        Refused: the secret does not exist or holds no token.
    """
    try:
        token: str = secrets.get_secret_value(SecretId=arn).get("SecretString", "").strip()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise Refused(f"hub_token_secret: there is no secret {arn}; create it with the Hub token") from error
        raise
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise Refused(f"hub_token_secret: the secret {arn} holds no Hub token; store the token alone, as plain text")
    return token
