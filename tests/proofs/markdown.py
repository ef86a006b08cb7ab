"""What the pages of the proofs are written with."""

from __future__ import annotations

import textwrap


def item(text: str) -> str:
    """Return a list's item, which begins with its indent and `- `, in lines of 120 characters."""
    indent = " " * (text.index("-") + 2)
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
