"""Builds HTML in which every text is escaped.

A text becomes a part of the page only through `element`, which escapes it. Only `Markup` is taken as it is.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
VOID = {"meta", "rect", "line", "circle", "input"}
"""Elements without content. Those of SVG are closed at once."""


class Markup(str):
    """HTML whose texts are escaped already."""

    __slots__ = ()


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: the element's name.
        content: its texts, which are escaped, and its elements (`Markup`). None and False are left out.
        attributes: its attributes. A last underscore is left out (`class_`), and the others become hyphens. None and False
            are left out, and True is an attribute without a value.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return several texts and elements one after the other."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escaped(part)
            for part in parts
            if part is not None and part is not False
        )
    )


def escaped(text: object) -> str:
    """Return a text as HTML shows it. A character that HTML or UTF-8 cannot hold becomes U+FFFD."""
    readable = _CONTROL.sub("\ufffd", str(text).replace("\r\n", "\n"))
    return html.escape(readable.encode("utf-8", "replace").decode("utf-8"))


def data(value: Any) -> Markup:
    """Return a value as JSON for a script element. No text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def scrolling(label: str) -> dict[str, str]:
    """Return the attributes of an element that may scroll by itself: the keyboard reaches it, and a screen reader names it."""
    return {"tabindex": "0", "role": "group", "aria_label": label}


def table(
    label: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    class_: str | None = None,
) -> Markup:
    """Return a table that scrolls by itself where the screen is too narrow.

    Args:
        label: what it shows, for a screen reader.
        head: the head of each column.
        rows: the cells of each row.
        numbers: the columns with numbers, which stand on the right.
        class_: the table's class.
    """

    def cells(kind: str, row: Sequence[object]) -> Markup:
        return join(
            element(kind, cell, class_="number" if column in numbers else None) for column, cell in enumerate(row)
        )

    body = join(element("tr", cells("td", row)) for row in rows)
    head_row = element("thead", element("tr", cells("th", head)))
    shown = element("table", head_row, element("tbody", body), class_=class_)
    return element("div", shown, class_="scroll", **scrolling(label))


def code(text: object) -> Markup:
    """Return a short name or value in the type of a program."""
    return element("code", text)


def program(label: str, text: str) -> Markup:
    """Return a program or a command of several lines. `label` says what it does, for a screen reader."""
    return element("pre", element("code", text), **scrolling(label))
