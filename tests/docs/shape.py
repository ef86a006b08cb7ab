"""The shape of an output: the words that stay when ids, numbers and texts differ."""

from __future__ import annotations

import re

DRAWN = "│├└─┌┐┘┤┬┴┼━┏┓┗┛┃╇╍┡╈┩┳┠┨╭╮╰╯✓●✕· "
"""What a terminal draws around words."""

LABEL = re.compile(
    r"(ok|warning|failure)\s{2,}([a-z ]+?)(?=\s{2,})"
    r"|([A-Za-z][A-Za-z-]*(?: [a-z]+){0,3})(?=:|\s{2,}|\t)"
    r"|([A-Z][A-Za-z-]*(?: not [a-z]+)?)$"
)
"""The name of a check of doctor, the words before a colon or before two blanks, or a name alone in its line."""


def labels(output: str) -> set[str]:
    """Return the names of an output's lines: of checks, steps, rows of a table and results."""
    found = set()
    for line in output.splitlines():
        match = LABEL.match(line.lstrip(DRAWN)) if not line.startswith("  ") else None
        if match:
            # "Verdict not served" is the row Verdict.
            found.add((match[2] or match[3] or match[4]).partition(" not ")[0])
    return found
