"""Reads `dataset.prompt`, the template that makes the user's text from several columns."""

from __future__ import annotations

import re

from pipeline.errors import quoted

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NO_NAME = re.compile(r"[.\[\]:!]|^\s|\s$|^$")
"""What Python's format strings read as an attribute, an index, a format or a conversion, and a name with blanks around it."""


def parse_template(template: str) -> tuple[list[str], list[str]]:
    """Return the texts of a template and the names of the columns between them, one name fewer than texts.

    `{{` and `}}` stand for braces.

    Raises:
        ValueError: the template has no name, a brace that stands alone, or something else than a plain name in braces.
    """
    texts, names, at = [""], [], 0
    for part in _PART.finditer(template):
        texts[-1] += template[at : part.start()]
        at = part.end()
        if part[1] is not None:
            if _NO_NAME.search(part[1]):
                raise ValueError(
                    f"{quoted(part[0])} is not the name of a column in braces; write a plain name such as {{question}}, "
                    "without formats, attributes or indexes"
                )
            names.append(part[1])
            texts.append("")
        elif len(part[0]) == 2:
            texts[-1] += part[0][0]
        else:
            raise ValueError(f"has a {quoted(part[0])} that stands alone; write {{{{ or }}}} for a brace in the text")
    if not names:
        raise ValueError("names no column; write the names of columns in braces, such as {question}")
    texts[-1] += template[at:]
    return texts, names
