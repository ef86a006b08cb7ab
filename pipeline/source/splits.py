"""Assigns a dataset's files to the splits: by dataset.files, by the dataset's card, or by the names of the files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Refused, quoted
from pipeline.source.formats import SUFFIXES, format_of, remedy, suffix, unknown_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

READ_ORDER = ("test", "validation", "train")
"""The order in which splits are read. Held-out files come first, so that their dialogues are known and kept out of train."""

_SHOWN = 20

_ABOUT = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""JSON files that describe a dataset and hold no rows. The datasets library ignores the same ones
(`datasets.data_files.FILES_TO_IGNORE`), and its save_to_disk writes state.json."""

_CACHE = re.compile(r"cache-[0-9a-f]{16}(?:_\d{5}_of_\d{5})?\.arrow")
"""The caches that map and filter of datasets write beside the files of save_to_disk (`Dataset._get_cache_file_path`)."""

_TABLE = re.compile(r"(?:.*/)?(?:_delta_log/.*|metadata/[^/]*\.metadata\.json)")
"""The log of a Delta Lake table or of an Iceberg table. The log says which of the other files still count."""

_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}
"""The words for a split in the name of a file or folder (Hub documentation, "File names and splits")."""

_LETTER = r"[^\W\d_]"
_NAMED = {split: re.compile(f"(?<!{_LETTER})(?:{words})(?!{_LETTER})", re.I) for split, words in _KEYWORDS.items()}
_NUMBERED = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*")


class File(NamedTuple):
    """A file of the source.

    Attributes:
        name: the path below the source. Once an S3 object is assigned to a split, its whole key.
        bytes: the size in bytes.
        etag: S3's ETag, or the Hub's SHA-256 (of a large file) or git object id.
    """

    name: str
    bytes: int
    etag: str | None


class Assignment(NamedTuple):
    """The files that are read, and those that are not.

    Attributes:
        files: the files by split, in reading order.
        others: the names of files among the data files that are not data files.
        empty: the names of data files of 0 bytes. Spark writes such files for partitions without rows.
    """

    files: dict[str, list[File]]
    others: list[str]
    empty: list[str]


def assign(
    listed: Sequence[File], wanted: Mapping[str, str | None], card: Mapping[str, Sequence[str]] | None = None
) -> Assignment:
    """Assign the files of a folder or a repository to the splits.

    Args:
        listed: all files of the folder or repository.
        wanted: dataset.files.
        card: the patterns of the dataset card by the card's names for splits, if it has any.

    Raises:
        Refused: a file, pattern, folder or split does not exist, a file has another format, or a file is in two splits.
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
            matched = _choose(f"dataset.files.{split}", value, names, card)
        elif split == "train":
            matched = [name for name in names if name not in reader]
        else:
            continue
        data = [name for name in matched if is_read(name, value or "")]
        others.update(set(matched) - set(data))
        chosen[split] = [name for name in data if files[name].bytes]
        empty.update(set(data) - set(chosen[split]))
        if not chosen[split]:
            raise Refused(
                f"dataset.files.{split}: {_nothing(value, matched, data)}; {_there_is(names)}; data files are {SUFFIXES}"
            )
        if log := next(filter(_TABLE.fullmatch, chosen[split]), None):
            raise Refused(
                f"dataset.files.{split}: {quoted(log)} is the log of a Delta or Iceberg table, whose other files may hold "
                "deleted rows; write the table as Parquet or JSON Lines (Spark: df.write.parquet)"
            )
        for name in chosen[split]:
            if reader.setdefault(name, split) != split:
                raise Refused(
                    f"dataset.files: {reader[name]} and {split} would both read {quoted(name)}; give each split files of its "
                    "own"
                )
    assigned = {split: [files[name] for name in of] for split, of in chosen.items()}
    return Assignment(assigned, sorted(others), sorted(empty))


def _nothing(value: str | None, matched: Sequence[str], data: Sequence[str]) -> str:
    if data:
        which = "the files that it names" if value else "all remaining files"
        return f"{which} are empty (0 bytes): {', '.join(map(quoted, data[:_SHOWN]))}"
    line = f"{quoted(value)} has no data file" if value else "no data file remains for it"
    advice = next(filter(None, map(remedy, matched)), None)
    if not advice and any(not suffix(name) and not _hidden(name) for name in matched):
        advice = "add the suffix of the format to names without a suffix"
    return f"{line} ({advice})" if advice else line


def names_a_split(value: str) -> bool:
    """Return whether a value of dataset.files names one of the dataset's own splits, and not a file, pattern or folder."""
    return not re.search(r"[./*?\[]", value)


def is_read(name: str, asked: str = "") -> bool:
    """Return whether a file is data, by its suffix. As in the datasets library, a hidden file counts only if it is named.

    Args:
        name: the file's name.
        asked: the value of dataset.files that matched the file.
    """
    return format_of(name) is not None and (
        name == asked or (not _is_about(name.rsplit("/", 1)[-1]) and (not _hidden(name) or _hidden(asked)))
    )


def _is_about(base: str) -> bool:
    return base in _ABOUT or bool(_CACHE.fullmatch(base))


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _choose(field: str, value: str, names: Sequence[str], card: Mapping[str, Sequence[str]] | None) -> list[str]:
    """Return the names of the files that a value of dataset.files stands for."""
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
    """Return the names that equal a pattern, match one, or lie in a folder that ends in `/`, in their order."""
    found: set[str] = set()
    for pattern in patterns:
        # A name may hold characters that have a meaning in patterns.
        matches = _regex(pattern).fullmatch
        found |= {pattern} if pattern in names else {name for name in names if matches(name)}
    return [name for name in names if name in found]


def _regex(pattern: str) -> re.Pattern[str]:
    """Return a shell pattern as a regular expression for the whole path. `*`, `?` and `[...]` match no `/`, but `**` does."""
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern + "**" if pattern.endswith("/") else pattern)
    regex = ""
    for number, part in enumerate(parts):
        # re.split returns the texts between the separators at the even positions.
        if number % 2 and part[0] == "[":
            not_, inside = ("^", part[2:-1]) if part[1] == "!" else ("", part[1:-1])
            # Only the hyphen of a range has a meaning.
            inside = re.escape(inside).replace(r"\-", "-")
            regex += f"(?!/)[{not_}{inside}]"
        else:
            regex += translated.get(part) or re.escape(part)
    try:
        return re.compile(regex, re.DOTALL)
    except re.error as error:
        raise Refused(f"dataset.files: {quoted(pattern)} is not a valid pattern ({error}); correct it") from error


def by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the files by split, as their names say it: data/SPLIT-00000-of-00001, else words, first those of the folders."""
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
    """Return the names to choose from, in words: the data files, or all files if there are none."""
    shown = [name for name in names if is_read(name)] or names
    if not shown:
        return "the source has no files"
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"the source has {', '.join(map(quoted, shown[:_SHOWN]))}{more}"
