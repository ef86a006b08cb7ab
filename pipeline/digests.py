"""One digest of several files, as a reader of the Model Registry can compute it with `sha256sum`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def of_files(digests: Mapping[str, str]) -> str:
    """Return SHA-256 of the lines that `sha256sum` prints for the files, in the order of their names.

    Args:
        digests: the SHA-256 of each file in hexadecimal digits, by the file's name.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
