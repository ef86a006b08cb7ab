"""Which of a dataset's files belong to which split: by dataset.files, the dataset's card, or the names of the files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

READ_ORDER = ("test", "validation", "train")
"""Held-out files first, so that a dialogue of theirs is known, and kept out, when train is read."""

FORMATS = ".csv, .jsonl and .json, each also with .gz or .zst after it, and .parquet"
_FORMAT = re.compile(r".*\.(?:(?:csv|jsonl|json)(?:\.(?:gz|zst))?|parquet)", re.IGNORECASE | re.DOTALL)
_SHOWN = 20

_ABOUT = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
"""JSON about a dataset, not of it: the datasets library passes over the same (`datasets.data_files.FILES_TO_IGNORE`)."""

_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}
"""Words for a split in the name of a file or folder (Hub documentation, "File names and splits")."""
_LETTER = r"[^\W\d_]"
_NAMED = {split: re.compile(f"(?<!{_LETTER})(?:{words})(?!{_LETTER})", re.I) for split, words in _KEYWORDS.items()}
_NUMBERED = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*")


class File(NamedTuple):
    """A file of the source.

    Attributes:
        name: the path below the source; the whole key of an object in S3 once it is dealt.
        bytes: its size.
        etag: S3's ETag, or the Hub's SHA-256 (of a large file) or git object id.
    """

    name: str
    bytes: int
    etag: str | None


class Dealt(NamedTuple):
    """Files by split, in reading order, and the names that were met where data files were looked for, but are none."""

    files: dict[str, list[File]]
    others: list[str]


def deal(
    listed: Sequence[File], wanted: Mapping[str, str | None], card: Mapping[str, Sequence[str]] | None = None
) -> Dealt:
    """Deal the files of a folder or a repository to the splits.

    Args:
        listed: all its files.
        wanted: dataset.files.
        card: patterns of the dataset card by its own names for splits, if it has any.

    Raises:
        Refused: a file, pattern, folder or split that is not there, a file of another format, a file in two splits.
    """
    names = sorted(file.name for file in listed)
    chosen: dict[str, list[str]] = {}
    others: set[str] = set()
    reader: dict[str, str] = {}
    for split in READ_ORDER:
        value = wanted[split]
        if value is not None:
            met = _choose(f"dataset.files.{split}", value, names, card)
        elif split == "train":
            met = [name for name in names if name not in reader]
        else:
            continue
        chosen[split] = [name for name in met if is_read(name, value or "")]
        others.update(set(met) - set(chosen[split]))
        if not chosen[split]:
            what = f"'{value}' has no data file" if value else "no data file is left for it"
            raise Refused(f"dataset.files.{split}: {what}; {_there_is(names)}; data files are {FORMATS}")
        for name in chosen[split]:
            if reader.setdefault(name, split) != split:
                raise Refused(
                    f"dataset.files: {reader[name]} and {split} would both read '{name}'; give each split files of its own"
                )
    by_name = {file.name: file for file in listed}
    return Dealt({split: [by_name[name] for name in met] for split, met in chosen.items()}, sorted(others))


def is_read(name: str, asked: str = "") -> bool:
    """Whether a file is data: by its suffix; nothing hidden (as in the datasets library), unless it was `asked` for."""
    return bool(_FORMAT.fullmatch(name)) and (
        name == asked or (name.rsplit("/", 1)[-1] not in _ABOUT and (not _hidden(name) or _hidden(asked)))
    )


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _choose(field: str, value: str, names: Sequence[str], card: Mapping[str, Sequence[str]] | None) -> list[str]:
    """The names that a value of dataset.files stands for."""
    if not re.search(r"[./*?\[]", value):
        own = {split: _matching(patterns, names) for split, patterns in card.items()} if card else _by_name(names)
        if value not in own:
            has = f"its own are {', '.join(sorted(own)[:_SHOWN])}" if own else f"it has none; {_there_is(names)}"
            folder = f"; for the folder write '{value}/'" if any(name.startswith(f"{value}/") for name in names) else ""
            raise Refused(f"{field}: the dataset has no split '{value}'; {has}{folder}")
        return own[value]
    found = _matching([value], names)
    if not found:
        raise Refused(f"{field}: there is no file '{value}'; {_there_is(names)}")
    if value in names and not _FORMAT.fullmatch(value):
        raise Refused(f"{field}: '{value}' is of no format that is read; these are {FORMATS}")
    return found


def _matching(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that are one of the patterns, match one, or lie in a folder that ends in `/`, in their order."""
    found: set[str] = set()
    for pattern in patterns:
        # A name may hold the characters of patterns.
        matches = _regex(pattern).fullmatch
        found |= {pattern} if pattern in names else {name for name in names if matches(name)}
    return [name for name in names if name in found]


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern as shells have it, on the whole path: `*`, `?` and `[...]` do not cross a `/`, `**` does."""
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern + "**" if pattern.endswith("/") else pattern)
    regex = ""
    for number, part in enumerate(parts):
        # What stands between the separators is at the even places.
        if number % 2 and part[0] == "[":
            not_, inside = ("^", part[2:-1]) if part[1] == "!" else ("", part[1:-1])
            # All but the hyphen of a range is meant as it stands.
            inside = re.escape(inside).replace(r"\-", "-")
            regex += f"(?!/)[{not_}{inside}]"
        else:
            regex += translated.get(part) or re.escape(part)
    try:
        return re.compile(regex, re.DOTALL)
    except re.error as error:
        raise Refused(f"dataset.files: '{pattern}' is no pattern ({error})") from error


def _by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Splits by the names of files and folders: data/SPLIT-00000-of-00001, else words, those of the folders first."""
    found: dict[str, list[str]] = {}
    for name in names:
        if numbered := _NUMBERED.fullmatch(name):
            found.setdefault(numbered[1], []).append(name)
    if found:
        return found
    for name in names:
        folder, _, base = name.rpartition("/")
        words = _words(folder) or _words(base)
        for split in words if is_read(name) else ():
            found.setdefault(split, []).append(name)
    return found


def _words(text: str) -> list[str]:
    return [split for split, words in _NAMED.items() if words.search(text)]


def _there_is(names: Sequence[str]) -> str:
    """What there is to choose from: the data files, or whatever else."""
    shown = [name for name in names if is_read(name)] or names
    if not shown:
        return "the source has no files"
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"the source has {', '.join(shown[:_SHOWN])}{more}"
