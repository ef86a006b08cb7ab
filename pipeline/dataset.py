"""Plan's look at the dataset: which files its source has, what each of them is now, and to which split it goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline import hub
from pipeline.errors import Refused
from pipeline.splits import FORMATS, Dealt, File, deal, is_read
from pipeline.stream import ResumingStream

if TYPE_CHECKING:
    from pipeline.settings import Dataset, Settings

MOST_FILES = 10_000
PAGE = 1000
"""Keys of one request: the most that ListObjectsV2 gives."""
_SHOWN = 20


class Source(NamedTuple):
    """What a run reads.

    Attributes:
        uri: `hub:OWNER/NAME` or `s3://BUCKET/KEY`.
        revision: the commit of a Hub dataset; else None.
        files: by split, in reading order; named by their key, or by their path in the repository.
        warnings: what is not read although it lies there.
    """

    uri: str
    revision: str | None
    files: dict[str, list[File]]
    warnings: list[str]


def look(settings: Settings, bucket: str, token: str | None, s3: Any) -> Source:
    """List the source of `settings.dataset` and deal its files to the splits.

    Args:
        settings: the run's.
        bucket: the stack's own, where `uploads/` is.
        token: the Hub token, if the dataset needs it.
        s3: client.

    Raises:
        Refused: what the user can mend: the source is not there or not readable, or dataset.files names what it has not.
        SourceUnavailable: the Hub does not answer.
        botocore.exceptions.ClientError: AWS's own failure.
    """
    dataset = settings.dataset
    if dataset.is_hubs:
        return _look_at_hub(dataset, settings.access.hub_endpoint, token)
    uri = dataset.source if dataset.source.startswith("s3://") else f"s3://{bucket}/{dataset.source}"
    place, _, key = uri.removeprefix("s3://").partition("/")
    if not key.endswith("/"):
        return Source(uri, None, {"train": [_find_object(s3, place, key)]}, [])
    listed = [file._replace(name=file.name.removeprefix(key)) for file in _list(s3, place, key)]
    if not listed:
        raise Refused(f"dataset.source: there is nothing in {uri}; upload the files there, or correct the name")
    dealt = deal(listed, dataset.files.model_dump())
    files = {split: [file._replace(name=key + file.name) for file in of] for split, of in dealt.files.items()}
    return Source(uri, None, files, _warnings(uri, dealt))


def _warnings(uri: str, dealt: Dealt) -> list[str]:
    if not dealt.others:
        return []
    more = f" and {len(dealt.others) - _SHOWN} more" if len(dealt.others) > _SHOWN else ""
    return [
        f"dataset.source: not read in {uri}, being hidden or none of {FORMATS}: {', '.join(dealt.others[:_SHOWN])}{more}"
    ]


def _find_object(s3: Any, bucket: str, key: str) -> File:
    """The one object. It is listed and not asked for, so that Plan needs no right to read datasets."""
    if not is_read(key, key):
        raise Refused(
            f"dataset.source: s3://{bucket}/{key} is of no format that is read; these are {FORMATS} (a folder ends in /)"
        )
    # Of the keys that begin so it is the first: ListObjectsV2 sorts them by their bytes.
    found = _list(s3, bucket, key, most=1)
    if not found or found[0].name != key:
        raise Refused(f"dataset.source: there is no object s3://{bucket}/{key}; upload it there, or correct the name")
    return found[0]


def _list(s3: Any, bucket: str, prefix: str, most: int = MOST_FILES + 1) -> list[File]:
    """The first objects whose keys begin so, without the empty ones that the console makes for folders."""
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, PaginationConfig={"MaxItems": most, "PageSize": min(most, PAGE)}
    )
    try:
        entries = [entry for page in pages for entry in page.get("Contents", [])]
    except ClientError as error:
        _refuse(error, bucket, prefix)
        raise
    if len(entries) > MOST_FILES:
        raise _too_many(f"s3://{bucket}/{prefix}")
    return [
        File(entry["Key"], entry["Size"], entry["ETag"])
        for entry in entries
        if entry["Size"] or not entry["Key"].endswith("/")
    ]


def _refuse(error: ClientError, bucket: str, key: str) -> None:
    """Raise the one line for what the user can mend; return for AWS's own failures."""
    match error.response["Error"]["Code"]:
        case "NoSuchBucket":
            raise Refused(f"dataset.source: there is no bucket '{bucket}'; correct the name") from error
        case "AccessDenied" | "AllAccessDisabled":
            raise Refused(
                f"dataset.source: access to s3://{bucket}/{key} is denied; check that bucket '{bucket}' exists, that "
                "access.dataset_buckets lists it (then deploy), and its bucket policy; or upload the data below uploads/ in "
                "the stack's own bucket"
            ) from error


def _too_many(where: str) -> Refused:
    return Refused(f"dataset.source: {where} has more than {MOST_FILES} files; write the rows to fewer, larger files")


def _look_at_hub(dataset: Dataset, endpoint: str, token: str | None) -> Source:
    """One request (huggingface_hub, `HfApi.dataset_info` with files_metadata) tells commit, files, sizes and card."""
    repo = dataset.source.removeprefix("hub:")
    about = hub.HubFile(endpoint, repo, dataset.revision or "", "", token)
    with ResumingStream(dataset.source, about.open_at, hub.INTERRUPTIONS) as stream:
        answer = stream.readall()
    try:
        told = json.loads(answer)
        commit, gated = str(told["sha"]), bool(told.get("gated"))
        listed = [_sibling(entry) for entry in told["siblings"]]
        card = _splits_of_card(told.get("cardData") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            f"access.hub_endpoint: {about.url} does not answer as the Hub's API does ({error!r}); name the Hub or a mirror "
            "that has its API"
        ) from error
    if gated and not token:
        raise Refused(
            f"dataset.gated: {dataset.source} is gated; accept its terms at {endpoint}/datasets/{repo}, and set dataset.gated "
            "to true, so that it is read with the Hub token (README: The Hub token)"
        )
    if len(listed) > MOST_FILES:
        raise _too_many(dataset.source)
    return Source(dataset.source, commit, deal(listed, dataset.files.model_dump(), card).files, [])


def _sibling(entry: dict[str, Any]) -> File:
    lfs = entry.get("lfs")
    return File(entry["rfilename"], int(entry["size"]), lfs["sha256"] if lfs else entry["blobId"])


def _splits_of_card(card: dict[str, Any]) -> dict[str, list[str]]:
    """The patterns by split of the card's default configuration (Hub documentation, "Manual Configuration").

    It is that which is marked so or called so, else the first. Without files of its own it has no say.
    """
    configs = [config for config in card.get("configs") or [] if config.get("data_files")]
    if not configs:
        return {}
    config = next(
        (one for one in configs if one.get("default")),
        next((one for one in configs if one.get("config_name") == "default"), configs[0]),
    )
    data, folder = config["data_files"], config.get("data_dir", "")
    given = data.items() if isinstance(data, dict) else _pairs(data if isinstance(data, list) else [data])
    found: dict[str, list[str]] = {}
    for split, paths in given:
        for path in paths if isinstance(paths, list) else [paths]:
            below = f"{folder.strip('/')}/{path}" if folder.strip("./") else path
            found.setdefault(str(split), []).append(below.removeprefix("./"))
    return found


def _pairs(entries: list[Any]) -> list[tuple[str, Any]]:
    """Split and paths of each entry; a bare path is of train."""
    return [(entry["split"], entry["path"]) if isinstance(entry, dict) else ("train", entry) for entry in entries]
