"""The training code that Plan copies for a run's job, and its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline import digests

FOLDER = Path(__file__).resolve().parents[1] / "training"
"""The training code. The package of the functions contains it."""


def files() -> dict[str, bytes]:
    """Return the files that the job gets, by their names."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in (".py", ".txt")}


def digest() -> str:
    """Return the digest of all files in hexadecimal digits."""
    return digests.of_files({name: hashlib.sha256(content).hexdigest() for name, content in files().items()})
