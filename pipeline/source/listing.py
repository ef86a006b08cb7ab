"""Plan's look at the dataset: which files its source has, what each of them is now, and to which split it goes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline.errors import Refused, quoted
from pipeline.source import hub
from pipeline.source.formats import SUFFIXES, unknown_format
from pipeline.source.splits import Dealt, File, by_name, deal, is_read, matching, names_a_split
from pipeline.source.stream import ResumingStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.settings import DatasetSettings, Settings

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
        licence: of a Hub dataset, as its card says it.
        gated: whether the Hub asks for its terms to be accepted; None elsewhere.
    """

    uri: str
    revision: str | None
    files: dict[str, list[File]]
    warnings: list[str]
    licence: str | None = None
    gated: bool | None = None


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
        raise Refused(f"dataset.source: there is nothing in {quoted(uri)}; upload the files there, or correct the name")
    dealt = deal(listed, dataset.files.model_dump())
    files = {split: [file._replace(name=key + file.name) for file in of] for split, of in dealt.files.items()}
    return Source(uri, None, files, _warnings(uri, dealt))


def _warnings(uri: str, dealt: Dealt) -> list[str]:
    why = {f"hidden, about the data, or none of {SUFFIXES}": dealt.others, "empty (0 bytes)": dealt.empty}
    return [
        f"dataset.source: not read in {uri}, being {reason}: {_shown(names)}" for reason, names in why.items() if names
    ]


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(map(quoted, names[:_SHOWN]))}{more}"


def _find_object(s3: Any, bucket: str, key: str) -> File:
    """The one object. It is listed and not asked for, so that Plan needs no right to read datasets."""
    if not is_read(key, key):
        raise unknown_format("dataset.source", f"s3://{bucket}/{key}")
    # Of the keys that begin so it is the first: ListObjectsV2 sorts them by their bytes.
    found = _list(s3, bucket, key, most=1)
    if not found or found[0].name != key:
        raise Refused(
            f"dataset.source: there is no object {quoted(f's3://{bucket}/{key}')}; upload it there, or correct the name"
        )
    if not found[0].bytes:
        raise Refused(f"dataset.source: {quoted(f's3://{bucket}/{key}')} is empty (0 bytes); upload it again")
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


def _look_at_hub(dataset: DatasetSettings, endpoint: str, token: str | None) -> Source:
    """One request (huggingface_hub, `HfApi.dataset_info` with files_metadata) tells commit, files, sizes and card."""
    repo = dataset.source.removeprefix("hub:")
    about = hub.HubFile(endpoint, repo, dataset.revision or "", "", token)
    with ResumingStream(dataset.source, about.open_at, hub.INTERRUPTIONS) as stream:
        answer = stream.readall()
    try:
        told = json.loads(answer)
        commit, gated = str(told["sha"]), bool(told.get("gated"))
        listed = [_sibling(entry) for entry in told["siblings"]]
        card = told.get("cardData") or {}
        configs = _configs(card)
        licence = hub.licence(told)
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
    wanted = dataset.files.model_dump()
    splits: dict[str, list[str]] = {}
    for split, value in wanted.items():
        if value and names_a_split(value):
            splits = _splits_of_card(
                f"dataset.files.{split}: {quoted(value)}", card, configs, [file.name for file in listed]
            )
            break
    dealt = deal(listed, wanted, splits)
    warnings = _warnings(dataset.source, dealt._replace(others=[]))
    if len(configs) > 1 and wanted["train"] is None:
        warnings.append(
            f"dataset.files.train: null reads the files of every configuration of the card ({_shown(list(configs))}); name the "
            "files of one, by pattern or folder, if they are not meant to be mixed"
        )
    return Source(dataset.source, commit, dealt.files, warnings, licence, gated)


def _sibling(entry: dict[str, Any]) -> File:
    lfs = entry.get("lfs")
    return File(entry["rfilename"], int(entry["size"]), lfs["sha256"] if lfs else entry["blobId"])


Config = dict[str, Any]


def _configs(card: dict[str, Any]) -> dict[str, Config]:
    """The configurations of a dataset card by name; of two with one name the last counts."""
    return {str(config["config_name"]): config for config in card.get("configs") or []}


def _splits_of_card(
    what: str, card: dict[str, Any], configs: dict[str, Config], names: Sequence[str]
) -> dict[str, list[str]]:
    """The patterns by split of the configuration that `datasets.load_dataset` takes where none is named.

    That is the only one; or that which is called or marked default; or the only one of which the card has a `dataset_info`
    (`MetadataConfigs.get_default_config_name` and `HubDatasetModuleFactory.get_module` in datasets 5.2.0). Where the library
    raises an error, there is none.

    Args:
        what: the setting and its value, which names a split of the dataset's own.
        card: the metadata of README.md.
        configs: its configurations.
        names: all files.

    Returns:
        Nothing if the card names no files: then the files' names tell.

    Raises:
        Refused: it is not certain which configuration is meant, or it does not say which files it has.
    """
    if not configs:
        return {}
    by_hand = "name the files of one in dataset.files, by pattern or folder"
    for config in card["configs"]:
        if config.get("data_files") is not None and _patterns(config["data_files"]) is None:
            raise Refused(
                f"{what}: the card's configuration {quoted(str(config['config_name']))} has data_files that are not of the "
                f"form which the datasets library reads; {by_hand}"
            )
    default = [
        name for name, config in configs.items() if len(configs) == 1 or name == "default" or config.get("default")
    ]
    told = card.get("dataset_info") or []
    infos = [str(info.get("config_name", "default")) for info in (told if isinstance(told, list) else [told])]
    chosen = default or (infos if len(set(infos)) == 1 and infos[0] in configs else [])
    if len(set(chosen)) != 1:
        why = f"several of them are default ({_shown(chosen)})" if chosen else "none of them is the default"
        raise Refused(
            f"{what} is a split of which configuration? The card has {_shown(list(configs))}, and {why}; {by_hand}"
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
    # A pattern may match nothing, a name may not (`datasets.data_files.DataFilesList.from_patterns`).
    paths = [path for of in below_it.values() for path in of]
    missing = [path for path in paths if not matching([path], names) and not re.search(r"[*?\[]", path)]
    if missing:
        raise Refused(
            f"{what}: the card's configuration {quoted(chosen[0])} names files that are not there ({_shown(missing)}); "
            f"{by_hand}"
        )
    return below_it


def _patterns(data_files: object) -> dict[str, list[str]] | None:
    """The patterns by split; None if the library takes no such value.

    It takes one pattern or a list of them (of train), or a list of splits with their patterns, each split once
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


_SPLIT = re.compile(r"^\w+(\.\w+)*$")
"""A split's name (`datasets.naming._split_re`)."""
