"""The user's own dataset: the files to upload, their keys, and the part of an execution's input that names them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Refused, quoted
from pipeline.source.formats import SUFFIXES
from pipeline.source.splits import READ_ORDER, File, by_name, is_read

UPLOADS = "uploads/"
"""The folder of the stack's bucket for the user's own files."""

_DIGITS = 12
"""Hexadecimal digits of the digest in a key: enough that no two of a user's datasets share them."""

_SHOWN = 5
"""The files without a split that are named."""


class LocalDataset(NamedTuple):
    """A dataset on this machine.

    Attributes:
        name: the file or folder, as the user named it.
        files: the files by the keys that they get. The keys hold a digest of all names and contents.
        input: the part of an execution's input that names them.
        splits: what the names of a folder's files say about the splits. None if the rows go to the splits by ratios.
    """

    name: str
    files: dict[str, Path]
    input: dict[str, Any]
    splits: str | None = None

    @property
    def listed(self) -> list[File]:
        """The files as a listing of the bucket would have them, if they were there."""
        return [File(key, path.stat().st_size, None) for key, path in self.files.items()]

    def described(self, given: dict[str, Any]) -> str:
        """Return the name, and how the files go to the splits if their names say it and the execution's input keeps it."""
        kept = self.splits and given["dataset"].get("files") == self.input["dataset"]["files"]
        return f"{self.name} ({self.splits})" if kept else self.name


def local_dataset(path: Path) -> LocalDataset:
    """Return the dataset of a file or a folder.

    If the names of a folder's files say train and at least one other split, as the Hub reads them, the files go to these
    splits. Otherwise the ratios of the settings divide all rows.

    Raises:
        Refused: there is no such file or folder, or it holds no data.
    """
    name = _ascii(path.resolve().name)
    section: dict[str, Any] = {"revision": None, "gated": False}
    splits: str | None = None
    if path.is_dir():
        below = ((found.relative_to(path).as_posix(), found) for found in sorted(path.rglob("*")))
        names = {f"{name}/{place}": found for place, found in below if found.is_file() and is_read(place)}
        if not names:
            raise Refused(f"--dataset {path}: this folder has no data file; data files are {SUFFIXES}")
        section["files"], splits = _splits([place for place in names if names[place].stat().st_size], len(name) + 1)
    elif not path.is_file():
        raise Refused(f"--dataset {path}: there is no such file or folder; name one; data files are {SUFFIXES}")
    elif not is_read(path.name, path.name):
        raise Refused(f"--dataset {path}: its name is not that of a data file; data files are {SUFFIXES}")
    else:
        names = {name: path}
    folder = f"{UPLOADS}{_digest(names)}/"
    section["source"] = f"{folder}{name}{'/' * path.is_dir()}"
    return LocalDataset(str(path), {folder + key: found for key, found in names.items()}, {"dataset": section}, splits)


def _splits(keys: list[str], start: int) -> tuple[dict[str, str | None], str | None]:
    """Return dataset.files for the files of a folder, and in words what their names say. Names begin at `start` of the keys."""
    names = [key[start:] for key in keys]
    found = {split: files for split, files in by_name(names).items() if split in READ_ORDER}
    assigned = [name for files in found.values() for name in files]
    if "train" not in found or len(found) == 1 or len(set(assigned)) != len(assigned):
        return dict.fromkeys(READ_ORDER), None
    unread = sorted(set(names) - set(assigned))
    shown = ", ".join(map(quoted, unread[:_SHOWN])) + f" and {len(unread) - _SHOWN} more" * (len(unread) > _SHOWN)
    others = f"; not read, because they name no split: {shown}" if unread else ""
    files = {split: split if split in found else None for split in READ_ORDER}
    *first, last = (split for split in reversed(READ_ORDER) if split in found)
    return files, f"{', '.join(first)} and {last} by the names of its files{others}"


def columns(fields: str) -> dict[str, Any]:
    """Return the part of an execution's input that names the two columns, and says that the rows have this format.

    Args:
        fields: DIALOGUE:SUMMARY.

    Raises:
        Refused: the text has another form.
    """
    names = fields.split(":")
    if len(names) != 2 or not all(names):
        raise Refused(
            f"--fields {fields}: must be DIALOGUE:SUMMARY, the names of your two columns; if a name has a colon, use "
            "`tuneway run` with --set dataset.fields.dialogue=NAME and --set dataset.fields.summary=NAME"
        )
    fields_of_columns = {"dialogue": names[0], "summary": names[1]}
    return {"dataset": {"format": "columns", "fields": fields_of_columns, "prompt": None}}


def _ascii(name: str) -> str:
    """Return a name that every program can write: other characters become hyphens."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _digest(files: dict[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, path in files.items():
        with path.open("rb") as file:
            whole.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return whole.hexdigest()[:_DIGITS]
