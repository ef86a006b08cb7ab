"""The training code that Plan copies for a run's job, and its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "training"
"""The training code. The package of the functions contains it."""


def files() -> dict[str, bytes]:
    """Return the files that the job gets, by their names."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in (".py", ".txt")}


def digest() -> str:
    """Return the digest of all files in hexadecimal digits."""
    return of_files({name: hashlib.sha256(content).hexdigest() for name, content in files().items()})


def of_files(digests: dict[str, str]) -> str:
    """Return one digest of several files: SHA-256 of the lines that `sha256sum` prints for them, in the order of their names.

    Args:
        digests: the SHA-256 of each file in hexadecimal digits, by the file's name.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
