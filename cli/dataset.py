"""The user's own dataset: the files to upload, their keys, and the part of an execution's input that names them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Refused
from pipeline.source.formats import SUFFIXES
from pipeline.source.splits import File, is_read

UPLOADS = "uploads/"
"""The folder of the stack's bucket for the user's own files."""

_DIGITS = 12
"""Hexadecimal digits of the digest in a key: enough that no two of a user's datasets share them."""


class LocalDataset(NamedTuple):
    """A dataset on this machine.

    Attributes:
        name: the file or folder, as the user named it.
        files: the files by the keys that they get. The keys hold a digest of all names and contents.
        input: the part of an execution's input that names them.
    """

    name: str
    files: dict[str, Path]
    input: dict[str, Any]

    @property
    def listed(self) -> list[File]:
        """The files as a listing of the bucket would have them, if they were there."""
        return [File(key, path.stat().st_size, None) for key, path in self.files.items()]


def local_dataset(path: Path) -> LocalDataset:
    """Return the dataset of a file or a folder.

    The rows of a folder go to the splits by the ratios of the settings, whatever the names of its files are.

    Raises:
        Refused: there is no such file or folder, or it holds no data.
    """
    name = _ascii(path.resolve().name)
    section: dict[str, Any] = {"revision": None, "gated": False}
    if path.is_dir():
        below = ((found.relative_to(path).as_posix(), found) for found in sorted(path.rglob("*")))
        names = {f"{name}/{place}": found for place, found in below if found.is_file() and is_read(place)}
        if not names:
            raise Refused(f"--dataset {path}: this folder has no data file; data files are {SUFFIXES}")
        section["files"] = dict.fromkeys(("train", "validation", "test"))
    elif not path.is_file():
        raise Refused(f"--dataset {path}: there is no such file or folder; name one; data files are {SUFFIXES}")
    elif not is_read(path.name, path.name):
        raise Refused(f"--dataset {path}: its name is not that of a data file; data files are {SUFFIXES}")
    else:
        names = {name: path}
    folder = f"{UPLOADS}{_digest(names)}/"
    section["source"] = f"{folder}{name}{'/' * path.is_dir()}"
    return LocalDataset(str(path), {folder + key: found for key, found in names.items()}, {"dataset": section})


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
