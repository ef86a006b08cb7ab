"""Which of a dataset's files belong to which split: by dataset.files, the dataset's card, or the names of the files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Refused, quoted
from pipeline.source.formats import SUFFIXES, format_of, remedy, suffix, unknown_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

READ_ORDER = ("test", "validation", "train")
"""Held-out files first, so that a dialogue of theirs is known, and kept out, when train is read."""

_SHOWN = 20

_ABOUT = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""JSON about a dataset, not of it: the datasets library passes over the same (`datasets.data_files.FILES_TO_IGNORE`), and its
save_to_disk writes state.json."""
_CACHE = re.compile(r"cache-[0-9a-f]{16}(?:_\d{5}_of_\d{5})?\.arrow")
"""What datasets' map and filter leave beside the files of save_to_disk (`Dataset._get_cache_file_path`)."""

_TABLE = re.compile(r"(?:.*/)?(?:_delta_log/.*|metadata/[^/]*\.metadata\.json)")
"""The log of a Delta Lake table, and that of an Iceberg table: it says which of the other files still count."""

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
    """Which files are read.

    Attributes:
        files: by split, in reading order.
        others: names that were met where data files were looked for, but are none.
        empty: names of data files of 0 bytes, as Spark writes them for a partition without rows.
    """

    files: dict[str, list[File]]
    others: list[str]
    empty: list[str]


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
    files = {file.name: file for file in listed}
    names = sorted(files)
    chosen: dict[str, list[str]] = {}
    others: set[str] = set()
    empty: set[str] = set()
    reader: dict[str, str] = {}
    for split in READ_ORDER:
        value = wanted[split]
        if value is not None:
            met = _choose(f"dataset.files.{split}", value, names, card)
        elif split == "train":
            met = [name for name in names if name not in reader]
        else:
            continue
        data = [name for name in met if is_read(name, value or "")]
        others.update(set(met) - set(data))
        chosen[split] = [name for name in data if files[name].bytes]
        empty.update(set(data) - set(chosen[split]))
        if not chosen[split]:
            raise Refused(
                f"dataset.files.{split}: {_nothing(value, met, data)}; {_there_is(names)}; data files are {SUFFIXES}"
            )
        if log := next(filter(_TABLE.fullmatch, chosen[split]), None):
            raise Refused(
                f"dataset.files.{split}: {quoted(log)} is the log of a Delta or Iceberg table, whose other files may hold rows "
                "that were deleted since; write the table as Parquet or JSON Lines (Spark: df.write.parquet)"
            )
        for name in chosen[split]:
            if reader.setdefault(name, split) != split:
                raise Refused(
                    f"dataset.files: {reader[name]} and {split} would both read {quoted(name)}; give each split files of its "
                    "own"
                )
    dealt = {split: [files[name] for name in of] for split, of in chosen.items()}
    return Dealt(dealt, sorted(others), sorted(empty))


def _nothing(value: str | None, met: Sequence[str], data: Sequence[str]) -> str:
    if data:
        what = "what it names" if value else "all that is left for it"
        return f"{what} is empty (0 bytes): {', '.join(map(quoted, data[:_SHOWN]))}"
    what = f"{quoted(value)} has no data file" if value else "no data file is left for it"
    advice = next(filter(None, map(remedy, met)), None)
    if not advice and any(not suffix(name) and not _hidden(name) for name in met):
        advice = "give names without a suffix that of their format"
    return f"{what} ({advice})" if advice else what


def names_a_split(value: str) -> bool:
    """Whether a value of dataset.files is the name of one of the dataset's own splits, and no file, pattern or folder."""
    return not re.search(r"[./*?\[]", value)


def is_read(name: str, asked: str = "") -> bool:
    """Whether a file is data: by its suffix; nothing hidden (as in the datasets library), unless it was `asked` for."""
    return format_of(name) is not None and (
        name == asked or (not _is_about(name.rsplit("/", 1)[-1]) and (not _hidden(name) or _hidden(asked)))
    )


def _is_about(base: str) -> bool:
    return base in _ABOUT or bool(_CACHE.fullmatch(base))


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _choose(field: str, value: str, names: Sequence[str], card: Mapping[str, Sequence[str]] | None) -> list[str]:
    """The names that a value of dataset.files stands for."""
    if names_a_split(value):
        own = {split: matching(patterns, names) for split, patterns in card.items()} if card else by_name(names)
        if value not in own:
            has = f"its own are {', '.join(sorted(own)[:_SHOWN])}" if own else f"it has none; {_there_is(names)}"
            folder = (
                f"; for the folder write {quoted(value + '/')}"
                if any(name.startswith(f"{value}/") for name in names)
                else ""
            )
            raise Refused(f"{field}: the dataset has no split {quoted(value)}; {has}{folder}")
        return own[value]
    found = matching([value], names)
    if not found:
        raise Refused(f"{field}: there is no file {quoted(value)}; {_there_is(names)}")
    if value in names and not format_of(value):
        raise unknown_format(field, value)
    return found


def matching(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
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
        raise Refused(f"dataset.files: {quoted(pattern)} is no pattern ({error}); correct it") from error


def by_name(names: Sequence[str]) -> dict[str, list[str]]:
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
    return f"the source has {', '.join(map(quoted, shown[:_SHOWN]))}{more}"
