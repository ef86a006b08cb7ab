"""Lists the dataset for Plan: the files of its source, the size and the hash of each, and its split."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline.errors import Refused, quoted
from pipeline.source import hub
from pipeline.source.formats import SUFFIXES, unknown_format
from pipeline.source.splits import Assignment, File, assign, by_name, is_read, matching, names_a_split
from pipeline.source.stream import ResumingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.settings import DatasetSettings, Settings

MOST_FILES = 10_000
PAGE = 1000
"""Keys per request: the most that ListObjectsV2 returns."""

_SHOWN = 20
_SPLIT = re.compile(r"^\w+(\.\w+)*$")
"""The pattern of a split's name (`datasets.naming._split_re`)."""


class Source(NamedTuple):
    """The source of a run's dataset.

    Attributes:
        uri: `hub:OWNER/NAME` or `s3://BUCKET/KEY`.
        revision: the commit of a Hub dataset, else None.
        files: the files by split, in reading order. Their names are their keys, or their paths in the repository.
        warnings: lines about files in the source that are not read.
        licence: the licence in the card of a Hub dataset.
        gated: whether the Hub requires that its terms are accepted. None for S3.
    """

    uri: str
    revision: str | None
    files: dict[str, list[File]]
    warnings: list[str]
    licence: str | None = None
    gated: bool | None = None


def look(settings: Settings, bucket: str, token: str | None, s3: Any, uploads: Sequence[File] | None = None) -> Source:
    """List the source of `settings.dataset`, and assign its files to the splits.

    Args:
        settings: the run's settings.
        bucket: the stack's bucket, which has `uploads/`.
        token: the Hub token, if the dataset needs it.
        s3: a client of S3.
        uploads: the files of a source in uploads/ that are not there yet, by their keys. None: they are listed.

    Raises:
        Refused: the source does not exist or is not readable, or dataset.files names files that it does not have.
        SourceUnavailable: the Hub does not answer.
        botocore.exceptions.ClientError: AWS itself failed.
    """
    dataset = settings.dataset
    if dataset.is_hubs:
        return _look_at_hub(dataset, settings.access.hub_endpoint, token)
    uri = dataset.source if dataset.source.startswith("s3://") else f"s3://{bucket}/{dataset.source}"
    place, _, key = uri.removeprefix("s3://").partition("/")

    def list_files(most: int) -> list[File]:
        if uploads is None:
            return _list(s3, place, key, most)
        if len(uploads) > MOST_FILES:
            raise _too_many(uri)
        return sorted(file for file in uploads if file.name.startswith(key))

    if not key.endswith("/"):
        return Source(uri, None, {"train": [_find_object(list_files, place, key)]}, [])
    listed = [file._replace(name=file.name.removeprefix(key)) for file in list_files(MOST_FILES + 1)]
    if not listed:
        raise Refused(f"dataset.source: there is nothing in {quoted(uri)}; upload the files there, or correct the name")
    assigned = assign(listed, dataset.files.model_dump())
    files = {split: [file._replace(name=key + file.name) for file in of] for split, of in assigned.files.items()}
    return Source(uri, None, files, _warnings(uri, assigned))


def _warnings(uri: str, assigned: Assignment) -> list[str]:
    why = {f"hidden, about the data, or none of {SUFFIXES}": assigned.others, "empty (0 bytes)": assigned.empty}
    return [
        f"dataset.source: some files in {uri} are not read, because they are {reason}: {_shown(names)}"
        for reason, names in why.items()
        if names
    ]


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(map(quoted, names[:_SHOWN]))}{more}"


def _find_object(list_files: Callable[[int], list[File]], bucket: str, key: str) -> File:
    """Return the object with this key. It is listed and not described, so that Plan needs no right to read datasets."""
    if not is_read(key, key):
        raise unknown_format("dataset.source", f"s3://{bucket}/{key}")
    # It is the first of the keys with this prefix, because ListObjectsV2 sorts keys by their bytes.
    found = list_files(1)
    if not found or found[0].name != key:
        raise Refused(
            f"dataset.source: there is no object {quoted(f's3://{bucket}/{key}')}; upload it there, or correct the name"
        )
    if not found[0].bytes:
        raise Refused(f"dataset.source: {quoted(f's3://{bucket}/{key}')} is empty (0 bytes); upload it again")
    return found[0]


def _list(s3: Any, bucket: str, prefix: str, most: int) -> list[File]:
    """Return at most `most` objects whose keys have the prefix, without the empty ones that the console makes for folders."""
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
    """Raise a refusal if the user can mend the error. Return if AWS itself failed."""
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


def _look_at_hub(dataset: DatasetSettings, endpoint: str, token: str | None) -> Source:
    """Request commit, files, sizes and card at once (as huggingface_hub's `HfApi.dataset_info` with files_metadata)."""
    repo = dataset.source.removeprefix("hub:")
    about = hub.HubFile(endpoint, repo, dataset.revision or "", "", token)
    with ResumingStream(dataset.source, about.open_at, hub.INTERRUPTIONS) as stream:
        answer = stream.readall()
    try:
        description = json.loads(answer)
        commit, gated = str(description["sha"]), bool(description.get("gated"))
        listed = [_sibling(entry) for entry in description["siblings"]]
        card = description.get("cardData") or {}
        configs = _configs(card)
        licence = hub.licence(description)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            f"access.hub_endpoint: {about.url} does not answer like the Hub's API ({error!r}); name the Hub or a mirror that "
            "has its API"
        ) from error
    if gated and not token:
        raise Refused(
            f"dataset.gated: {dataset.source} is gated; accept its terms at {endpoint}/datasets/{repo}, and set dataset.gated "
            "to true, so that it is read with the Hub token (docs/deploy.md: The Hub token)"
        )
    if len(listed) > MOST_FILES:
        raise _too_many(dataset.source)
    wanted = dataset.files.model_dump()
    splits: dict[str, list[str]] = {}
    for split, value in wanted.items():
        if value and names_a_split(value):
            splits = _splits_of_card(
                f"dataset.files.{split}: {quoted(value)}", card, configs, [file.name for file in listed]
            )
            break
    assigned = assign(listed, wanted, splits)
    warnings = _warnings(dataset.source, assigned._replace(others=[]))
    if len(configs) > 1 and wanted["train"] is None:
        warnings.append(
            f"dataset.files.train: null reads the files of every configuration of the card ({_shown(list(configs))}); name the "
            "files of one, by pattern or folder, if the run must not mix them"
        )
    return Source(dataset.source, commit, assigned.files, warnings, licence, gated)


def _sibling(entry: dict[str, Any]) -> File:
    lfs = entry.get("lfs")
    return File(entry["rfilename"], int(entry["size"]), lfs["sha256"] if lfs else entry["blobId"])


Config = dict[str, Any]


def _configs(card: dict[str, Any]) -> dict[str, Config]:
    """Return the configurations of a dataset card by name. If two have the same name, the last one counts."""
    return {str(config["config_name"]): config for config in card.get("configs") or []}


def _splits_of_card(
    setting: str, card: dict[str, Any], configs: dict[str, Config], names: Sequence[str]
) -> dict[str, list[str]]:
    """Return the patterns by split of the configuration that `datasets.load_dataset` takes by default.

    That is the only configuration, or the one that is named or marked "default", or the only one for which the card has a
    `dataset_info` (`MetadataConfigs.get_default_config_name` and `HubDatasetModuleFactory.get_module` in datasets 5.2.0). If
    the library raises an error, there is no default.

    Args:
        setting: the setting and its value, which names one of the dataset's own splits.
        card: the metadata of README.md.
        configs: the card's configurations.
        names: the names of all files.

    Returns:
        An empty mapping if the card has no configurations. The names of the files then decide.

    Raises:
        Refused: the default configuration is not clear, or its files are not.
    """
    if not configs:
        return {}
    by_hand = "name the files of one in dataset.files, by pattern or folder"
    for config in card["configs"]:
        if config.get("data_files") is not None and _patterns(config["data_files"]) is None:
            raise Refused(
                f"{setting}: the card's configuration {quoted(str(config['config_name']))} has data_files in a form that the "
                f"datasets library does not read; {by_hand}"
            )
    default = [
        name for name, config in configs.items() if len(configs) == 1 or name == "default" or config.get("default")
    ]
    listed = card.get("dataset_info") or []
    infos = [str(info.get("config_name", "default")) for info in (listed if isinstance(listed, list) else [listed])]
    chosen = default or (infos if len(set(infos)) == 1 and infos[0] in configs else [])
    if len(set(chosen)) != 1:
        why = f"several of them are the default ({_shown(chosen)})" if chosen else "none of them is the default"
        raise Refused(
            f"{setting} does not say of which configuration it is a split. The card has {_shown(list(configs))}, and {why}; "
            f"{by_hand}"
        )
    config = configs[chosen[0]]
    folder = str(config.get("data_dir") or "").strip("/").removeprefix("./")
    below = f"{folder}/" if folder.strip(".") else ""
    if config.get("data_files") is None:
        inside = [name.removeprefix(below) for name in names if name.startswith(below)]
        return {split: [below + name for name in of] for split, of in by_name(inside).items()} or {
            "train": [f"{below}**"]
        }
    splits = _patterns(config["data_files"]) or {}
    below_it = {split: [below + path.removeprefix("./") for path in paths] for split, paths in splits.items()}
    # A pattern may match no file, but a name must exist (`datasets.data_files.DataFilesList.from_patterns`).
    paths = [path for of in below_it.values() for path in of]
    missing = [path for path in paths if not matching([path], names) and not re.search(r"[*?\[]", path)]
    if missing:
        raise Refused(
            f"{setting}: the card's configuration {quoted(chosen[0])} names files that do not exist ({_shown(missing)}); "
            f"{by_hand}"
        )
    return below_it


def _patterns(data_files: object) -> dict[str, list[str]] | None:
    """Return the patterns by split, or None if the library does not take such a value.

    The library takes one pattern or a list of patterns (for train), or a list of splits with their patterns, each split once
    (`MetadataConfigs._raise_if_data_files_field_not_valid` and `sanitize_patterns` in datasets 5.2.0).
    """
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if not isinstance(data_files, list):
        return None
    if all(isinstance(entry, str) for entry in data_files):
        return {"train": data_files}
    found: dict[str, list[str]] = {}
    for entry in data_files:
        if not isinstance(entry, dict) or entry.keys() != {"split", "path"} or entry["split"] in found:
            return None
        split, paths = entry["split"], entry["path"]
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(split, str) or not _SPLIT.match(split) or not isinstance(paths, list):
            return None
        found[split] = paths
    return found
