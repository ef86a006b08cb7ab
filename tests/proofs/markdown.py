"""Markdown for the pages of the proofs."""

from __future__ import annotations

import textwrap


def item(text: str) -> str:
    """Return an item of a list in lines of at most 120 characters. `text` begins with its indent and `- `."""
    indent = " " * (text.index("-") + 2)
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
